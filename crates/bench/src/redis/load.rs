//! The load: redis-benchmark with pipelining.

use super::server::Server;
use crate::affinity;
use crate::group::Group;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The client's program.
pub(crate) const PROGRAM: &str = "redis-benchmark";

/// Requests per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rates {
    /// SET.
    pub(crate) set: f64,
    /// GET.
    pub(crate) get: f64,
}

impl Rates {
    /// Requests per second of as many SETs as GETs.
    pub(crate) fn both(self) -> f64 {
        2.0 / (1.0 / self.set + 1.0 / self.get)
    }
}

/// `requests` SETs, then as many GETs, 16 at a time on 50 connections.
pub(crate) fn run(server: &Server, requests: u64) -> io::Result<Rates> {
    const LIMIT: Duration = Duration::from_secs(300);
    let mut command = Command::new(PROGRAM);
    command.args([
        "-h",
        "127.0.0.1",
        "-p",
        &server.port().to_string(),
        "-P",
        "16",
        "-c",
        "50",
        "-t",
        "set,get",
        "--csv",
    ]);
    command
        .args(["-n", &requests.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut client = Group::spawn(&mut command)?;
    if let ([_, second, ..], true) = (&affinity::allowed()[..], server.pinned()) {
        affinity::pin_process(client.child().id(), *second);
    }
    let status = client.wait(LIMIT);
    let mut text = String::new();
    if status.is_some_and(|s| s.success())
        && let Some(mut out) = client.child().stdout.take()
    {
        out.read_to_string(&mut text)?;
    }
    parse(&text).ok_or_else(|| io::Error::other(format!("{PROGRAM} did not finish ({status:?})")))
}

/// The second column of the rows SET and GET.
fn parse(csv: &str) -> Option<Rates> {
    let rate = |test: &str| {
        csv.lines().find_map(|line| {
            let mut fields = line.split(',').map(|f| f.trim_matches('"'));
            if fields.next() == Some(test) {
                fields.next()?.parse::<f64>().ok().filter(|rate| *rate > 0.0)
            } else {
                None
            }
        })
    };
    Some(Rates { set: rate("SET")?, get: rate("GET")? })
}

#[cfg(test)]
mod tests {
    use super::{Rates, parse};

    #[test]
    fn rates_are_read_from_csv() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"1000.50\",\"0.4\"\n\
            \"GET\",\"3001.50\",\"0.3\"\n";
        let rates = parse(csv).expect("both rows");
        assert_eq!(rates, Rates { set: 1000.5, get: 3001.5 });
        assert!((rates.both() - 1500.75).abs() < 0.01);
        assert_eq!(parse("\"SET\",\"10\"\n"), None);
        assert_eq!(parse("\"SET\",\"0.0\"\n\"GET\",\"1\"\n"), None);
    }
}
