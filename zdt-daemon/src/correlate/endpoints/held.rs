//! What the endpoints of one slice have in common, and what a slice holds.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use crate::input::{NsName, PodUid};

/// The ports of a slice.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ports {
    pub numbers: Vec<u16>,
    /// In the same order: a service's port goes to the endpoints' port of the same name.
    pub names: Vec<String>,
}

/// One slice.
#[derive(Debug)]
pub(super) struct Held {
    pub service: Arc<NsName>,
    pub ports: Arc<Ports>,
    pub endpoints: HeldEndpoints,
}

/// By address, in the order in which the slice has them. A slice is of one family (discovery/v1, addressType).
#[derive(Debug)]
pub(super) enum HeldEndpoints {
    V4(Box<[(Ipv4Addr, Owner)]>),
    Any(Box<[(IpAddr, Owner)]>),
}

impl From<Vec<(IpAddr, Owner)>> for HeldEndpoints {
    fn from(all: Vec<(IpAddr, Owner)>) -> Self {
        let v4 = |(ip, owner): &(IpAddr, Owner)| match ip {
            IpAddr::V4(ip) => Some((*ip, owner.clone())),
            IpAddr::V6(_) => None,
        };
        match all.iter().map(v4).collect() {
            Some(all) => Self::V4(all),
            None => Self::Any(all.into()),
        }
    }
}

impl HeldEndpoints {
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Owner)> {
        let (v4, any) = match self {
            Self::V4(all) => (&**all, &[][..]),
            Self::Any(all) => (&[][..], &**all),
        };
        let v4 = v4.iter().map(|(ip, owner)| (IpAddr::V4(*ip), owner));
        v4.chain(any.iter().map(|(ip, owner)| (*ip, owner)))
    }
}

/// The pod behind an endpoint.
pub(super) type Owner = Option<Arc<(PodUid, String)>>;

pub(super) fn uid(owner: &Owner) -> Option<&PodUid> {
    owner.as_deref().map(|(uid, _)| uid)
}
