//! The way back from a signal handler: the kernel's own, in its vDSO.

/// No restorer is named.
pub(crate) const FLAG: u64 = 0;

/// Never called: see [`FLAG`].
pub(crate) extern "C" fn restorer() -> ! {
    unreachable!("the kernel was given no restorer")
}
