//! PostgreSQL, which forks a process for each connection: every function of it, 2,000 connections.

mod common;

use common::postgres::{Server, programs};
use common::process::run;
use common::{Report, tools};

/// Connections, each with one statement.
const CONNECTIONS: usize = 2000;
/// After so many of them the memory has found its size.
const FIRST: usize = 100;
/// What the counters may still grow by: pages of functions that none of the first connections
/// called, and the blocks (of 4.6 MiB, all pages used) of a few processes more than there were at
/// one time before: a connection that begins before the last one's process has ended, a worker of
/// autovacuum. Blocks that are not used again would be gigabytes.
const GROWTH: u64 = 16 << 20;

/// The server's log says how many connections and statements there were; so do the counts. Memory
/// is that of the processes which there are at one time, however many there were.
#[test]
fn two_thousand_connections() {
    let Some(bin) = programs() else { return };
    if common::process::is_root() && tools::find("setpriv").is_none() {
        return;
    }
    let server = Server::start(&bin, Some(&["postgres:*"]));
    let script = server.directory.path().join("script");
    std::fs::write(&script, "SELECT 1;\n").expect("a file");
    let connect = |times: usize| {
        let mut client = server.client("pgbench");
        let done = run(
            client
                .args(["-n", "-C", "-t"])
                .arg(times.to_string())
                .arg("-f")
                .arg(&script)
                .arg("postgres"),
            b"",
        );
        assert_eq!(done.code, 0, "{}", done.stderr);
        let all = format!("number of transactions actually processed: {times}/{times}");
        assert!(done.stdout.contains(&all), "{}", done.stdout);
    };
    connect(FIRST);
    let first = server.counters();
    connect(CONNECTIONS - FIRST);
    let last = server.counters();
    let log = server.log();
    let (finished, directory) = server.finish();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let report = Report::read(&directory.path().join("report")).expect("a report");
    assert!(report.lost().is_empty(), "{:?}", report.lost());
    let times = |what: &str| log.matches(what).count() as u64;
    let connections = times("LOG:  connection authorized:");
    assert!(connections >= CONNECTIONS as u64, "{connections}");
    assert_eq!(report.calls("PostgresMain"), connections);
    assert_eq!(report.calls("raw_parser"), times("LOG:  statement:"));
    assert!(report.0["processes"].as_u64() > Some(connections), "{}", report.0["processes"]);
    assert!(
        last <= first + GROWTH,
        "{first} bytes after {FIRST} connections, {last} after {CONNECTIONS}"
    );
}
