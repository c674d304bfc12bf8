//! Maps of the kernel half that the daemon fills: each is a set or a table of keys with a number.

use std::marker::PhantomData;

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError as AyaError},
};
use nix::libc;
use zdt_common::{Addr, Endpoint, Service};

use super::load::{LoadError, chain};

/// A change of a map that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot change the map {map}: {reason}; it has room for {room} entries")]
pub struct MapError {
    map: &'static str,
    reason: String,
    room: u32,
}

/// A key as its bytes.
pub(super) trait Key: Copy {
    type Bytes: aya::Pod;
    fn bytes(self) -> Self::Bytes;
}

macro_rules! key {
    ($($type:ident),*) => {
        $(impl Key for $type {
            type Bytes = [u8; size_of::<$type>()];

            fn bytes(self) -> Self::Bytes {
                zerocopy::transmute!(self)
            }
        })*
    };
}

key!(Addr, Endpoint, Service);

/// One map of the object, by the type of its keys.
pub(super) struct Map<K: Key> {
    name: &'static str,
    entries: HashMap<MapData, K::Bytes, u32>,
    room: u32,
    _keys: PhantomData<K>,
}

impl<K: Key> Map<K> {
    /// Takes the map out of the object.
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, LoadError> {
        let bad = |reason| LoadError::Map { name, reason };
        let map = ebpf
            .take_map(name)
            .ok_or_else(|| bad("it is not there".to_owned()))?;
        let room = match &map {
            aya::maps::Map::HashMap(map) => map.info().map_or(0, |info| info.max_entries()),
            _ => 0,
        };
        let entries = HashMap::try_from(map).map_err(|e| bad(chain(&e)))?;
        Ok(Self {
            name,
            room,
            entries,
            _keys: PhantomData,
        })
    }

    pub(super) fn insert(&mut self, key: K, value: u32) -> Result<(), MapError> {
        let inserted = self.entries.insert(key.bytes(), value, 0);
        inserted.map_err(|e| self.error(&e))
    }

    /// A key that is not there is no error.
    pub(super) fn remove(&mut self, key: K) -> Result<(), MapError> {
        match self.entries.remove(&key.bytes()) {
            Err(AyaError::KeyNotFound | AyaError::ElementNotFound) | Ok(()) => Ok(()),
            Err(AyaError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(e) => Err(self.error(&e)),
        }
    }

    fn error(&self, error: &AyaError) -> MapError {
        MapError {
            map: self.name,
            reason: chain(error),
            room: self.room,
        }
    }
}

/// The ports that serve, as bits.
pub(super) struct Ports {
    words: Array<MapData, u64>,
    /// What they hold.
    known: Vec<u64>,
}

impl Ports {
    const NAME: &'static str = "PORTS";

    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let bad = |reason| LoadError::Map {
            name: Self::NAME,
            reason,
        };
        let map = ebpf
            .take_map(Self::NAME)
            .ok_or_else(|| bad("it is not there".to_owned()))?;
        let words = Array::try_from(map).map_err(|e| bad(chain(&e)))?;
        let known = vec![0; words.len() as usize];
        Ok(Self { words, known })
    }

    /// Says that a port serves, and says it for good: one that does no longer costs a look into the table of endpoints.
    pub(super) fn insert(&mut self, port: u16) -> Result<(), MapError> {
        let n = u32::from(port / 64);
        let room = self.words.len();
        let Some(word) = self.known.get_mut(n as usize) else {
            return Ok(());
        };
        let with = *word | 1 << (port % 64);
        if with != *word {
            self.words.set(n, with, 0).map_err(|e| MapError {
                map: Self::NAME,
                reason: chain(&e),
                room,
            })?;
            *word = with;
        }
        Ok(())
    }
}
