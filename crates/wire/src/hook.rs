//! Functions of the program's that an image probes for itself: by them it hears of libraries and of
//! programs that are executed, and asks the command line what to do ([`crate::What`]).

/// Called by the dynamic loader whenever its list of objects has changed, for debuggers. It is
/// empty.
pub const LOADED: usize = 0;
/// Executes the program at a path.
pub const EXECVE: usize = 1;
/// Executes the program at a path from a directory on, or that of a descriptor.
pub const EXECVEAT: usize = 2;
/// Executes the program of a descriptor.
pub const FEXECVE: usize = 3;

/// Their names, by those numbers.
pub const ALL: [&str; 4] = ["_dl_debug_state", "execve", "execveat", "fexecve"];
