//! Why the engine, or a site, cannot be.

use core::fmt;

/// Why a function was left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The code itself forbids it.
    Code(patch::Refusal),
    /// Nothing was decided for it elsewhere, or not for the bytes that are there, and nothing is
    /// decided here (the feature `plan` is off).
    OtherCode,
    /// The address range is not readable memory.
    Unreadable,
    /// It cannot take a jump, and must not take a breakpoint
    /// ([`Target::traps`](crate::Target::traps)).
    NeedsTrap,
    /// A system call begins or ends among the bytes that a jump takes, and somebody else writes it
    /// ([`Batch::commit_outside`](crate::Batch::commit_outside)): threads wait in system calls, and
    /// one that runs a signal handler meanwhile would come back into the jump.
    SystemCall,
    /// A jump would lie in two pages, and somebody else writes it
    /// ([`Batch::commit_outside`](crate::Batch::commit_outside)), who could be killed when the half
    /// of it is there; and no breakpoint may be set.
    TwoPages,
    /// There is a probe already, of another kind.
    AlreadyProbed,
    /// Nothing but counting can be done at it: its stack has no room.
    NoStack,
    /// No memory is free within 2 GiB of it, or the system gives none.
    NoRoom,
    /// The system does not let code be changed.
    NotWritable,
    /// The kernel has no membarrier for instruction streams: code cannot be changed under running
    /// threads.
    NoSyncCore,
    /// The table of sites is full.
    TooManySites,
    /// The table of consumers is full.
    TooManyConsumers,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(why) => why.fmt(f),
            Self::OtherCode => f.write_str("its code in memory is not that of its file"),
            Self::Unreadable => f.write_str("its code cannot be read"),
            Self::NeedsTrap => f.write_str(
                "it needs a breakpoint, which would kill where signals \
                are blocked",
            ),
            Self::SystemCall => f.write_str(
                "a signal handler may come back to a system call in the bytes that a jump would \
                take",
            ),
            Self::TwoPages => f.write_str(
                "a jump would lie in two pages, of which one could be written without the other",
            ),
            Self::AlreadyProbed => f.write_str("probed already"),
            Self::NoStack => f.write_str("goroutines' stacks have no room for more than counting"),
            Self::NoRoom => f.write_str("no memory free within 2 GiB of it"),
            Self::NotWritable => f.write_str("the system does not let code be changed"),
            Self::NoSyncCore => f.write_str(
                "this kernel cannot change code under running threads \
                (membarrier SYNC_CORE is missing)",
            ),
            Self::TooManySites => f.write_str("too many probes"),
            Self::TooManyConsumers => f.write_str("too many consumers"),
        }
    }
}

impl core::error::Error for Refusal {}
