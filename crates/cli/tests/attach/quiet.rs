//! The image makes no system call at a hit, and none but a few at the first hit of a thread: the
//! kernel kills who makes others (`tests/targets/quiet.c`).

use super::common::Target;
use super::running::{Attached, Kind};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What a thread may call at its first hit: it blocks signals, finds and maps a block of counters,
/// says whose it is, and waits for others who do the same.
const FIRST_HIT: [libc::c_long; 11] = [
    libc::SYS_rt_sigprocmask,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_prctl,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_munlock,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
];

struct Quiet {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Quiet {
    /// Nothing where the compiler is missing.
    fn start(kind: Kind, list: &[libc::c_long]) -> Option<Self> {
        let mut command = Command::new(kind.linked(Target::new("quiet.c"))?.build());
        command.args(list.iter().map(libc::c_long::to_string));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Some(Self { child, stdin, stdout })
    }

    /// How often `t_work` ran for this; nothing if the program was killed for it.
    fn tell(&mut self, what: &str) -> Option<u64> {
        writeln!(self.stdin.as_mut().expect("open"), "{what}").expect("it reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a pipe");
        line.trim_end().split_once(' ').map(|(_, number)| number.parse().expect("a number"))
    }

    /// The exit status, or the negative signal.
    fn end(mut self) -> i32 {
        drop(self.stdin.take());
        let status = self.child.wait().expect("ours");
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        status.code().unwrap_or_else(|| -signal.expect("it was killed"))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn no_system_call_at_a_hit_and_few_at_the_first() {
    for kind in Kind::ALL {
        let Some(mut quiet) = Quiet::start(kind, &FIRST_HIT) else { continue };
        let attached = Attached::to(&["-p", &quiet.child.id().to_string(), "t_work"]);
        let mut own = 0;
        // Threads that may make none, of which the first begins in an empty process, and threads
        // that begin with the filter.
        for what in ["a", "", "b 1", "a", "", "b 8", "b 8"] {
            own += quiet.tell(what).unwrap_or_else(|| panic!("{kind:?}: killed at {what:?}"));
        }
        let (report, finished) = attached.interrupt();
        assert_eq!(own, 2 * 1001 + 17 * 1000, "{kind:?}");
        assert_eq!(report.calls("t_work"), own, "{kind:?}: {}", finished.stderr);
        assert_eq!(quiet.end(), 7, "{kind:?}");
    }
}

/// The filters do kill: at a first hit, nothing can be done without system calls.
#[test]
fn what_is_not_in_the_list_is_seen() {
    let Some(mut quiet) = Quiet::start(Kind::Dynamic, &[]) else { return };
    let attached = Attached::to(&["-p", &quiet.child.id().to_string(), "t_work"]);
    assert_eq!(quiet.tell("b 8"), None);
    assert_eq!(quiet.end(), -libc::SIGSYS);
    attached.finish();
}

/// The process has given up system calls since it was entered: none is made in it to leave it.
#[test]
fn a_filter_that_came_later_does_not_kill_at_the_end() {
    for kind in [Kind::Dynamic, Kind::MuslStatic] {
        let Some(mut quiet) = Quiet::start(kind, &FIRST_HIT) else { continue };
        let pid = quiet.child.id();
        let attached = Attached::to(&["-p", &pid.to_string(), "t_work"]);
        let mut own = 0;
        for what in ["a", "", "c", "b 8", "a", ""] {
            own += quiet.tell(what).unwrap_or_else(|| panic!("{kind:?}: killed at {what:?}"));
        }
        let (report, finished) = attached.interrupt();
        assert_eq!(report.calls("t_work"), own, "{kind:?}: {}", finished.stderr);
        let row = &report.0["attached"][0];
        assert_eq!(row["after"], "probed", "{kind:?}: {row}");
        assert!(row.to_string().contains("filters its system calls"), "{kind:?}: {row}");
        assert_eq!(finished.code, 125, "{kind:?}: {}", finished.stderr);
        let says = finished.stderr.contains("could not be left as before");
        assert!(says, "{kind:?}: {}", finished.stderr);
        // It goes on with its probes.
        assert_eq!(quiet.tell("b 8"), Some(8000), "{kind:?}");
        assert_eq!(quiet.end(), 7, "{kind:?}");
    }
}
