//! Processes that are left alone: one line, with what to do.

use super::common::Target;
use super::common::process::wait_until;
use super::running::{state, trapline_with};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

/// A process of ours, until it is dropped.
struct Idle(Child);

impl Idle {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).spawn().expect("it starts"))
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The exit code and the one line.
fn refused(arguments: &[&str]) -> (i32, String) {
    let finished = trapline_with(arguments);
    assert_eq!(finished.stderr.lines().count(), 1, "{arguments:?}: {}", finished.stderr);
    (finished.code, finished.stderr)
}

#[test]
fn what_is_no_process() {
    let (code, line) = refused(&["stat", "-p", "2000000000", "f"]);
    assert_eq!(code, 125);
    assert!(line.contains("there is no process 2000000000"), "{line}");
    let (code, line) = refused(&["stat", "--name", "nosuchprogram*", "f"]);
    assert_eq!(code, 2);
    assert!(line.contains("'nosuchprogram*' (--name)"), "{line}");
    let (code, line) = refused(&["stat", "f", "--", "-p", "12"]);
    assert_eq!(code, 2);
    assert!(line.contains("stands in front"), "{line}");
}

/// A filter may kill: not without `--force`.
#[test]
fn filtered_system_calls() {
    let program = Target::new("filtered.c").build();
    let mut command = Command::new(program);
    let mut idle = Idle::start(command.stdout(Stdio::piped()));
    let mut ready = String::new();
    let stdout = idle.0.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut ready).expect("it writes");
    assert_eq!(ready, "filtered\n");
    let pid = idle.pid();
    let (code, line) = refused(&["stat", "-p", &pid, "-d", "10ms", "t_work"]);
    assert_eq!(code, 125);
    assert!(line.contains("--force if you know"), "{line}");
    // Its filter refuses one call that nobody here makes.
    let forced = trapline_with(&["stat", "-p", &pid, "-d", "10ms", "--force", "t_work"]);
    assert_eq!(forced.code, 0, "{}", forced.stderr);
    assert!(matches!(idle.0.try_wait(), Ok(None)), "it runs");
    let doctor = trapline_with(&["doctor", &pid]);
    assert!(doctor.stdout.contains("filters its system calls"), "{}", doctor.stdout);
}

/// The program that a trapline has started, once the agent is in it.
fn started_by(trapline: &Idle) -> String {
    let own = trapline.pid();
    let mut child = String::new();
    wait_until("started", || {
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        child = children.unwrap_or_default().trim().to_owned();
        fs::read_to_string(format!("/proc/{child}/maps")).is_ok_and(|m| m.contains("/agent-"))
    });
    child
}

/// One engine is enough.
#[test]
fn started_under_trapline() {
    let mut trapline = super::common::process::trapline();
    trapline.args(["stat", "entry:read", "-o", "/dev/null", "--", "cat"]);
    let traced = Idle::start(trapline.stdout(Stdio::null()));
    let child = started_by(&traced);
    let (code, line) = refused(&["stat", "-p", &child, "read"]);
    assert_eq!(code, 125);
    assert!(line.contains("it was started under trapline"), "{line}");
}

/// Its own list of mappings is empty then.
#[test]
fn started_under_trapline_and_without_its_first_thread() {
    let program = Target::new("running.c").build();
    let mut trapline = super::common::process::trapline();
    trapline.args(["stat", "entry:t_work", "-o", "/dev/null", "--"]).arg(program).arg("2");
    let mut traced = Idle::start(trapline.stdout(Stdio::null()));
    let child = started_by(&traced);
    traced.0.stdin.as_mut().expect("piped").write_all(b"l\n").expect("it reads");
    wait_until("the first thread's end", || state(child.parse().expect("a number")) == Some('Z'));
    let (code, line) = refused(&["stat", "-p", &child, "-d", "10ms", "t_work"]);
    assert_eq!(code, 125);
    assert!(line.contains("it was started under trapline"), "{line}");
}

/// Whoever has it in a debugger keeps it.
#[test]
fn traced_by_another() {
    let traced = Idle::start(&mut Command::new("cat"));
    let pid = traced.0.id().cast_signed();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let tracer = std::thread::spawn(move || {
        seize(pid);
        // The end of this thread ends the tracing.
        let _ = held.recv();
    });
    wait_until("traced", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    });
    let (code, line) = refused(&["stat", "-p", &pid.to_string(), "read"]);
    assert_eq!(code, 125);
    assert!(line.contains("is traced by") && line.contains("detach or end that first"), "{line}");
    drop(hold);
    tracer.join().expect("it does not panic");
}

#[allow(unsafe_code)]
fn seize(pid: i32) {
    // SAFETY: takes numbers.
    let done = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}
