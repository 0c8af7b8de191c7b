//! A program that runs (`tests/targets/running.c`), linked in every way, and trapline attached to
//! it.

use super::common::process::{Finished, Running, run, send_signal, start, trapline, wait_until};
use super::common::{Report, Target, tools};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// How a program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dynamic,
    Static,
    StaticPie,
    Musl,
    MuslStatic,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Dynamic, Self::Static, Self::StaticPie, Self::Musl, Self::MuslStatic];

    /// `tests/targets/running.c`. Nothing where the compiler is missing: that is said.
    pub(crate) fn build(self) -> Option<PathBuf> {
        self.linked(Target::new("running.c")).map(|target| target.build())
    }

    /// A target, linked this way. Nothing where the compiler is missing: that is said.
    pub(crate) fn linked(self, target: Target) -> Option<Target> {
        let (flags, compiler): (&[&str], _) = match self {
            Self::Dynamic => (&[], "gcc"),
            Self::Static => (&["-static", "-no-pie"], "gcc"),
            Self::StaticPie => (&["-static-pie"], "gcc"),
            Self::Musl => (&[], "musl-gcc"),
            Self::MuslStatic => (&["-static"], "musl-gcc"),
        };
        tools::find(compiler)?;
        Some(target.flags(flags).compiler(compiler))
    }

    /// A library of the C library that programs of this kind are linked with.
    pub(crate) fn compiled(self, library: Target) -> Option<Target> {
        let compiler = if self == Self::Musl { "musl-gcc" } else { "gcc" };
        tools::find(compiler)?;
        Some(library.compiler(compiler))
    }
}

/// A process that does what it is told, until it is dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn start(program: &Path, threads: usize) -> Self {
        Self::start_by(Command::new(program), threads)
    }

    /// By a command whose last argument is the number of threads.
    pub(crate) fn start_by(command: Command, threads: usize) -> Self {
        let this = Self::started(command, threads);
        await_threads(this.pid(), threads);
        this
    }

    /// As [`Process::start_by`], where the program is the command's child.
    pub(crate) fn start_below(command: Command, threads: usize) -> Self {
        let this = Self::started(command, threads);
        wait_until("a child", || !this.children().is_empty());
        await_threads(this.children()[0], threads);
        this
    }

    fn started(mut command: Command, threads: usize) -> Self {
        command.arg(threads.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdin, stdout }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// How often `t_work` ran for this.
    pub(crate) fn tell(&mut self, what: &str) -> u64 {
        let stdin = self.stdin.as_mut().expect("open");
        writeln!(stdin, "{what}").expect("it reads");
        let said = self.line();
        let (letter, number) = said.trim_end().split_once(' ').expect("an answer");
        assert_eq!(letter, &what[..1], "{said}");
        number.parse().expect("a number")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it writes");
        line
    }

    /// After "l".
    pub(crate) fn await_end_of_first_thread(&self) {
        wait_until("the first thread's end", || state(self.pid()) == Some('Z'));
    }

    /// It ends as it does when nobody has looked at it.
    pub(crate) fn end(mut self) {
        drop(self.stdin.take());
        assert_eq!(self.line(), "end\n");
        assert_eq!(self.child.wait().expect("ours").code(), Some(7));
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The program's code in memory.
    pub(crate) fn code(&self) -> Vec<Vec<u8>> {
        code(self.pid())
    }

    /// Its fork children.
    pub(crate) fn children(&self) -> Vec<i32> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.expect("it runs");
        children.split_whitespace().map(|pid| pid.parse().expect("a number")).collect()
    }
}

fn await_threads(pid: i32, threads: usize) {
    let folder = format!("/proc/{pid}/task");
    wait_until("all threads", || fs::read_dir(&folder).is_ok_and(|t| t.count() > threads));
}

/// Whether jumps were written. For system calls there is other code in the program's padding, which
/// a trapline that is killed leaves there.
pub(crate) fn has_more_jumps(before: &[Vec<u8>], now: &[Vec<u8>]) -> bool {
    const JUMP: u8 = 0xe9;
    let mut bytes = before.iter().flatten().zip(now.iter().flatten());
    bytes.any(|(before, now)| *before != JUMP && *now == JUMP)
}

/// A program's code in memory.
pub(crate) fn code(pid: i32) -> Vec<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    // The process's own files show nothing once its first thread has ended.
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let lives = |task: &PathBuf| fs::read_link(task.join("exe")).is_ok();
    let task = tasks.map(|task| task.expect("readable").path()).find(lives).expect("it runs");
    let maps = fs::read_to_string(task.join("maps")).expect("it runs");
    let exe = fs::read_link(task.join("exe")).expect("it runs");
    let memory = fs::File::open(task.join("mem")).expect("ours");
    let code = maps
        .lines()
        .filter(|line| line.contains(" r-xp ") && line.ends_with(exe.to_str().expect("in UTF-8")));
    let read = |line: &str| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).ok());
        let mut bytes = vec![0; usize::try_from(end? - start?).ok()?];
        memory.read_exact_at(&mut bytes, start?).ok()?;
        Some(bytes)
    };
    let code: Vec<_> = code.filter_map(read).collect();
    assert!(!code.is_empty(), "{maps}");
    code
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Trapline, which has entered a process and counts.
pub(crate) struct Attached {
    running: Running,
    file: tempfile::TempDir,
}

impl Attached {
    /// `trapline stat` with these arguments, once it counts.
    pub(crate) fn to(arguments: &[&str]) -> Self {
        let file = tempfile::tempdir().expect("a directory");
        let mut command = trapline();
        command.args(["stat", "-j", "-i", "20ms", "-o"]).arg(file.path().join("report.json"));
        let running = start(command.args(arguments));
        let this = Self { running, file };
        // The first interval comes when everybody was entered, or nobody was.
        wait_until("attached", || {
            let text = fs::read_to_string(this.path()).unwrap_or_default();
            text.contains('\n') || state(this.running.id()) == Some('Z')
        });
        this
    }

    fn path(&self) -> PathBuf {
        self.file.path().join("report.json")
    }

    /// ^C: the report, and what was said.
    pub(crate) fn interrupt(self) -> (Report, Finished) {
        send_signal(self.running.id(), libc::SIGINT);
        self.finish()
    }

    /// By itself: the report, and what was said.
    pub(crate) fn finish(self) -> (Report, Finished) {
        let path = self.path();
        let Self { running, file } = self;
        let finished = running.finish(b"");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let last = text.lines().last().unwrap_or_else(|| panic!("{}", finished.stderr));
        let only = file.path().join("last.json");
        fs::write(&only, last).expect("ours");
        (Report::read(&only).expect("a report"), finished)
    }

    /// kill -9.
    pub(crate) fn kill(self) {
        send_signal(self.running.id(), libc::SIGKILL);
        self.running.finish(b"");
    }
}

/// The state of a process, as the kernel's letter.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Trapline with these arguments, to its end.
pub(crate) fn trapline_with(arguments: &[&str]) -> Finished {
    run(trapline().args(arguments), b"")
}
