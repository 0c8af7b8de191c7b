//! The relocated instructions, and how their addresses and the original ones correspond.

use alloc::vec::Vec;

/// What [`Detour::emit_body`](crate::Detour::emit_body) or
/// [`Breakpoint::emit_slot`](crate::Breakpoint::emit_slot) appended. Offsets count from the first
/// byte appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// All bytes, constants behind the code included.
    pub size: u32,
    /// One for every instruction of the relocated code, the jump back included, ascending by
    /// offset. Bytes from the last one's end to `size` are constants and padding.
    pub steps: Vec<Step>,
}

/// One instruction of the relocated code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it is in the body.
    pub offset: u32,
    /// Its bytes.
    pub len: u16,
    /// True at the first instruction of an expansion: a thread at `original` may go on here.
    pub start: bool,
    /// What to add to rsp to get the original one back.
    pub sp: i8,
    /// A thread that is about to execute this step is, after `sp` was added to rsp, in the state of
    /// a thread that is about to execute the original instruction at this address.
    pub original: u64,
}

/// A state in which the application may see a thread that is in relocated code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The instruction pointer to show.
    pub ip: u64,
    /// What to add to rsp. Everything else is as it is.
    pub sp: i64,
}

impl Body {
    /// How to show a thread whose ip is `offset` bytes into the body, where a thread is stopped
    /// only between instructions (a fault leaves the ip at the faulting one). `None` behind the
    /// code.
    ///
    /// Context: signal-safe, does not allocate.
    pub fn present(&self, offset: u32) -> Option<Presented> {
        let after = self.steps.partition_point(|s| s.offset <= offset);
        let step = self.steps[..after].last()?;
        (offset < step.offset + u32::from(step.len))
            .then_some(Presented { ip: step.original, sp: i64::from(step.sp) })
    }

    /// Where in the body a thread goes on that was about to execute the original instruction at
    /// `original`. The end of the window is one such: there the jump back is.
    ///
    /// Context: signal-safe, does not allocate.
    pub fn relocated(&self, original: u64) -> Option<u32> {
        self.steps.iter().find(|s| s.start && s.original == original).map(|s| s.offset)
    }
}
