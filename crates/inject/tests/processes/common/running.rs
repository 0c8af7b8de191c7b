//! A program that works until its standard input ends.

use inject::{Force, Target};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// A program that runs; killed if the test fails.
pub(crate) struct Running {
    pub(crate) child: Child,
}

impl Running {
    pub(crate) fn start(program: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        Self { child: command.spawn().expect("the program starts") }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn target(&self) -> Target {
        Target::probe(self.pid(), Force::default()).expect("may be worked on")
    }

    /// Waits for a line of its output.
    pub(crate) fn line(&mut self) -> String {
        let output = self.child.stdout.as_mut().expect("piped");
        let mut line = Vec::new();
        let mut byte = [0];
        while output.read(&mut byte).expect("a pipe") == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("text")
    }

    /// Waits until it has so many threads.
    pub(crate) fn await_threads(&self, wanted: usize) {
        while threads(self.pid()).len() < wanted {
            std::thread::yield_now();
        }
    }

    /// Waits until it is in one of these states (`/proc/PID/stat`).
    pub(crate) fn await_state(&self, states: &[char]) {
        while !states.contains(&state(self.pid())) {
            std::thread::yield_now();
        }
    }

    /// Ends its standard input: what it says then, and its exit status.
    pub(crate) fn end(mut self) -> (String, ExitStatus) {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.child.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
        (said, self.child.wait().expect("a child"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn threads(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

pub(crate) fn state(pid: i32) -> char {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?')
}

/// What a process has: mappings (without how large its heap and stacks are) and descriptors.
pub(crate) fn snapshot(pid: i32) -> (Vec<String>, Vec<String>) {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
    let maps = maps.lines().map(str::to_owned).collect();
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    let link = |entry: fs::DirEntry| {
        let leads = fs::read_link(entry.path()).unwrap_or_default();
        format!("{} {}", entry.file_name().display(), leads.display())
    };
    let mut descriptors: Vec<_> = folder.flatten().map(link).collect();
    descriptors.sort();
    (maps, descriptors)
}
