//! One redis-server on a free port of 127.0.0.1, bare or under a tracer.

use crate::affinity;
use crate::group::Group;
use crate::scratch::Scratch;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The server's program.
pub(crate) const PROGRAM: &str = "redis-server";

/// A running server with an empty data set and nothing on disk.
pub(crate) struct Server {
    group: Group,
    port: u16,
    pid: u32,
    dir: Scratch,
    pinned: bool,
}

impl Server {
    /// `pinned`: its main thread stays on the first CPU, for the client to have the second. Starts
    /// `tracer` (a command that takes the traced command behind its own arguments), or the server
    /// alone, and waits until it answers.
    pub(crate) fn start(
        pinned: bool,
        tracer: impl FnOnce(&Scratch) -> Option<Command>,
    ) -> io::Result<Self> {
        const STARTED: Duration = Duration::from_secs(20);
        let dir = Scratch::new("redis")?;
        let mut command = match tracer(&dir) {
            Some(mut command) => {
                command.arg(PROGRAM);
                command
            }
            None => Command::new(PROGRAM),
        };
        let port = free_port()?;
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--loglevel",
            "warning",
        ]);
        command.arg("--dir").arg(dir.path());
        let log = File::create(dir.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut group = Group::spawn(&mut command)?;
        let end = Instant::now() + STARTED;
        loop {
            if let Some(pid) = pid_behind(port) {
                // Its background threads and what traces it go where there is room.
                if let ([first, _, ..], true) = (&affinity::allowed()[..], pinned) {
                    affinity::pin_process(pid, *first);
                }
                return Ok(Self { group, port, pid, dir, pinned });
            }
            if let Some(status) = group.wait(Duration::from_millis(10)) {
                return Err(io::Error::other(format!(
                    "ended with {status} before it answered: {}",
                    last_lines(&dir)
                )));
            }
            if Instant::now() > end {
                return Err(io::Error::other(format!("does not answer: {}", last_lines(&dir))));
            }
        }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether it stays on the first CPU.
    pub(crate) fn pinned(&self) -> bool {
        self.pinned
    }

    /// Its files.
    pub(crate) fn dir(&self) -> &Scratch {
        &self.dir
    }

    /// CPU time that its threads have used, user and system, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> io::Result<u64> {
        let mut total = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            // First field: time on a CPU in nanoseconds; utime + stime of /proc/PID/stat in units
            // that a run of seconds can be told by.
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            total += text
                .split(' ')
                .next()
                .and_then(|n| n.parse::<u64>().ok())
                .ok_or_else(|| io::Error::other("no schedstat"))?;
        }
        Ok(total)
    }

    /// Commands that it has executed.
    pub(crate) fn commands(&self) -> io::Result<u64> {
        let info = ask(self.port, "INFO stats")?;
        field(&info, "total_commands_processed:")
            .ok_or_else(|| io::Error::other("no total_commands_processed"))
    }

    /// Asks it to end, waits for it and its tracer, and returns the directory with what the tracer
    /// has written.
    pub(crate) fn stop(mut self) -> io::Result<Scratch> {
        const ENDED: Duration = Duration::from_secs(120);
        // The answer is a closed connection.
        let _ = ask(self.port, "SHUTDOWN NOSAVE");
        match self.group.wait(ENDED) {
            Some(status) if status.success() => Ok(self.dir),
            Some(status) => {
                Err(io::Error::other(format!("ended with {status}: {}", last_lines(&self.dir))))
            }
            None => Err(io::Error::other("did not end")),
        }
    }
}

/// A port from 20000 to 32000 that nobody listens on: those above are given to whoever asks for
/// any.
pub(crate) fn free_port() -> io::Result<u16> {
    const COUNT: u32 = 12_000;
    let start = std::process::id() % COUNT;
    let ports = (0..COUNT).map(|n| 20_000 + ((start + n * 7) % COUNT) as u16);
    for port in ports {
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other("no free port between 20000 and 32000"))
}

fn pid_behind(port: u16) -> Option<u32> {
    field(&ask(port, "INFO server").ok()?, "process_id:")
}

fn field<T: std::str::FromStr>(info: &str, name: &str) -> Option<T> {
    info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Sends an inline command and reads the answer's first bulk string.
fn ask(port: u16, command: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "{command}\r\n")?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let n = stream.read(&mut part)?;
        answer.extend_from_slice(&part[..n]);
        let text = String::from_utf8_lossy(&answer);
        let whole = text.split_once("\r\n").is_some_and(|(head, body)| {
            match head.strip_prefix('$').map(str::parse::<usize>) {
                Some(Ok(length)) => body.len() >= length,
                _ => true,
            }
        });
        if n == 0 || whole {
            return Ok(text.into_owned());
        }
    }
}

fn last_lines(dir: &Scratch) -> String {
    let text = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_of_info() {
        let info = "$40\r\n# Server\r\nprocess_id:42\r\nrun_id:x\r\n";
        assert_eq!(field::<u32>(info, "process_id:"), Some(42));
        assert_eq!(field::<u32>(info, "tcp_port:"), None);
    }
}
