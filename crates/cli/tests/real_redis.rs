//! Debian's redis-server under redis-benchmark and a client that compares every answer.

mod common;

use common::redis::{Client, Server};
use common::{Report, tools};

fn available() -> bool {
    tools::find("redis-server").is_some() && tools::find("redis-benchmark").is_some()
}

/// `call` runs once per command, by the server's own statistics and by what redis-benchmark was
/// asked for.
#[test]
fn one_call_per_command() {
    if !available() {
        return;
    }
    for spec in ["redis-server:call", "entry:redis-server:call"] {
        let server = Server::start(Some(&[spec]));
        let output = server.benchmark(&["-n", "200000", "-t", "set", "-P", "16", "-c", "50", "-q"]);
        assert!(output.contains("SET"), "{output}");
        let mut client = server.connect();
        let stats = client.ask(&["INFO", "commandstats"]);
        assert!(stats.contains("cmdstat_set:calls=200000,"), "{stats}");
        let executed = client.executed();
        client.shut_down();
        let (finished, directory) = server.finish();
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        let report = Report::read(&directory.path().join("report")).expect("a report");
        // The second INFO, whose answer this is, and SHUTDOWN come on top.
        assert_eq!(report.calls("call"), executed + 2, "{spec}");
        assert!(report.lost().is_empty(), "{:?}", report.lost());
    }
}

/// Where it allocates, under load and in the child that saves: every hit is in the graph, and every
/// stack begins at the program's start.
#[test]
fn a_flame_graph_of_allocations() {
    if !available() {
        return;
    }
    let server = Server::start_by(|directory| {
        let mut command = common::trapline();
        command.args(["record", "redis-server:zmalloc"]);
        ["zmalloc.svg", "zmalloc.folded", "zmalloc.tlp"]
            .iter()
            .for_each(|name| _ = command.arg("-o").arg(directory.join(name)));
        command.arg("--");
        command
    });
    server.benchmark(&["-n", "100000", "-t", "set,get,lpush,zadd", "-P", "16", "-c", "50", "-q"]);
    let mut client = server.connect();
    assert!(client.ask(&["BGSAVE"]).starts_with('+'));
    common::process::wait_until("the save ends", || {
        client.ask(&["INFO", "persistence"]).contains("rdb_bgsave_in_progress:0")
    });
    client.shut_down();
    let (finished, directory) = server.finish();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let file = |name: &str| directory.path().join(name);
    let recording = common::Recording::read(&file("zmalloc.tlp")).expect("a recording");
    let report = recording.report().expect("hits and stacks add up");
    let hits = report.calls("zmalloc");
    assert!(hits > 300_000 && report.lost().is_empty(), "{hits} hits, lost: {:?}", report.lost());
    assert_eq!(recording.calls(|_| true), hits, "every hit has a stack");
    assert!(recording.cuts().is_empty(), "{:?}", recording.cuts());
    let folded = std::fs::read_to_string(file("zmalloc.folded")).expect("folded stacks");
    let weights = folded.lines().map(|line| line.rsplit_once(' ').expect("a weight"));
    assert_eq!(
        weights.clone().map(|(_, n)| n.parse::<u64>().expect("a number")).sum::<u64>(),
        hits
    );
    assert!(
        weights
            .clone()
            .all(|(stack, _)| stack.starts_with("_start;") && stack.ends_with(";zmalloc")),
        "{folded}"
    );
    let graph = std::fs::read_to_string(file("zmalloc.svg")).expect("a graph").replace(',', "");
    assert!(
        graph.contains(&format!("<title>all\n{hits} calls</title>")),
        "the whole graph is {hits} calls"
    );
}

/// Killed by a signal that it handles: the exit code is the server's own, and so with one that it
/// does not.
#[test]
fn the_exit_code_is_the_servers() {
    if !available() {
        return;
    }
    for specs in [&["redis-server:call"][..], &[]] {
        let server = Server::start(Some(specs));
        let mut client = server.connect();
        assert_eq!(client.ask(&["CONFIG", "SET", "shutdown-on-sigterm", "nosave"]), "+OK\r\n");
        let pid = client
            .ask(&["INFO", "server"])
            .lines()
            .find_map(|line| line.strip_prefix("process_id:")?.parse::<i32>().ok())
            .expect("a process id");
        common::process::send_signal(pid, libc::SIGKILL);
        let (finished, directory) = server.finish();
        assert_eq!(finished.code, 137);
        assert!(Report::read(&directory.path().join("report")).is_ok());
    }
}

/// 100,000 commands of many kinds, each answer kept; with Lua errors, a background save and a
/// reload in between.
fn mixed(client: &mut Client) -> Vec<String> {
    let mut answers = Vec::new();
    let mut state = 42u64;
    let mut next = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..1000 {
        let words: Vec<Vec<String>> = (0..100)
            .map(|_| {
                let (key, value) = (next(500), next(100_000));
                let text = match next(22) {
                    0 => format!("SET s{key} {value}"),
                    1 => format!("GET s{key}"),
                    2 => format!("INCRBY n{key} {value}"),
                    3 => format!("APPEND a{key} {value}"),
                    4 => format!("LPUSH l{key} {value} {key}"),
                    5 => format!("RPOP l{key}"),
                    6 => format!("LRANGE l{key} 0 5"),
                    7 => format!("SADD set{key} {}", value % 50),
                    8 => format!("SCARD set{key}"),
                    9 => format!("HSET h{key} f{} {value}", value % 20),
                    10 => format!("HGET h{key} f{}", value % 20),
                    11 => format!("ZADD z{} {value} m{}", key % 20, value % 300),
                    12 => format!("ZRANGEBYSCORE z{} 0 50000 LIMIT 0 7", key % 20),
                    13 => format!("DEL s{key} l{}", key / 2),
                    14 => format!("MSET s{key} 1 s{} 2", key + 1),
                    15 => format!("SETBIT b{} {} 1", key % 9, value % 4096),
                    16 => format!("PFADD p{} {value}", key % 5),
                    // An error: the key holds a value of another kind.
                    17 => format!("LPUSH h{key} {value}"),
                    18 => format!("NOSUCHCOMMAND {value}"),
                    19 => format!("GETRANGE a{key} 0 10"),
                    20 => format!("SORT l{key} LIMIT 0 4"),
                    _ => format!("EXISTS s{key} n{key}"),
                };
                text.split(' ').map(str::to_owned).collect()
            })
            .collect();
        let commands: Vec<Vec<&str>> =
            words.iter().map(|command| command.iter().map(String::as_str).collect()).collect();
        answers.extend(client.pipeline(&commands));
        let count = round.to_string();
        if round % 20 == 0 {
            answers.push(client.ask(&[
                "EVAL",
                "local n = 0; for i = 1, 200 do local ok = pcall(error, {i}); if not ok then n = \
                    n + 1 end end; return n",
                "0",
            ]));
            answers.push(client.ask(&[
                "EVAL",
                "return redis.call('LPUSH', KEYS[1], ARGV[1])",
                "1",
                "h1",
                &count,
            ]));
            answers.push(client.ask(&["EVAL", "error('thrown ' .. ARGV[1])", "0", &count]));
            answers.push(client.ask(&["EVAL", "return redis.pcall('INCR', KEYS[1])", "1", "n7"]));
            answers.push(client.ask(&["EVAL", "return syntax error", "0"]));
        }
        if round == 300 || round == 700 {
            answers.push(client.ask(&["BGSAVE"]));
            common::process::wait_until("the background save ends", || {
                client.ask(&["INFO", "persistence"]).contains("rdb_bgsave_in_progress:0")
            });
            assert!(client.ask(&["INFO", "persistence"]).contains("rdb_last_bgsave_status:ok"));
        }
        if round == 800 {
            answers.push(client.ask(&["BGREWRITEAOF"]));
            common::process::wait_until("the rewrite ends", || {
                client.ask(&["INFO", "persistence"]).contains("aof_rewrite_in_progress:0")
            });
            answers.push(client.ask(&["DEBUG", "RELOAD"]));
        }
    }
    // Transactions, and a digest of all data.
    answers.extend(client.pipeline(&[
        vec!["MULTI"],
        vec!["INCR", "n1"],
        vec!["LPUSH", "h1", "x"],
        vec!["GET", "n1"],
        vec!["EXEC"],
    ]));
    answers.push(client.ask(&["DBSIZE"]));
    answers.push(client.ask(&["DEBUG", "DIGEST"]));
    answers
}

/// No SPEC: every function of the server, 200,000 commands, all answers as bare.
#[test]
fn every_function() {
    if !available() {
        return;
    }
    let server = Server::start(None);
    let mut client = server.connect();
    let expected = mixed(&mut client);
    client.shut_down();
    assert_eq!(server.finish().0.code, 0);

    let server = Server::start(Some(&[]));
    let mut client = server.connect();
    let answers = mixed(&mut client);
    for (number, (bare, probed)) in expected.iter().zip(&answers).enumerate() {
        assert_eq!(bare, probed, "answer {number}");
    }
    assert_eq!(expected.len(), answers.len());
    server.benchmark(&["-n", "6000", "-P", "16", "-c", "50", "-q", "-r", "1000"]);
    let executed = client.executed();
    client.shut_down();
    let (finished, directory) = server.finish();
    let log = std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
    assert_eq!(finished.code, 0, "{}\n{log}", finished.stderr);
    assert!(executed >= 200_000, "{executed} commands");
    let report = Report::read(&directory.path().join("report")).expect("a report");
    assert!(report.problems().is_empty(), "{:?}", report.problems());
    assert_eq!(report.calls("call"), executed + 2);
    assert!(report.armed() >= 3_200, "{} armed", report.armed());
    assert!(report.lost().is_empty(), "{:?}", report.lost());
}
