//! Signals as the headers of C libraries have them: what a program gives to its `sigaction` and its
//! `sigprocmask`. glibc and musl agree on x86-64.

use crate::kernel::Mask;

/// `sigset_t`: likewise.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SignalSet {
    /// The kernel's: signal n is bit n - 1.
    pub(crate) signals: Mask,
    /// For more signals than there are.
    room: [u64; 15],
}

/// `struct sigaction`: a pointer to the one of the crate `libc` can be cast to this.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SignalAction {
    /// Address of the handler, or 0 (default), or 1 (ignored).
    pub(crate) handler: usize,
    /// What is blocked meanwhile.
    pub(crate) mask: SignalSet,
    /// `SA_*`.
    pub(crate) flags: i32,
    /// Where the handler returns to: the C library's business.
    restorer: usize,
}

impl SignalSet {
    /// With these in it.
    pub(crate) const fn of(signals: Mask) -> Self {
        Self { signals, room: [0; 15] }
    }
}

impl SignalAction {
    /// What the kernel does by itself.
    pub(crate) const DEFAULT: Self = Self::new(0, 0, 0);

    /// What the kernel has.
    #[cfg(not(feature = "std"))]
    pub(crate) const fn of_kernel(action: &sys::signal::Action) -> Self {
        let sys::signal::Action { handler, flags, restorer, mask } = *action;
        Self { restorer, ..Self::new(handler, flags as i32, mask.0) }
    }

    /// The handler's way back, if it came with one.
    #[cfg(not(feature = "std"))]
    pub(crate) const fn restorer_or(&self, other: usize) -> usize {
        if self.restorer == 0 { other } else { self.restorer }
    }

    /// What is to be done; `mask` is blocked meanwhile.
    pub(crate) const fn new(handler: usize, flags: i32, mask: Mask) -> Self {
        Self { handler, mask: SignalSet::of(mask), flags, restorer: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::{SignalAction, SignalSet};
    use core::mem::offset_of;
    use libc::{sigaction, sigset_t};

    #[test]
    fn as_the_c_library_has_them() {
        assert_eq!(size_of::<SignalSet>(), size_of::<sigset_t>());
        assert_eq!(align_of::<SignalSet>(), align_of::<sigset_t>());
        assert_eq!(size_of::<SignalAction>(), size_of::<sigaction>());
        assert_eq!(align_of::<SignalAction>(), align_of::<sigaction>());
        let ours = [
            offset_of!(SignalAction, handler),
            offset_of!(SignalAction, mask),
            offset_of!(SignalAction, flags),
            offset_of!(SignalAction, restorer),
        ];
        let theirs = [
            offset_of!(sigaction, sa_sigaction),
            offset_of!(sigaction, sa_mask),
            offset_of!(sigaction, sa_flags),
            offset_of!(sigaction, sa_restorer),
        ];
        assert_eq!(ours, theirs);
    }
}
