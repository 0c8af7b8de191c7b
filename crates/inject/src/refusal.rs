//! Why a process is left alone, found out before anything is done to it.

use std::fmt;

/// A process that is left alone, with the reason. Displayed as one line, with what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The process.
    pub pid: i32,
    /// Why.
    pub why: Refusal,
}

/// Why a process is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such process.
    Gone,
    /// It has ended; its parent has not asked for its exit status yet.
    Ended,
    /// The calling process.
    Itself,
    /// A thread of the kernel's.
    KernelThread,
    /// It belongs to another user.
    OtherUser {
        /// That user.
        user: u32,
    },
    /// It has made itself inaccessible (`PR_SET_DUMPABLE`), or executes a file that may not be
    /// read.
    NotDumpable,
    /// The kernel allows tracing only to parents or administrators, or not at all.
    Yama {
        /// `/proc/sys/kernel/yama/ptrace_scope`.
        scope: u32,
    },
    /// The kernel does not allow it, for a reason that it does not tell.
    Forbidden,
    /// Its system calls are filtered, and a filter that kills cannot be told from others.
    Seccomp,
    /// It may only read, write and end, and is killed otherwise.
    SeccompStrict,
    /// It is not a 64-bit program.
    ThirtyTwoBit,
    /// Somebody traces it already.
    Traced {
        /// The tracer.
        tracer: i32,
        /// The tracer's name.
        name: String,
    },
    /// It has a shadow stack, for which a signal frame from outside is an attack.
    ShadowStack,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pid = self.pid;
        match &self.why {
            Refusal::Gone => write!(f, "there is no process {pid}: look for it with `ps -e`"),
            Refusal::Ended => {
                write!(f, "process {pid} has ended: its parent has only to ask for it")
            }
            Refusal::Itself => write!(f, "process {pid} is this one: name another"),
            Refusal::KernelThread => {
                write!(f, "process {pid} is a thread of the kernel: use `perf` or `bpftrace`")
            }
            Refusal::OtherUser { user } => {
                write!(f, "process {pid} belongs to user {user}: run this as that user or as root")
            }
            Refusal::NotDumpable => {
                write!(f, "process {pid} does not let itself be traced: run this as root")
            }
            Refusal::Yama { scope: 1 } => write!(
                f,
                "process {pid} may be traced only by its parent (Yama): start it from here, or run \
                 this as root, or `sysctl kernel.yama.ptrace_scope=0`"
            ),
            Refusal::Yama { scope: 2 } => {
                write!(f, "only root may trace process {pid} (Yama): run this as root")
            }
            Refusal::Yama { .. } => write!(
                f,
                "nobody may trace process {pid} (Yama): set kernel.yama.ptrace_scope lower and boot"
            ),
            Refusal::Forbidden => write!(
                f,
                "the kernel does not let process {pid} be traced: run this as root, outside of its \
                 container, or with CAP_SYS_PTRACE"
            ),
            Refusal::Seccomp => write!(
                f,
                "process {pid} filters its system calls and may be killed for those that are made \
                 in it: force it if you know that its filters only refuse"
            ),
            Refusal::SeccompStrict => write!(
                f,
                "process {pid} is killed for any system call but read, write and exit: start it \
                 from here instead"
            ),
            Refusal::ThirtyTwoBit => {
                write!(f, "process {pid} is no 64-bit program: use a 64-bit build of it")
            }
            Refusal::Traced { tracer, name } => {
                write!(f, "process {pid} is traced by {name} ({tracer}): detach or end that first")
            }
            Refusal::ShadowStack => write!(
                f,
                "process {pid} has a shadow stack: start it with \
                 GLIBC_TUNABLES=glibc.cpu.x86_shstk=off"
            ),
        }
    }
}

impl std::error::Error for Refused {}
