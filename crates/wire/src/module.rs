//! Programs and libraries that frames of stacks lie in, as agents met them; and frames that do not
//! depend on where a process had them.
//!
//! # States of an entry, and who may write what when
//! `FREE` -> `WRITING` by an agent's compare-and-swap; it fills the entry -> `READY` (Release,
//! pairs with the Acquire of whoever reads it). Nothing changes afterwards. An agent that is killed
//! while writing leaves the entry unusable for ever, and no more.

use crate::layout::{MODULE_STATE, MODULES};
use crate::object::{Identity, is_same, read_identity, write_identity};
use crate::segment::Segment;
use core::sync::atomic::Ordering;

const FREE: u32 = 0;
const WRITING: u32 = 1;
const READY: u32 = 2;

/// A frame of a stack in one word: a module's number and an address in its file, whatever the
/// process. The lowest 48 bits are the address; the next 15 are the module's index plus 1, or 0 for
/// an address that is in no module and means something in its process only; the highest says that
/// the address is not a return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame(pub u64);

const EXACT: u64 = 1 << 63;
const ADDRESS: u64 = (1 << 48) - 1;
const MODULE_SHIFT: u32 = 48;
/// Module number of a frame that is none: it says why a stack ends before its thread's start.
const CUT: u64 = 0x7fff;

impl Frame {
    /// What to add to an address in the file of the module at `index`.
    pub fn tag(index: usize) -> u64 {
        (index as u64 + 1) << MODULE_SHIFT
    }

    /// A frame whose address is not a return address.
    pub fn exact(word: u64) -> Self {
        Self(word | EXACT)
    }

    /// The mark at the end of a stack that is not whole, with a reason.
    pub fn cut(reason: u8) -> Self {
        Self(EXACT | CUT << MODULE_SHIFT | u64::from(reason))
    }

    /// The reason, if it is such a mark.
    pub fn reason(self) -> Option<u8> {
        (self.0 >> MODULE_SHIFT == EXACT >> MODULE_SHIFT | CUT).then_some(self.0 as u8)
    }

    /// Whether the address is a return address: the call is in front of it.
    pub fn returns(self) -> bool {
        self.0 & EXACT == 0
    }

    /// The address in the module's file, or in the process if there is no module.
    pub fn address(self) -> u64 {
        self.0 & ADDRESS
    }

    /// Index of the module.
    pub fn module(self) -> Option<usize> {
        ((self.0 & !EXACT) >> MODULE_SHIFT).checked_sub(1).map(|n| n as usize)
    }
}

impl Segment {
    /// For an agent: the index of the module that is this file, added if nobody has. `None`: the
    /// table is full, or a segment without stacks.
    ///
    /// # Context
    /// Does not allocate, makes no system call.
    pub fn module_of(&self, identity: &Identity) -> Option<usize> {
        self.stacks()?;
        for index in 0..MODULES {
            let at = self.layout.module(index)?;
            let state = self.fixed.u32(at + MODULE_STATE)?;
            // Acquire pairs with the Release below.
            match state.compare_exchange(FREE, WRITING, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => {
                    write_identity(&self.fixed, at, identity);
                    state.store(READY, Ordering::Release);
                    return Some(index);
                }
                // Two agents may add the same file at once; it then has two numbers.
                Err(READY) if is_same(&self.fixed, at, identity) => return Some(index),
                Err(_) => {}
            }
        }
        None
    }

    /// The module at `index`. Allocates.
    pub fn module(&self, index: usize) -> Option<Identity> {
        self.stacks()?;
        let at = self.layout.module(index)?;
        // Acquire pairs with the Release in `module_of`.
        (self.fixed.u32(at + MODULE_STATE)?.load(Ordering::Acquire) == READY)
            .then(|| read_identity(&self.fixed, at))
    }

    /// All modules that there are, with their indices: an entry whose writer was killed is none,
    /// and those behind it are there. Allocates.
    pub fn modules(&self) -> impl Iterator<Item = (usize, Identity)> {
        (0..MODULES).filter_map(|index| Some((index, self.module(index)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::Frame;

    #[test]
    fn frames_say_what_they_are() {
        let call = Frame(Frame::tag(3) + 0x1234);
        assert_eq!(
            (call.module(), call.address(), call.returns(), call.reason()),
            (Some(3), 0x1234, true, None)
        );
        let exact = Frame((Frame::tag(0x7ffd) + 0x1234) | 1 << 63);
        assert_eq!(
            (exact.module(), exact.address(), exact.returns(), exact.reason()),
            (Some(0x7ffd), 0x1234, false, None)
        );
        let nowhere = Frame(0x7f12_3456_789a);
        assert_eq!(
            (nowhere.module(), nowhere.address(), nowhere.reason()),
            (None, 0x7f12_3456_789a, None)
        );
        assert_eq!(Frame::cut(5).reason(), Some(5));
    }
}
