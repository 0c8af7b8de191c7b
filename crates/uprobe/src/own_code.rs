//! Code of the engine or its user in the middle of the program: signals wait, hits are passed over.

use crate::arch::x86_64::tls;
use crate::arch::x86_64::vectors::with_all_vectors_and_stack_elsewhere;
use crate::thread_state::{Busy, set_busy};
use crate::{host, kernel};

/// [`own_code`] with all vector registers saved around it: for code of any kind in the middle of a
/// consumer that promised [`Vectors::Sse`](crate::Vectors::Sse).
///
/// # Context
/// As [`own_code`]. On another stack where a place is free: the thread may be on one that is small.
/// Otherwise 2 KiB, and what `f` needs.
#[cold]
#[inline(never)]
pub fn slowly(f: &mut dyn FnMut()) {
    let mut f = f;
    own_code_in_place(&mut || with_all_vectors_and_stack_elsewhere(&mut f));
}

/// Runs `f` with all signals blocked; hits meanwhile are its own doing, not the program's, and are
/// passed over in silence. For the engine's user, when it runs in the middle of the program.
///
/// # Context
/// Two system calls. Not to be left by unwinding or `longjmp`.
pub fn own_code<R>(f: impl FnOnce() -> R) -> R {
    let mut f = Some(f);
    let mut result = None;
    own_code_in_place(&mut || result = f.take().map(|f| f()));
    result.expect("it was called")
}

fn own_code_in_place(f: &mut dyn FnMut()) {
    let mask = kernel::block_signals();
    let (state, busy) = (tls::get::<{ tls::STATE }>(), tls::get::<{ tls::BUSY }>());
    set_busy(Busy::Own);
    tls::set::<{ tls::STATE }>(0);
    // The program may be between a call and its look at `errno`.
    host::keeping_errno(f);
    tls::set::<{ tls::STATE }>(state);
    tls::set::<{ tls::BUSY }>(busy);
    kernel::restore_signals(mask);
}
