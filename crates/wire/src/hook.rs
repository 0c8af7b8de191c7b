//! Functions of the program's that an image probes for itself: by them it hears of libraries and of
//! programs that are executed, and asks the command line what to do ([`crate::What`]); and it sees
//! to it that breakpoints can trap.

/// Called by the dynamic loader whenever its list of objects has changed, for debuggers. It is
/// empty.
pub const LOADED: usize = 0;
/// Executes the program at a path.
pub const EXECVE: usize = 1;
/// Executes the program at a path from a directory on, or that of a descriptor.
pub const EXECVEAT: usize = 2;
/// Executes the program of a descriptor.
pub const FEXECVE: usize = 3;

/// Sets what is done at a signal.
pub const SIGACTION: usize = 4;
/// Blocks signals.
pub const SIGPROCMASK: usize = 5;
/// Blocks signals, too.
pub const PTHREAD_SIGMASK: usize = 6;
/// Tells of signals that wait.
pub const SIGPENDING: usize = 7;
/// Starts a thread, which inherits what is blocked.
pub const PTHREAD_CREATE: usize = 8;

/// Their names, by those numbers.
pub const ALL: [&str; 9] = [
    "_dl_debug_state",
    "execve",
    "execveat",
    "fexecve",
    "sigaction",
    "sigprocmask",
    "pthread_sigmask",
    "sigpending",
    "pthread_create",
];

/// Whether the one with this number is about signals.
pub fn is_of_signals(which: usize) -> bool {
    which >= SIGACTION
}
