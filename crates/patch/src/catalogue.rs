//! The decisions about many functions of one object.

use crate::codec::{self, Decision, Malformed, Reader, Writer};
use alloc::vec::Vec;

/// Decisions being put together: functions by the addresses that their file has.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    bytes: Vec<u8>,
}

impl Catalogue {
    /// Adds what was decided for the instruction `site` bytes into the function at `address`, with
    /// the file's addresses.
    pub fn add(&mut self, address: u64, site: u32, decision: &Decision) {
        let mut one = Vec::with_capacity(64);
        codec::encode(decision, 0, &mut one);
        let mut w = Writer { site: 0, out: &mut self.bytes };
        w.number(address);
        w.number(site.into());
        w.bytes(&one);
    }

    /// All that was added.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Decisions to look up.
#[derive(Clone, Debug, Default)]
pub struct Decisions<'b> {
    /// By function and site.
    all: Vec<((u64, u32), &'b [u8])>,
}

impl<'b> Decisions<'b> {
    /// Reads the bytes of a [`Catalogue`], as far as they are one.
    ///
    /// Context: allocates.
    pub fn read(bytes: &'b [u8]) -> Self {
        let mut r = Reader { site: 0, bytes, at: 0 };
        let mut all: Vec<_> = core::iter::from_fn(|| one(&mut r).ok()).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        Self { all }
    }

    /// What was decided for the instruction `site` bytes into the function that its file has at
    /// `address`, for an object whose addresses count from `base`. None: nothing that can be read.
    ///
    /// Context: allocates.
    pub fn find(&self, address: u64, site: u32, base: u64) -> Option<Decision> {
        let at = self.all.binary_search_by_key(&(address, site), |(key, _)| *key).ok()?;
        codec::decode(self.all.get(at)?.1, base).ok().map(|(decision, _)| decision)
    }
}

fn one<'b>(r: &mut Reader<'b>) -> Result<((u64, u32), &'b [u8]), Malformed> {
    let address = r.number()?;
    let site = u32::try_from(r.number()?).map_err(|_| Malformed)?;
    let len = r.number()?;
    Ok(((address, site), r.take(len)?))
}
