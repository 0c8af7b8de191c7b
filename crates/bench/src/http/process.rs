//! The server's process, and its CPU time.
#![allow(unsafe_code)]

use super::server::Served;
use crate::group::Group;
use std::io::{self, BufRead, BufReader};
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

/// A server that runs.
pub(super) struct Process {
    group: Group,
    said: BufReader<ChildStdout>,
    port: u16,
    pid: u32,
}

/// Configurations beside the current one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) mean: f64,
    pub(super) most: f64,
}

impl Process {
    /// Starts it, and waits until it listens.
    pub(super) fn start(served: &Served, references: usize, workers: usize) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["http-server", "--scheme", served.name]);
        command.arg("--references").arg(references.to_string());
        command.arg("--workers").arg(workers.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut group = Group::spawn(&mut command)?;
        let pid = group.child().id();
        let out = group.child().stdout.take();
        let mut said = BufReader::new(out.ok_or_else(|| io::Error::other("no output"))?);
        let port = number(&line(&mut said)?)?;
        Ok(Self { group, said, port, pid })
    }

    /// Where it listens, on 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// CPU time that it has used, in nanoseconds.
    pub(super) fn cpu(&self) -> io::Result<u64> {
        cpu(self.pid)
    }

    /// Ends it. What it says of the configurations that were kept.
    pub(super) fn stop(mut self) -> io::Result<Held> {
        drop(self.group.child().stdin.take());
        let text = line(&mut self.said)?;
        let (mean, most) = text.split_once(' ').ok_or_else(|| io::Error::other(text.clone()))?;
        let held = Held { mean: number(mean)?, most: number(most)? };
        match self.group.wait(Duration::from_secs(20)) {
            Some(status) if status.success() => Ok(held),
            status => Err(io::Error::other(format!("the server ended with {status:?}"))),
        }
    }
}

fn line(said: &mut BufReader<ChildStdout>) -> io::Result<String> {
    let mut line = String::new();
    said.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::Error::other(format!("the server said '{text}'")))
}

/// CPU time of a process and all its threads, in nanoseconds.
///
/// # Errors
/// It is gone.
pub(super) fn cpu(pid: u32) -> io::Result<u64> {
    let mut clock = 0;
    // SAFETY: `clock` is a live clockid_t that the call fills.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec that the call fills.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
