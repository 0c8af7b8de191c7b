//! What can go wrong once a process is being worked on.

use crate::refusal::Refused;
use std::{fmt, io};

/// Why something was not done. The process is as it was, if it is still there.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The process is left alone.
    Refused(Refused),
    /// The process or the thread has ended.
    Gone,
    /// No thread of the process is in a state in which system calls can be made on it now.
    Busy,
    /// A system call of this process's failed.
    Own {
        /// What was to be done.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A system call made in the process failed.
    Remote {
        /// The call.
        call: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// There is no room for an image near the program.
    NoRoom,
    /// What was to be patched is not what it should be.
    Changed {
        /// The address of the patch.
        address: u64,
    },
    /// A patch lies in two pages, which cannot be written in one step.
    TwoPages {
        /// The address of the patch.
        address: u64,
    },
    /// A thread stands where code is to be changed or taken away, and did not leave.
    Standing {
        /// The thread.
        tid: i32,
        /// Where it stands.
        address: u64,
    },
    /// A function of the image was ended by a fault.
    Fault {
        /// The signal.
        signal: i32,
        /// Where.
        address: u64,
    },
    /// A function of the image did not return in time, and was ended.
    TimedOut,
}

impl Error {
    /// For `map_err`.
    pub(crate) fn own(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::ESRCH) => Self::Gone,
            _ => Self::Own { what, source },
        }
    }

    pub(crate) fn remote(call: &'static str) -> impl FnOnce(i32) -> Self {
        move |errno| Self::Remote { call, source: io::Error::from_raw_os_error(errno) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::Gone => f.write_str("the process has ended"),
            Self::Busy => f.write_str("no thread of the process could be used: try again"),
            Self::Own { what, source } => write!(f, "{what}: {source}"),
            Self::Remote { call, source } => write!(f, "{call} in the process: {source}"),
            Self::NoRoom => f.write_str("there is no room for the image near the program"),
            Self::Changed { address } => {
                write!(f, "the code at {address:#x} is not what it was: somebody else patches it")
            }
            Self::TwoPages { address } => {
                write!(f, "what is to be written at {address:#x} lies in two pages")
            }
            Self::Standing { tid, address } => {
                write!(f, "thread {tid} stands at {address:#x} and does not leave: try again")
            }
            Self::Fault { signal, address } => {
                write!(f, "the image was ended by signal {signal} at {address:#x}")
            }
            Self::TimedOut => f.write_str("the image did not answer in time"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(refused) => Some(refused),
            Self::Own { source, .. } | Self::Remote { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}
