//! Whose area the threads of this process have.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// None that is registered.
    Off = 1,
    /// The C library's.
    Library,
    /// Our own.
    Own,
}
