//! Objects that were looked through for functions to be probed, as long as they are loaded.

use crate::objects::{self, Object};
use alloc::vec::Vec;
use core::ops::Range;
use percpu::Mutex;

/// An object, as it was loaded.
struct Known {
    dev: u64,
    ino: u64,
    bias: u64,
    range: Range<u64>,
}

impl Known {
    fn is(&self, object: &Object) -> bool {
        (self.dev, self.ino, self.bias) == (object.file.dev, object.file.ino, object.bias)
    }
}

static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());

/// Whether something is loaded that was not looked through, or something is gone that was. Where
/// that cannot be known, it is.
///
/// # Context
/// Allocates, makes system calls; waits for nobody.
pub(crate) fn has_changed() -> bool {
    let Some(known) = KNOWN.try_lock() else { return true };
    let Some(mut now) = objects::loaded() else { return true };
    now.retain(Object::open_to_probes);
    now.len() != known.len() || now.iter().any(|object| !known.iter().any(|k| k.is(object)))
}

/// Takes these objects for looked through: which of them were not before. `gone` hears of those
/// that are not loaded any more, by where they were.
///
/// # Context
/// Allocates.
pub(crate) fn update(objects: &[Object], mut gone: impl FnMut(Range<u64>)) -> Vec<&Object> {
    let mut known = KNOWN.lock();
    known.retain(|k| {
        let stays = objects.iter().any(|object| k.is(object));
        if !stays {
            gone(k.range.clone());
        }
        stays
    });
    let is_new = |object: &&Object| object.open_to_probes() && !known.iter().any(|k| k.is(object));
    let new: Vec<&Object> = objects.iter().filter(is_new).collect();
    known.extend(new.iter().map(|object| Known {
        dev: object.file.dev,
        ino: object.file.ino,
        bias: object.bias,
        range: object.module.range.clone(),
    }));
    new
}

/// Takes nothing for looked through.
pub(crate) fn forget() {
    KNOWN.lock().clear();
}
