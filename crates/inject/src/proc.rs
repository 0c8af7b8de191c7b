//! What /proc says of a process and its threads.

use crate::ptrace::Tid;
use std::path::PathBuf;
use std::{fs, io};

/// A file of a thread's folder. That of the process is empty once its first thread has ended.
pub(crate) fn path(pid: Tid, tid: Tid, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/task/{tid}/{name}"))
}

/// The contents of such a file that says something of the thread's memory.
///
/// # Errors
/// Those of [`is_of_ended`], too, of a thread that has none any more: the kernel shows it an empty
/// list, which is never one of a thread that lives.
pub(crate) fn of_memory(pid: Tid, tid: Tid, name: &str) -> io::Result<Vec<u8>> {
    let bytes = fs::read(path(pid, tid, name))?;
    if bytes.is_empty() { Err(ended()) } else { Ok(bytes) }
}

/// The error of a thread that has ended.
pub(crate) fn ended() -> io::Error {
    io::Error::from_raw_os_error(libc::ESRCH)
}

/// Whether a file of a thread could not be opened or read as the thread has ended.
pub(crate) fn is_of_ended(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// The threads of a process, ascending.
pub(crate) fn threads(pid: Tid) -> io::Result<Vec<Tid>> {
    /// More often than threads end in a row, each at the moment at which it is the last listed.
    const TRIES: usize = 100;
    let folder = PathBuf::from(format!("/proc/{pid}/task"));
    let mut found = Vec::new();
    for _ in 0..TRIES {
        found.clear();
        for entry in fs::read_dir(&folder)? {
            found.extend(entry?.file_name().to_str().and_then(|name| name.parse::<Tid>().ok()));
        }
        // The kernel goes from each thread to the next (`next_tid` in `fs/proc/base.c`): if one
        // ends meanwhile, the list ends with it, and others are missing.
        if found.last().is_none_or(|last| folder.join(last.to_string()).exists()) {
            break;
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The part of `status` that is of interest here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// `R`, `S`, `D`, `T`, `t`, `Z`, `X`, ...
    pub(crate) state: char,
    /// The process that the thread belongs to.
    pub(crate) process: Tid,
    /// The thread that traces it, or 0.
    pub(crate) tracer: Tid,
    /// Real, effective, saved and file system's user.
    pub(crate) users: [u32; 4],
    /// 0: none, 1: strict, 2: filters.
    pub(crate) seccomp: u32,
    /// Has a shadow stack.
    pub(crate) shadow_stack: bool,
    /// The effective capabilities.
    pub(crate) capabilities: u64,
}

impl Status {
    pub(crate) fn read(pid: Tid, tid: Tid) -> io::Result<Self> {
        fs::read_to_string(path(pid, tid, "status")).map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            let number = || value.parse().unwrap_or(0);
            match key {
                "State" => found.state = value.chars().next().unwrap_or('?'),
                "Tgid" => found.process = number(),
                "TracerPid" => found.tracer = number(),
                "Uid" => {
                    let users = value.split_ascii_whitespace().map(|n| n.parse().unwrap_or(0));
                    found.users.iter_mut().zip(users).for_each(|(user, n)| *user = n);
                }
                "Seccomp" => found.seccomp = value.parse().unwrap_or(0),
                "CapEff" => found.capabilities = u64::from_str_radix(value, 16).unwrap_or(0),
                "x86_Thread_features" => found.shadow_stack = value.contains("shstk"),
                _ => {}
            }
        }
        found
    }

    /// Whether the thread has ended, and only its entry is left.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// The part of `stat` that is of interest here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The kernel's flags of the thread.
    flags: u64,
    /// Where the program's heap starts; 0 to those who may not trace it.
    pub(crate) heap: u64,
}

impl Stat {
    /// `PF_KTHREAD`.
    const KERNEL: u64 = 0x20_0000;

    pub(crate) fn read(pid: Tid, tid: Tid) -> io::Result<Self> {
        let text = fs::read(path(pid, tid, "stat"))?;
        Self::parse(&String::from_utf8_lossy(&text)).ok_or(io::ErrorKind::InvalidData.into())
    }

    fn parse(text: &str) -> Option<Self> {
        // The name may contain anything, but no more parentheses come behind it.
        let (_, fields) = text.rsplit_once(')')?;
        // From the third on, as proc(5) counts.
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let field = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
        Some(Self { flags: field(9)?, heap: field(47).unwrap_or(0) })
    }

    pub(crate) fn is_kernel_thread(&self) -> bool {
        self.flags & Self::KERNEL != 0
    }
}

/// The system call that a blocked thread is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// `None`: blocked elsewhere (a page fault).
    pub(crate) number: Option<u64>,
    pub(crate) stack: u64,
    pub(crate) instruction: u64,
}

impl Call {
    /// `None` of a thread that runs, or whose call may not be seen.
    pub(crate) fn read(pid: Tid, tid: Tid) -> Option<Self> {
        Self::parse(&fs::read_to_string(path(pid, tid, "syscall")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let hex = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
        let [number, .., stack, instruction] = words[..] else { return None };
        Some(Self {
            number: number.parse().ok(),
            stack: hex(stack)?,
            instruction: hex(instruction)?,
        })
    }
}

/// Words that the kernel gave the program at its start (`getauxval`).
pub(crate) struct Auxiliary(Vec<u8>);

impl Auxiliary {
    pub(crate) fn read(pid: Tid, tid: Tid) -> io::Result<Self> {
        of_memory(pid, tid, "auxv").map(Self)
    }

    pub(crate) fn get(&self, key: u64) -> Option<u64> {
        let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
        let mut pairs = self.0.chunks_exact(16).map(|pair| (word(&pair[..8]), word(&pair[8..])));
        pairs.find(|pair| pair.0 == key).map(|pair| pair.1)
    }
}

/// Whether a thread has child processes, where the kernel says so.
pub(crate) fn has_children(pid: Tid, tid: Tid) -> bool {
    fs::read(path(pid, tid, "children")).is_ok_and(|children| !children.is_empty())
}

/// The signals that wait for a thread alone, a bit each.
pub(crate) fn pending(pid: Tid, tid: Tid) -> u64 {
    let text = fs::read_to_string(path(pid, tid, "status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("SigPnd:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

/// The name that a thread has.
pub(crate) fn name(tid: Tid) -> Option<String> {
    let name = fs::read(format!("/proc/{tid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().escape_debug().to_string())
}

#[cfg(test)]
mod tests {
    use super::{Call, Stat, Status};

    #[test]
    fn a_status() {
        let text = "Name:\tx: y\nState:\tS (sleeping)\nTgid:\t41\nTracerPid:\t7\n\
                    Uid:\t1\t2\t3\t4\nCapEff:\t0000000000080000\nSeccomp:\t2\n\
                    x86_Thread_features:\tshstk \n";
        let found = Status::parse(text);
        assert_eq!((found.state, found.process, found.tracer), ('S', 41, 7));
        assert_eq!((found.users, found.seccomp), ([1, 2, 3, 4], 2));
        assert!(found.shadow_stack && found.capabilities == 1 << 19 && !found.has_ended());
        assert_eq!(Status::parse("nonsense"), Status::default());
    }

    #[test]
    fn a_stat_whose_name_looks_like_more() {
        let fields: Vec<String> = (9..=52).map(|n| n.to_string()).collect();
        let text = format!("12 (a) R 1 (b) S 1 2 3 4 5 {}", fields.join(" "));
        assert_eq!(Stat::parse(&text), Some(Stat { flags: 9, heap: 47 }));
        assert_eq!(Stat::parse("12 (a"), None);
        assert_eq!(Stat::parse("12 (a) S 1"), None);
    }

    #[test]
    fn a_call() {
        let call = Call { number: Some(0), stack: 0x7f10, instruction: 0x7f20 };
        assert_eq!(Call::parse("0 0x3 0x1 0x2 0x0 0x0 0x0 0x7f10 0x7f20\n"), Some(call));
        assert_eq!(
            Call::parse("-1 0x7f10 0x7f20\n"),
            Some(Call { number: None, ..call }),
            "blocked, but in no call"
        );
        assert_eq!(Call::parse("running\n"), None);
        assert_eq!(Call::parse(""), None);
    }
}
