//! Servers under load: bare, attached to, started under trapline, and after the end of an attach.

use super::http;
use crate::group::Group;
use crate::redis::{load, server};
use crate::scratch::Scratch;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Bare,
    Attached,
    Launched,
    /// As it is once trapline has left.
    Detached,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::Bare, Self::Attached, Self::Launched, Self::Detached];

    /// In the tables.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Attached => "attached",
            Self::Launched => "launched",
            Self::Detached => "after detaching",
        }
    }
}

/// Which server, and what is counted in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// One function, each command's.
    RedisCall,
    RedisAll,
    NginxAll,
}

impl Subject {
    pub(super) const ALL: [Self; 3] = [Self::RedisCall, Self::RedisAll, Self::NginxAll];

    /// In the tables.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::RedisCall => "redis, entry of call",
            Self::RedisAll => "redis, entries of all functions",
            Self::NginxAll => "nginx, entries of all functions",
        }
    }

    /// The programs that it needs.
    pub(super) fn programs(self) -> &'static [&'static str] {
        match self {
            Self::NginxAll => &["nginx"],
            _ => &[server::PROGRAM, load::PROGRAM],
        }
    }

    fn spec(self) -> &'static str {
        match self {
            Self::RedisCall => "entry:redis-server:call",
            Self::RedisAll => "entry:redis-server:*",
            Self::NginxAll => "entry:nginx:*",
        }
    }

    /// Requests per second.
    ///
    /// # Errors
    /// The server did not start, a request failed, or trapline did.
    pub(super) fn run(self, way: Way, trapline: &Path, seconds: f64) -> io::Result<f64> {
        let launched = (way == Way::Launched).then(|| {
            let mut command = Command::new(trapline);
            command.args(["stat", "-o", "/dev/null", self.spec(), "--"]);
            command
        });
        if self == Self::NginxAll {
            let server = Nginx::start(launched)?;
            return measured(way, trapline, self.spec(), &server.pids()?, |warm| {
                http::run(server.port, 4, if warm { 0.2 } else { seconds })
            });
        }
        let server = server::Server::start(false, |_| launched)?;
        let rate = measured(way, trapline, self.spec(), &[server.pid()], |warm| {
            // As many as take about so long.
            let rate = load::run(&server, 20_000)?.both();
            if warm {
                return Ok(rate);
            }
            Ok(load::run(&server, ((rate / 2.0 * seconds) as u64).max(1000))?.both())
        })?;
        server.stop()?;
        Ok(rate)
    }
}

/// Measures a server that runs, by `load`, once it was warmed up and is in the state that is asked
/// for.
fn measured(
    way: Way,
    trapline: &Path,
    spec: &str,
    pids: &[u32],
    load: impl Fn(bool) -> io::Result<f64>,
) -> io::Result<f64> {
    load(true)?;
    if !matches!(way, Way::Attached | Way::Detached) {
        return load(false);
    }
    let attached = Attached::to(trapline, spec, pids)?;
    load(true)?;
    if way == Way::Detached {
        attached.leave()?;
        return load(false);
    }
    let rate = load(false)?;
    attached.leave()?;
    Ok(rate)
}

/// `trapline stat -p`, which counts.
struct Attached {
    group: Group,
    _folder: Scratch,
}

impl Attached {
    fn to(trapline: &Path, spec: &str, pids: &[u32]) -> io::Result<Self> {
        let folder = Scratch::new("inject")?;
        let report = folder.path().join("report");
        let list: Vec<String> = pids.iter().map(u32::to_string).collect();
        let mut command = Command::new(trapline);
        // The first report comes when everything is armed; after that it is to be quiet.
        command.args(["stat", "-j", "-i", "500ms", "-p", &list.join(","), "-o"]);
        command.arg(&report).arg(spec);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut group = Group::spawn(&mut command)?;
        await_that(&mut group, || {
            fs::read_to_string(&report).is_ok_and(|text| text.contains('\n'))
        })?;
        Ok(Self { group, _folder: folder })
    }

    fn leave(mut self) -> io::Result<()> {
        self.group.signal(libc::SIGINT);
        match self.group.wait(Duration::from_secs(60)) {
            Some(status) if status.success() => Ok(()),
            status => Err(io::Error::other(format!("trapline did not leave: {status:?}"))),
        }
    }
}

/// Waits for something that a process does.
fn await_that(group: &mut Group, is_done: impl Fn() -> bool) -> io::Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_done() {
        if let Some(status) = group.wait(Duration::from_millis(10)) {
            return Err(io::Error::other(format!("ended with {status}")));
        }
        if Instant::now() > end {
            return Err(io::Error::other("takes too long"));
        }
    }
    Ok(())
}

/// A server of one worker.
struct Nginx {
    group: Group,
    port: u16,
    pid_file: PathBuf,
    _folder: Scratch,
}

impl Nginx {
    fn start(launched: Option<Command>) -> io::Result<Self> {
        let folder = Scratch::new("inject")?;
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), vec![b'x'; 1000])?;
        let port = server::free_port()?;
        // Its worker is to read a folder of ours.
        let is_root = std::os::unix::fs::MetadataExt::uid(&fs::metadata(at("file"))?) == 0;
        let user = if is_root { "user root;" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {}; ", at(name).display()))
            .collect();
        let settings = format!(
            "daemon off; {user} worker_processes 1; pid {}; error_log {}; events {{}} \
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
        await_that(&mut group, || at("pid").exists() && answers())?;
        Ok(Self { group, port, pid_file: at("pid"), _folder: folder })
    }

    /// The master and its worker.
    fn pids(&self) -> io::Result<Vec<u32>> {
        let master = fs::read_to_string(&self.pid_file)?;
        let master: u32 = master.trim().parse().map_err(io::Error::other)?;
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        Ok([master].into_iter().chain(children).collect())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It ends its worker, which is in its group otherwise killed at once.
        self.group.signal(libc::SIGTERM);
        self.group.wait(Duration::from_secs(5));
    }
}
