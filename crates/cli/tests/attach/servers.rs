//! Servers under load, entered and left: no client sees it.

use super::common::postgres;
use super::common::process::{Running, program, run, start, wait_until};
use super::common::redis::{self, Server};
use super::common::tools;
use super::running::{Attached, code, state};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Requests that are answered before, while and after a server is attached to.
const REQUESTS: u64 = 300;
const CLIENTS: usize = 8;

/// A file of a server's, asked for again and again.
struct Load<'a> {
    port: u16,
    body: &'a [u8],
    over: AtomicBool,
    answered: AtomicU64,
    /// The first thing that was not as it should be.
    wrong: Mutex<Option<String>>,
}

impl<'a> Load<'a> {
    fn new(port: u16, body: &'a [u8]) -> Self {
        let (over, answered, wrong) = Default::default();
        Self { port, body, over, answered, wrong }
    }

    /// One request on a connection of its own. `None`: it was answered as it should be.
    fn ask(&self) -> Option<String> {
        let asked = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.write_all(b"GET /file HTTP/1.0\r\n\r\n")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        match asked() {
            Err(error) => Some(error.to_string()),
            Ok(answer) if !answer.starts_with(b"HTTP/1.") || !answer.ends_with(self.body) => {
                Some(format!("{} bytes: {}", answer.len(), answer.escape_ascii()))
            }
            Ok(_) => None,
        }
    }

    fn client(&self) {
        while !self.over.load(Ordering::Relaxed) {
            match self.ask() {
                None => _ = self.answered.fetch_add(1, Ordering::Relaxed),
                Some(wrong) => {
                    self.wrong.lock().expect("nobody panics").get_or_insert(wrong);
                }
            }
        }
    }

    /// Waits for some more answers.
    fn go_on(&self) {
        let enough = self.answered.load(Ordering::Relaxed) + REQUESTS;
        wait_until("answers", || {
            let wrong = self.wrong.lock().expect("nobody panics");
            self.answered.load(Ordering::Relaxed) >= enough || wrong.is_some()
        });
    }

    /// Attaches and detaches while clients ask: the hits of each time.
    fn attached(&self, pids: &[i32], spec: &str) -> Vec<u64> {
        let list: Vec<String> = pids.iter().map(i32::to_string).collect();
        let before: Vec<_> = pids.iter().map(|pid| code(*pid)).collect();
        let hits = std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| self.client());
            }
            let mut hits = Vec::new();
            for _ in 0..3 {
                self.go_on();
                let attached = Attached::to(&["-p", &list.join(","), spec]);
                self.go_on();
                let (report, finished) = attached.interrupt();
                assert_eq!(finished.code, 0, "{}", finished.stderr);
                assert!(report.lost().is_empty(), "{:?}", report.lost());
                hits.push(report.0["hits"].as_u64().expect("a number"));
            }
            self.go_on();
            self.over.store(true, Ordering::Relaxed);
            hits
        });
        assert_eq!(*self.wrong.lock().expect("nobody panics"), None);
        for (pid, before) in pids.iter().zip(before) {
            assert!(code(*pid) == before, "{pid}: its code is as before");
            assert!(matches!(state(*pid), Some('R' | 'S')), "{pid}");
        }
        hits
    }
}

/// What is to be served, and a server's own files beside it.
fn folder() -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a directory");
    let body: Vec<u8> = (0..20_000_u32).flat_map(|n| (n * n).to_le_bytes()).collect();
    fs::write(folder.path().join("file"), &body).expect("a file");
    (folder, body)
}

fn await_answer(load: &Load<'_>, server: &mut Running) {
    wait_until("an answer", || {
        let ended = server.child.try_wait().expect("ours");
        assert!(ended.is_none(), "the server ended: {ended:?}");
        load.ask().is_none()
    });
}

fn children(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).expect("it runs");
    children.split_whitespace().map(|pid| pid.parse().expect("a number")).collect()
}

/// Master and workers; every function.
#[test]
fn nginx() {
    let Some(nginx) = tools::find("nginx") else { return };
    let (folder, body) = folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let port = redis::free_port();
    // The workers are to read a folder of root's.
    let user = if super::common::process::is_root() { "user root;" } else { "" };
    let settings = format!(
        "daemon off; {user} worker_processes 2; pid {}; error_log {}; events {{}}\n\
            http {{ access_log off; client_body_temp_path {}; proxy_temp_path {}; \
            fastcgi_temp_path {}; uwsgi_temp_path {}; scgi_temp_path {}; \
            server {{ listen 127.0.0.1:{port}; root {}; }} }}\n",
        at("pid"),
        at("log"),
        at("client"),
        at("proxy"),
        at("fastcgi"),
        at("uwsgi"),
        at("scgi"),
        folder.path().display()
    );
    fs::write(at("settings"), settings).expect("a file");
    let mut server = start(program(nginx).args(["-c", &at("settings")]));
    let load = Load::new(port, &body);
    await_answer(&load, &mut server);
    // The first of them may have answered.
    wait_until("two workers", || children(server.id()).len() == 2);
    let mut pids = vec![server.id()];
    pids.extend(children(server.id()));
    let hits = load.attached(&pids, "nginx:*");
    assert!(hits.iter().all(|hits| *hits > REQUESTS), "{hits:?}");
}

/// A child for each request; every function of it and its C library, for Debian's has no names of
/// its own.
#[test]
fn busybox_httpd() {
    let Some(busybox) = tools::find("busybox") else { return };
    let has_it = program(&busybox).arg("--list").output().expect("it starts").stdout;
    if !String::from_utf8_lossy(&has_it).lines().any(|applet| applet == "httpd") {
        return tools::missing("busybox's httpd");
    }
    let (folder, body) = folder();
    let port = redis::free_port();
    let mut command = program(busybox);
    command.args(["httpd", "-f", "-p", &format!("127.0.0.1:{port}"), "-h"]).arg(folder.path());
    let mut server = start(&mut command);
    let load = Load::new(port, &body);
    await_answer(&load, &mut server);
    let hits = load.attached(&[server.id()], "*:*");
    assert!(hits.iter().all(|hits| *hits > REQUESTS), "{hits:?}");
}

/// What is done while it is attached is counted exactly; and redis-benchmark, which ends at the
/// first error, does not see when that begins and ends.
#[test]
fn redis_server() {
    if tools::find("redis-server").is_none() || tools::find("redis-benchmark").is_none() {
        return;
    }
    let server = Server::start(None);
    let mut client = server.connect();
    let said = client.ask(&["INFO", "server"]);
    let pid = said.lines().find_map(|line| line.strip_prefix("process_id:")).expect("a number");
    let number: i32 = pid.trim().parse().expect("a number");
    let before = code(number);
    let load = ["-n", "20000", "-t", "set,get,lpush", "-P", "8", "-c", "20", "-q"];
    let attached = Attached::to(&["-p", pid.trim(), "redis-server:call"]);
    let done = client.executed();
    server.benchmark(&load);
    let done = client.executed() - done;
    let (report, finished) = attached.interrupt();
    // The first INFO is in its own answer only afterwards, and the last one not at all.
    assert_eq!(report.calls("call"), done + 1, "{}", finished.stderr);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (over, server) = (&over, &server);
        let loads = scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                server.benchmark(&load);
            }
        });
        for _ in 0..3 {
            let attached = Attached::to(&["-p", pid.trim(), "redis-server:*"]);
            let (report, finished) = attached.interrupt();
            assert_eq!(finished.code, 0, "{}", finished.stderr);
            assert!(report.lost().is_empty(), "{:?}", report.lost());
        }
        over.store(true, Ordering::Relaxed);
        loads.join().expect("no error");
    });
    assert!(code(number) == before, "its code is as before");
    client.shut_down();
    assert_eq!(server.finish().0.code, 0);
}

/// All processes of a server, which are given by number, for other tests have servers of that name;
/// and those that it forks meanwhile. The server's log says how many statements there were; so does
/// the count.
#[test]
fn postgresql() {
    let Some(bin) = postgres::programs() else { return };
    if super::common::process::is_root() && tools::find("setpriv").is_none() {
        return;
    }
    let server = postgres::Server::start(&bin, None);
    let script = server.directory.path().join("script");
    fs::write(&script, "SELECT 1;\n").expect("a file");
    let pgbench = |times: &str, each: &[&str]| {
        let mut client = server.client("pgbench");
        client.args(["-n", "-t", times]).args(each).arg("-f").arg(&script).arg("postgres");
        let done = run(&mut client, b"");
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(!done.stderr.contains("error"), "{}", done.stderr);
    };
    pgbench("10", &["-C"]);
    let statements = || server.log().matches("LOG:  statement:").count() as u64;
    for _ in 0..2 {
        let mut pids = vec![server.pid()];
        pids.extend(children(server.pid()));
        let list: Vec<String> = pids.iter().map(i32::to_string).collect();
        let before = code(server.pid());
        let attached = Attached::to(&["-p", &list.join(","), "postgres:*"]);
        let own = statements();
        // A backend for each transaction, and then one for a hundred.
        pgbench("30", &["-C"]);
        pgbench("100", &["-c", "2"]);
        let own = statements() - own;
        let (report, finished) = attached.interrupt();
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        assert_eq!(report.calls("raw_parser"), own, "{}", finished.stderr);
        assert!(own >= 230 && report.lost().is_empty(), "{own}: {:?}", report.lost());
        assert!(code(server.pid()) == before, "its code is as before");
        pgbench("10", &["-C"]);
    }
    assert_eq!(server.finish().0.code, 0);
}
