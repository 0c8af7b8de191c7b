//! Functions that specs mean where the compiler has inlined them: no probe is there.

use crate::model::outside::Inlined;
use crate::spec::Reading;
use crate::symbols::debug_entries::Name;
use crate::symbols::inlined;
use crate::symbols::object::Object;

/// Bytes of debug information that are searched, of all objects together.
pub(crate) const MOST_INFORMATION: usize = 64 << 20;

/// Where functions that one of `readings` means are inlined in `object`. Reads debug information
/// for as long as there is `room` for it (bytes), and takes that from `room`: 0 afterwards means
/// that some was left out.
pub(crate) fn find(readings: &[&Reading], object: &Object, room: &mut usize) -> Vec<Inlined> {
    let found = inlined::inlined(object, room, |name| {
        readings.iter().any(|reading| match name {
            Name::Linker(raw) => reading.function.means(raw),
            Name::Source(name) => reading.function.means_in_source(name),
        })
    });
    let inlined = |(name, at): (String, inlined::Inlined)| Inlined {
        object: object.name().to_string(),
        name,
        places: at.places as u64,
        within: at.within.into_iter().collect(),
    };
    found.into_iter().map(inlined).collect()
}
