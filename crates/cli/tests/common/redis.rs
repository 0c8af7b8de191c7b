//! A redis server of one test's own, and a client that keeps what it is answered.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use super::process::{Finished, Running, program, start, trapline, wait_until};

/// A running server.
pub(crate) struct Server {
    running: Running,
    /// Where it listens on 127.0.0.1.
    pub(crate) port: u16,
    directory: tempfile::TempDir,
}

/// A port from 20000 to 32000 that nobody uses at the moment, and that no other test of this
/// process gets. Those above are given to whoever asks for any: other servers, and clients, of
/// which one that connects to its own port hears itself.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("below the count");
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| FIRST + (start + TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .take(10_000)
        .find(free)
        .expect("some port is free")
}

/// Whether a redis server answers there.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut answer = [0; 7];
    let asked = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let asked = asked.and_then(|()| stream.write_all(b"PING\r\n"));
    asked.and_then(|()| stream.read_exact(&mut answer)).is_ok() && answer == *b"+PONG\r\n"
}

impl Server {
    /// Starts `redis-server` bare, or under `trapline stat` with `specs`.
    pub(crate) fn start(specs: Option<&[&str]>) -> Self {
        Self::start_by(|directory| match specs {
            // Runs what follows, in the same process.
            None => program("env"),
            Some(specs) => {
                let mut command = trapline();
                command
                    .args(["stat", "-j", "-o"])
                    .arg(directory.join("report"))
                    .args(specs)
                    .arg("--");
                command
            }
        })
    }

    /// Starts `redis-server` by a command that runs what is appended to it. It is told the
    /// directory that the server works in.
    pub(crate) fn start_by(command: impl FnOnce(&Path) -> Command) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let mut command = command(directory.path());
        command.arg("redis-server");
        let port_text = port.to_string();
        command
            .args([
                "--port",
                &port_text,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--logfile",
                "log",
                "--enable-debug-command",
                "yes",
                "--dir",
            ])
            .arg(directory.path());
        let mut server = Self { running: start(&mut command), port, directory };
        wait_until("redis-server answers", || {
            let ended = server.running.child.try_wait().expect("ours");
            assert!(ended.is_none(), "the server ended: {ended:?}\n{}", server.errors());
            answers(server.port)
        });
        server
    }

    fn errors(&mut self) -> String {
        let mut text =
            std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        if let Some(mut stderr) = self.running.child.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }

    /// Where the report will be.
    pub(crate) fn report(&self) -> PathBuf {
        self.directory.path().join("report")
    }

    /// The directory that the server works in.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Client { reader: BufReader::new(stream.try_clone().expect("a second handle")), stream }
    }

    /// Runs redis-benchmark against it.
    pub(crate) fn benchmark(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", &self.port.to_string()]).args(arguments);
        let output = super::process::run(&mut command, b"");
        assert_eq!(output.code, 0, "redis-benchmark: {}{}", output.stdout, output.stderr);
        output.stdout
    }

    /// Waits for the server's end after a SHUTDOWN or a signal.
    pub(crate) fn finish(self) -> (Finished, tempfile::TempDir) {
        (self.running.finish(b""), self.directory)
    }
}

/// A connection.
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
    stream: TcpStream,
}

impl Client {
    /// Sends one command without waiting.
    pub(crate) fn send(&mut self, command: &[&str], out: &mut Vec<u8>) {
        let _ = write!(out, "*{}\r\n", command.len());
        for word in command {
            let _ = write!(out, "${}\r\n{word}\r\n", word.len());
        }
    }

    /// Sends commands together, and gives their answers in the protocol's own text.
    pub(crate) fn pipeline(&mut self, commands: &[Vec<&str>]) -> Vec<String> {
        let mut out = Vec::new();
        for command in commands {
            self.send(command, &mut out);
        }
        self.stream.write_all(&out).expect("the server reads");
        commands.iter().map(|_| self.answer()).collect()
    }

    /// One command and its answer.
    pub(crate) fn ask(&mut self, command: &[&str]) -> String {
        self.pipeline(&[command.to_vec()]).remove(0)
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        let n = self.reader.read_line(&mut line).expect("the server answers");
        assert!(n > 0, "the server closed the connection");
        let mut text = line.clone();
        let number = || line[1..].trim().parse::<i64>().expect("a number");
        match line.as_bytes()[0] {
            b'$' if number() >= 0 => {
                let mut bytes = vec![0; usize::try_from(number()).expect("a length") + 2];
                self.reader.read_exact(&mut bytes).expect("the server answers");
                text.push_str(&String::from_utf8_lossy(&bytes));
            }
            b'*' => {
                for _ in 0..number().max(0) {
                    text.push_str(&self.answer());
                }
            }
            _ => {}
        }
        text
    }

    /// Sum of all commands executed so far, by the server's own statistics: INFO itself is not in
    /// it.
    pub(crate) fn executed(&mut self) -> u64 {
        let text = self.ask(&["INFO", "commandstats"]);
        let calls = text
            .lines()
            .filter(|line| line.starts_with("cmdstat_"))
            .filter_map(|line| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok());
        calls.sum()
    }

    /// Ends the server.
    pub(crate) fn shut_down(mut self) {
        let mut out = Vec::new();
        self.send(&["SHUTDOWN", "NOSAVE"], &mut out);
        self.stream.write_all(&out).expect("the server reads");
        let mut rest = Vec::new();
        let _ = self.reader.read_to_end(&mut rest);
        assert!(rest.is_empty(), "SHUTDOWN was answered {}", String::from_utf8_lossy(&rest));
    }
}
