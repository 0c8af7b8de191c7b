//! What is done to a process often, or not to its end, leaves it as it was.

use super::common::process::{Finished, Running, run, send_signal, start, trapline, wait_until};
use super::common::{Report, Target, tools};
use super::running::{Kind, Process, code};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

/// Threads start and end in it all the time (`tests/targets/churn.c`).
struct Churn(Child);

impl Churn {
    /// Nothing where the compiler is missing.
    fn start(compiler: &'static str, flags: &[&str], arguments: &[&str]) -> Option<Self> {
        tools::find(compiler)?;
        let named = format!("churn-{compiler}{}", flags.concat());
        let target = Target::new("churn.c").named(&named).flags(flags).compiler(compiler);
        let mut command = Command::new(target.build());
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let this = Self(command.spawn().expect("the program starts"));
        let folder = format!("/proc/{}/task", this.pid());
        wait_until("threads", || fs::read_dir(&folder).is_ok_and(|t| t.count() > 5));
        if arguments.contains(&"leave") {
            // On its way out the thread opens a library, to unwind by.
            let exe = format!("/proc/{}/exe", this.pid());
            wait_until("the end of its first thread", || fs::read_link(&exe).is_err());
        }
        Some(this)
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    /// A list of /proc, of a thread that lives: its lines.
    fn maps(&self) -> Vec<String> {
        let folder = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let maps = folder.flatten().map(|task| fs::read_to_string(task.path().join("maps")));
        let maps = maps.flatten().find(|maps| !maps.is_empty()).expect("one lives");
        maps.lines().map(str::to_owned).collect()
    }

    /// The least of several looks: the C library opens a file for a moment when it makes a heap for
    /// a thread.
    fn descriptors(&self) -> usize {
        let look = |_| {
            std::thread::sleep(Duration::from_millis(2));
            let folder = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
            let lists = folder.flatten().map(|task| fs::read_dir(task.path().join("fd")));
            lists.flatten().map(Iterator::count).max().expect("one lives")
        };
        (0..10).map(look).min().expect("ten looks")
    }

    /// Mappings of ours, and descriptors.
    fn size(&self) -> (usize, usize) {
        let ours = self.maps().iter().filter(|line| line.contains("/memfd:trapline")).count();
        (ours, self.descriptors())
    }

    /// It ends as it does when nobody has looked at it: its own count.
    fn end(mut self) -> u64 {
        drop(self.0.stdin.take());
        let mut output = String::new();
        let mut stdout = self.0.stdout.take().expect("piped");
        std::io::Read::read_to_string(&mut stdout, &mut output).expect("a pipe");
        assert_eq!(self.0.wait().expect("ours").code(), Some(7), "{output}");
        output.trim_end().parse().expect("a number")
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A run of a few milliseconds.
fn stat(pid: i32, file: &Path, spec: &str) -> Running {
    let pid = pid.to_string();
    let mut command = trapline();
    command.args(["stat", "-j", "-o"]).arg(file).args(["-d", "10ms", "-p", &pid, spec]);
    start(&mut command)
}

/// The report of a run, in which nothing was lost.
fn report(pid: i32, spec: &str) -> Report {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("report.json");
    let Finished { code, stderr, .. } = stat(pid, &file, spec).finish(b"");
    assert_eq!(code, 0, "{stderr}");
    let report = Report::read(&file).expect("a report");
    let lost = report.0["lost"].as_object().expect("reasons");
    assert!(lost.values().all(|n| *n == 0), "{lost:?}");
    report
}

/// Threads that are at the end of one run have their places in the next.
#[test]
fn threads_that_come_and_go_lose_nothing_and_nothing_grows() {
    const ROUNDS: usize = 40;
    for (compiler, flags) in [("gcc", &[][..]), ("gcc", &["-static"]), ("musl-gcc", &["-static"])] {
        let Some(churn) = Churn::start(compiler, flags, &["20"]) else { continue };
        let pid = churn.pid();
        let before = code(pid);
        let (mut counted, mut sizes) = (0, Vec::new());
        for _ in 0..ROUNDS {
            counted += report(pid, "t_work").calls("t_work");
            sizes.push(churn.size());
        }
        // The tables of a run stay mapped for longer if a thread is just looking at them.
        let most = (sizes[0].0 + ROUNDS / 5, sizes[0].1);
        let grown = sizes.iter().any(|size| size.0 > most.0 || size.1 != most.1);
        assert!(!grown, "{compiler} {flags:?}: {sizes:?}");
        assert!(code(pid) == before, "{compiler} {flags:?}: its code is as it was");
        let own = churn.end();
        assert!(0 < counted && counted <= own, "{compiler} {flags:?}: {counted} of {own}");
    }
}

/// Everything that was armed in one run is armed in the next: functions that share bytes, too, of
/// which one can be armed. And the image itself is no part of the program.
#[test]
fn everything_again() {
    let Some(program) = Kind::Dynamic.build() else { return };
    let process = Process::start(&program, 3);
    let before = process.code();
    let armed = || {
        let Report(report) = report(process.pid(), "*:*");
        (report["armed"].clone(), report["skipped"].clone())
    };
    let first = armed();
    assert!(first.0["detour"].as_u64() > Some(1000), "{first:?}");
    for _ in 0..3 {
        assert_eq!(armed(), first);
    }
    assert_eq!(process.code(), before);
    process.end();
}

/// Trapline is killed anywhere on its way in or out: the process does not notice, and the next run
/// finds all that is left, uses what it can, and clears away the rest.
#[test]
fn trapline_is_killed_at_any_moment() {
    const ROUNDS: usize = 40;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let mut seed = since.as_nanos() as u64 | 1;
    println!("seed {seed}");
    for arguments in [&["20"][..], &["8", "leave"]] {
        let Some(churn) = Churn::start("gcc", &[], arguments) else { return };
        let pid = churn.pid();
        let before = (churn.descriptors(), text(&churn));
        let folder = tempfile::tempdir().expect("a directory");
        for _ in 0..ROUNDS {
            let running = stat(pid, &folder.path().join("report.json"), "t_work");
            // xorshift64 (Marsaglia, 2003). A random moment: nothing is decided by how long it is.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            std::thread::sleep(Duration::from_nanos(seed % 80_000_000));
            send_signal(running.id(), libc::SIGKILL);
            running.finish(b"");
        }
        let report = report(pid, "t_work");
        let counted = report.calls("t_work");
        assert_eq!(churn.descriptors(), before.0, "{arguments:?}");
        let after = text(&churn);
        let attached = &report.0["attached"];
        assert_eq!(differing(&before.1, &after), "", "{arguments:?}: its code, {attached}");
        let own = churn.end();
        assert!(counted <= own, "{counted} of {own}");
    }
}

/// The program's own code in memory, also where its first thread has ended.
fn text(churn: &Churn) -> Vec<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let folder = fs::read_dir(format!("/proc/{}/task", churn.pid())).expect("it runs");
    let memory = |task: fs::DirEntry| fs::File::open(task.path().join("mem")).ok();
    let opened: Vec<_> = folder.flatten().filter_map(memory).collect();
    let maps = churn.maps();
    let code = maps.iter().filter(|line| line.contains(" r-xp ") && line.contains("/churn-"));
    let read = |line: &String| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).ok());
        let (start, length) = (start?, usize::try_from(end? - start?).ok()?);
        let mut bytes = vec![0; length];
        opened.iter().find(|memory| memory.read_exact_at(&mut bytes, start).is_ok())?;
        Some(bytes)
    };
    let code: Vec<_> = code.filter_map(read).collect();
    assert!(!code.is_empty(), "{maps:?}");
    code
}

/// Where two texts differ, and in what.
fn differing(before: &[Vec<u8>], after: &[Vec<u8>]) -> String {
    if before.len() != after.len() {
        return format!("{} parts, {} before", after.len(), before.len());
    }
    let mut found = String::new();
    for (part, (before, after)) in before.iter().zip(after).enumerate() {
        let bytes =
            before.iter().zip(after).enumerate().filter(|(_, (before, after))| before != after);
        for (at, (before, after)) in bytes {
            let _ = write!(found, "{part}+{at:#x}: {before:02x} is {after:02x}; ");
        }
    }
    found
}

/// Its leader is gone, and it is not.
#[test]
fn a_process_whose_first_thread_has_ended() {
    let Some(churn) = Churn::start("gcc", &[], &["5", "leave"]) else { return };
    let mut counted = 0;
    for _ in 0..3 {
        let report = report(churn.pid(), "t_work");
        counted += report.calls("t_work");
        assert_eq!(report.0["attached"][0]["after"], "running");
    }
    let own = churn.end();
    assert!(0 < counted && counted <= own, "{counted} of {own}");
}

/// A process that executes itself anew all the time, with threads.
#[test]
fn a_process_that_executes_programs_is_not_in_anybodys_way() {
    let Some(program) = Kind::Dynamic.build() else { return };
    let shell = format!(
        "i=0; while [ $i -lt 60 ]; do {} 3 </dev/null; i=$((i+1)); done; exit 9",
        program.display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &shell]).stdout(Stdio::null());
    let mut child = command.spawn().expect("starts");
    let pid = child.id().to_string();
    while child.try_wait().expect("ours").is_none() {
        run(trapline().args(["stat", "-d", "5ms", "-o", "/dev/null", "-p", &pid, "*:*"]), b"");
    }
    assert_eq!(child.wait().expect("ours").code(), Some(9));
}
