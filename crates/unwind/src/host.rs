//! What a walk needs of the program that it is in, and what it tells.

use core::ops::Range;

/// Set in a frame, and in what the cache is asked for: the instruction at the address is meant, not
/// the call in front of it.
pub const EXACT: u64 = 1 << 63;

/// What a walk needs of the program that it is in.
pub trait Host {
    /// The address that a return address stands for, if return probes have replaced it. `read` is
    /// to be told of each word that decides that: its address and contents. Such words have to stay
    /// readable as long as the process lives.
    fn original(&self, address: u64, read: &mut dyn FnMut(u64, u64)) -> Option<u64>;

    /// Runs code that may use any register and call the C library, with signals blocked. Walks come
    /// here for each address that they see for the first time.
    fn slowly(&self, f: &mut dyn FnMut());

    /// The calling thread's own stack, if it is known: from any frame on it to its end it is mapped
    /// as long as the thread lives. Asked for where the system cannot be
    /// ([`Unwinder::seal`](crate::Unwinder::seal)).
    fn own_stack(&self) -> Option<Range<u64>> {
        None
    }
}

/// Is told of everything that decides how a walk goes: as long as the words in memory, the start
/// and [`Unwinder::generation`](crate::Unwinder::generation) are the same, so is the stack. The
/// frame pointer belongs to the start only if it was used before another one was found in memory.
pub trait Trace {
    /// How the walk goes depends on `word` at `address`.
    fn read(&mut self, address: u64, word: u64);

    /// The same for a word that is not on a stack, but the host's ([`Host::original`]).
    fn read_of_host(&mut self, address: u64, word: u64);

    /// It depends on the frame pointer at the start.
    fn uses_start_bp(&mut self);
}

/// Does not care.
#[derive(Debug)]
pub struct NoTrace;

impl Trace for NoTrace {
    #[inline(always)]
    fn read(&mut self, _: u64, _: u64) {}

    #[inline(always)]
    fn read_of_host(&mut self, _: u64, _: u64) {}

    #[inline(always)]
    fn uses_start_bp(&mut self) {}
}
