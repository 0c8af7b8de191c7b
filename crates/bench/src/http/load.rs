//! Who asks the server: wrk, or clients in this process.

use crate::group::Group;
use crate::scratch::Scratch;
use crate::web;
use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Connections at a time.
pub(super) const CONNECTIONS: usize = 16;

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Debian's program.
    Wrk,
    /// A thread of this process for each connection.
    Own,
}

/// What it found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Requests that were answered.
    pub(super) requests: f64,
    /// The same by second.
    pub(super) rate: f64,
    /// What 99.9 % of the answers took at most, in milliseconds.
    pub(super) late: f64,
}

/// wrk prints percentiles up to 99: the rest it has to be asked for.
const SCRIPT: &str = "\
done = function(summary, latency, requests)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format('found %d %d %.3f %d\\n',
        summary.requests, summary.duration, latency:percentile(99.9), failed))
end
";

impl Load {
    pub(super) const ALL: [Self; 2] = [Self::Wrk, Self::Own];

    /// In tables.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Wrk => "wrk",
            Self::Own => "clients in process",
        }
    }

    /// The program that it needs.
    pub(super) fn program(self) -> Option<&'static str> {
        (self == Self::Wrk).then_some("wrk")
    }

    /// Asks for so long, on so many connections.
    ///
    /// # Errors
    /// A request failed, or wrk did.
    pub(super) fn run(
        self,
        port: u16,
        path: &str,
        connections: usize,
        seconds: f64,
    ) -> io::Result<Found> {
        match self {
            Self::Wrk => wrk(port, path, connections, seconds),
            Self::Own => {
                let answered = web::run(port, path, connections, seconds)?;
                let late = answered.latency.quantile(0.999).unwrap_or(0);
                let requests = answered.latency.total() as f64;
                Ok(Found { requests, rate: answered.rate, late: late as f64 / 1e6 })
            }
        }
    }
}

fn wrk(port: u16, path: &str, connections: usize, seconds: f64) -> io::Result<Found> {
    let folder = Scratch::new("wrk")?;
    let (script, output) = (folder.path().join("found.lua"), folder.path().join("output"));
    fs::write(&script, SCRIPT)?;
    let mut command = Command::new("wrk");
    // It takes whole seconds.
    let whole = (seconds.ceil() as u64).max(1);
    command.args(["-t1", &format!("-c{connections}"), &format!("-d{whole}s"), "-s"]);
    command.arg(&script).arg(format!("http://127.0.0.1:{port}{path}"));
    command.stdin(Stdio::null()).stdout(fs::File::create(&output)?).stderr(Stdio::null());
    let mut group = Group::spawn(&mut command)?;
    let status = group.wait(Duration::from_secs(whole + 30));
    let text = fs::read_to_string(&output)?;
    found(&text).ok_or_else(|| io::Error::other(format!("wrk ended with {status:?}: {text}")))
}

/// What the script says. `None`: nothing, or that a request failed.
fn found(text: &str) -> Option<Found> {
    let line = text.lines().find_map(|line| line.strip_prefix("found "))?;
    let mut fields = line.split(' ').map(|field| field.parse::<f64>().ok());
    let (requests, microseconds) = (fields.next()??, fields.next()??);
    let (late, failed) = (fields.next()??, fields.next()??);
    (requests > 0.0 && failed == 0.0).then(|| Found {
        requests,
        rate: requests * 1e6 / microseconds,
        late: late / 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::found;

    #[test]
    fn what_the_script_says() {
        let all = found("Running 1s test\nfound 5000 1000000 250.000 0\n").expect("found");
        assert_eq!((all.rate, all.late), (5000.0, 0.25));
        assert!(found("found 5000 1000000 250.000 3\n").is_none(), "some failed");
        assert!(found("unable to connect\n").is_none());
    }
}
