//! nginx on a free port of 127.0.0.1, bare or under a tracer.

use crate::group::Group;
use crate::redis::server;
use crate::scratch::Scratch;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What it gives out: a thousand bytes.
pub(crate) const FILE: &str = "/file";

/// A server that gives out one file.
pub(crate) struct Nginx {
    group: Group,
    port: u16,
    pid_file: PathBuf,
    _folder: Scratch,
}

impl Nginx {
    /// Starts it with so many workers behind `launched`, a command that takes the traced command
    /// behind its own arguments, or alone; and waits until it answers.
    ///
    /// # Errors
    /// It cannot be started, or ends.
    pub(crate) fn start(launched: Option<Command>, workers: usize) -> io::Result<Self> {
        let folder = Scratch::new("nginx")?;
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), vec![b'x'; 1000])?;
        let port = server::free_port()?;
        // Its workers are to read a folder of ours.
        let is_root = std::os::unix::fs::MetadataExt::uid(&fs::metadata(at("file"))?) == 0;
        let user = if is_root { "user root;" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {}; ", at(name).display()))
            .collect();
        let settings = format!(
            "daemon off; {user} worker_processes {workers}; pid {}; error_log {}; events {{}} \
                http {{ access_log off; keepalive_requests 100000000; {temporary} \
                server {{ listen 127.0.0.1:{port}; root {}; }} }}\n",
            at("pid").display(),
            at("log").display(),
            folder.path().display()
        );
        fs::write(at("settings"), settings)?;
        let mut command = launched.map_or_else(
            || Command::new("nginx"),
            |mut command| {
                command.arg("nginx");
                command
            },
        );
        command.arg("-c").arg(at("settings"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut group = Group::spawn(&mut command)?;
        let answers = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        group.await_that(|| at("pid").exists() && answers())?;
        Ok(Self { group, port, pid_file: at("pid"), _folder: folder })
    }

    /// Where it listens, on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The master and its workers.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn pids(&self) -> io::Result<Vec<u32>> {
        let master = fs::read_to_string(&self.pid_file)?;
        let master: u32 = master.trim().parse().map_err(io::Error::other)?;
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        Ok([master].into_iter().chain(children).collect())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It ends its workers, which are in its group otherwise killed at once.
        self.group.signal(libc::SIGTERM);
        self.group.wait(Duration::from_secs(5));
    }
}
