//! Servers under load: bare, attached to, started under trapline, and after the end of an attach.

use crate::group::Group;
use crate::nginx::{self, Nginx};
use crate::redis::{load, server};
use crate::scratch::Scratch;
use crate::web;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

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
            let server = Nginx::start(launched, 1)?;
            return measured(way, trapline, self.spec(), &server.pids()?, |warm| {
                let seconds = if warm { 0.2 } else { seconds };
                web::run(server.port(), nginx::FILE, 4, seconds).map(|answered| answered.rate)
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
        group.await_that(|| fs::read_to_string(&report).is_ok_and(|text| text.contains('\n')))?;
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
