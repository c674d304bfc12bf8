//! What the endpoints of one slice have in common, and what a slice holds.

use std::{net::IpAddr, sync::Arc};

use crate::input::{NsName, PodUid};

/// The ports of a slice.
#[derive(Debug, PartialEq, Eq)]
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
    /// By address.
    pub endpoints: Box<[(IpAddr, Owner)]>,
}

/// The pod behind an endpoint.
pub(super) type Owner = Option<Arc<(PodUid, String)>>;

pub(super) fn uid(owner: &Owner) -> Option<&PodUid> {
    owner.as_deref().map(|(uid, _)| uid)
}
