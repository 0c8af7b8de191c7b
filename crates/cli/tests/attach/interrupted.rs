//! Threads sit in handlers of signals that have interrupted the first instructions of a function,
//! while it is armed, and while it is disarmed.

use super::common::Target;
use super::running::{Attached, Kind, code};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

const THREADS: u64 = 8;

/// The program of inject's own test.
struct Interrupted {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Interrupted {
    /// Nothing where the compiler is missing.
    fn start(kind: Kind) -> Option<Self> {
        let source = "../inject/tests/targets/interrupted.c";
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let program = kind.linked(Target::from_path(&source))?.build();
        let mut command = Command::new(program);
        command.arg(THREADS.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut this = Self { child, stdout };
        assert_eq!(this.line(), "waiting\n", "{kind:?}");
        Some(this)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it writes");
        line
    }

    /// All handlers return, and all threads come to the next.
    fn go_on(&mut self) {
        self.child.stdin.as_mut().expect("piped").write_all(b"r").expect("it reads");
        assert_eq!(self.line(), "waiting\n");
    }
}

impl Drop for Interrupted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn handlers_come_back_where_they_should() {
    for kind in Kind::ALL {
        let Some(mut program) = Interrupted::start(kind) else { continue };
        let pid = program.child.id();
        let before = code(pid.cast_signed());
        for _ in 0..2 {
            let attached = Attached::to(&["-p", &pid.to_string(), "work"]);
            // Out of the copies of what they have interrupted, and into the copies again, by way of
            // the probe.
            program.go_on();
            program.go_on();
            let (report, finished) = attached.interrupt();
            assert_eq!(finished.code, 0, "{kind:?}: {}", finished.stderr);
            assert_eq!(report.calls("work"), 2 * THREADS, "{kind:?}: {}", finished.stderr);
            assert!(code(pid.cast_signed()) == before, "{kind:?}: its code is as before");
        }
        program.go_on();
        drop(program.child.stdin.take());
        assert_eq!(program.line(), format!("{} calls\n", 6 * THREADS), "{kind:?}");
        assert_eq!(program.child.wait().expect("ours").code(), Some(7), "{kind:?}");
    }
}
