//! `--serve`: a small web server for one recording.
//!
//! It answers GET and HEAD, a connection for each request. On a loopback address it refuses
//! requests that name another host: a page elsewhere, whose name is made to point here, must not
//! read the recording.

mod request;

use crate::model::recording::Recording;
use crate::outputs::Format;
use crate::outputs::html;
use anyhow::Context;
use request::Request;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Connections at a time; more are closed at once.
const MOST: usize = 32;
/// A client that takes nothing for so long is left.
const PATIENCE: Duration = Duration::from_secs(30);
/// The only other page that may read an answer, and only the one that it understands.
const FIREFOX: &str = "https://profiler.firefox.com";

/// A recording on an address.
pub(crate) struct Server {
    listener: TcpListener,
    address: SocketAddr,
    site: Arc<Site>,
}

struct Site {
    recording: Recording,
    local: bool,
    connections: AtomicUsize,
}

/// What goes back.
struct Answer {
    status: &'static str,
    kind: &'static str,
    shared: bool,
    body: Vec<u8>,
}

impl Answer {
    fn text(status: &'static str, text: &str) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            shared: false,
            body: format!("{text}\n").into_bytes(),
        }
    }
}

impl Server {
    pub(crate) fn bind(address: SocketAddr, recording: Recording) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .with_context(|| format!("cannot serve on {address}; --serve takes a free port"))?;
        let address = listener.local_addr()?;
        let local = address.ip().is_loopback();
        Ok(Self {
            listener,
            address,
            site: Arc::new(Site { recording, local, connections: AtomicUsize::new(0) }),
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Whether only this machine reaches it.
    pub(crate) fn is_local(&self) -> bool {
        self.site.local
    }

    /// Answers until the process ends.
    pub(crate) fn run(&self) -> ! {
        loop {
            let Ok((stream, _)) = self.listener.accept() else {
                // Out of descriptors, or the client went away: neither is better at once.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            // Relaxed: a count, which nothing is read by.
            if self.site.connections.fetch_add(1, Ordering::Relaxed) >= MOST {
                self.site.connections.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let open = Open(Arc::clone(&self.site));
            // Where no thread can be had, the connection is closed with what was moved.
            let _ = std::thread::Builder::new()
                .name("trapline-serve".to_string())
                .spawn(move || open.0.converse(stream));
        }
    }
}

/// A connection that counts until it is dropped, also by a panic.
struct Open(Arc<Site>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Site {
    fn converse(&self, mut stream: TcpStream) {
        let (answer, head_only) = match request::read(&mut stream) {
            Ok(request) => (self.answer(&request), request.head_only),
            Err(refusal) => (Answer::text(refusal.0, refusal.1), false),
        };
        let _ = stream.set_write_timeout(Some(PATIENCE));
        let shared = if answer.shared {
            format!("Access-Control-Allow-Origin: {FIREFOX}\r\nVary: Origin\r\n")
        } else {
            String::new()
        };
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{shared}Cache-Control: \
                no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: \
                no-referrer\r\nConnection: close\r\n\r\n",
            answer.status,
            answer.kind,
            answer.body.len()
        );
        // A client that went away is no error.
        let _ = stream.write_all(head.as_bytes());
        if !head_only {
            let _ = stream.write_all(&answer.body);
        }
        let _ = stream.flush();
    }

    fn answer(&self, request: &Request) -> Answer {
        if self.local && !request.is_for_this_machine() {
            return Answer::text(
                "403 Forbidden",
                "this server is for 127.0.0.1, [::1] and localhost",
            );
        }
        let (format, kind) = match request.path.as_str() {
            "/" => {
                let body = html::served(&self.recording).into_bytes();
                return Answer {
                    status: "200 OK",
                    kind: "text/html; charset=utf-8",
                    shared: false,
                    body,
                };
            }
            "/flamegraph.svg" => (Format::Svg, "image/svg+xml"),
            "/folded" => (Format::Folded, "text/plain; charset=utf-8"),
            "/profile.pb.gz" => (Format::Pprof, "application/octet-stream"),
            "/profile.json" => (Format::Firefox, "application/json"),
            "/recording.tlp" => (Format::Tlp, "application/octet-stream"),
            _ => return Answer::text("404 Not Found", "there is no such page"),
        };
        match format.render(&self.recording) {
            Ok(body) => Answer { status: "200 OK", kind, shared: format == Format::Firefox, body },
            Err(error) => Answer::text("500 Internal Server Error", &format!("{error:#}")),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::Server;
    use crate::model::file::{self, bytes, tests::complete};
    use crate::model::recording::Recording;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};

    /// Serves until the tests end.
    pub(crate) fn serving(recording: Recording) -> String {
        let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), recording).unwrap();
        let url = server.url();
        std::thread::spawn(move || server.run());
        url
    }

    fn address(url: &str) -> SocketAddr {
        url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap()
    }

    /// Head and body.
    fn ask(url: &str, request: &[u8]) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(address(url)).unwrap();
        // The server may refuse before it has read all.
        let _ = stream.write_all(request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let end =
            all.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(all.len(), |at| at + 4);
        (String::from_utf8_lossy(&all[..end]).to_string(), all[end..].to_vec())
    }

    fn get(url: &str, path: &str) -> (String, Vec<u8>) {
        ask(url, format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", address(url)).as_bytes())
    }

    #[test]
    fn pages() {
        let url = serving(complete());
        let (head, body) = get(&url, "/?x=1");
        assert!(
            head.starts_with("HTTP/1.1 200 ")
                && head.contains("text/html")
                && body.starts_with(b"<!doctype html>"),
            "{head}"
        );
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
        let (head, body) = get(&url, "/recording.tlp");
        assert_eq!(body, bytes(&complete()).unwrap(), "{head}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), body).unwrap();
        assert_eq!(file::read(file.path()).unwrap(), complete());
        for path in ["/nosuch", "/../etc/passwd", "//", "/favicon.ico"] {
            assert!(get(&url, path).0.starts_with("HTTP/1.1 404 "), "{path}");
        }
    }

    #[test]
    fn head_has_no_body() {
        let url = serving(complete());
        let (head, body) = ask(&url, b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(
            head.starts_with("HTTP/1.1 200 ") && !head.contains("Content-Length: 0\r\n"),
            "{head}"
        );
        assert!(body.is_empty());
    }

    #[test]
    fn other_hosts_are_refused() {
        let url = serving(complete());
        let port = address(&url).port();
        for (host, status) in [
            ("localhost".to_string(), "200"),
            (format!("LOCALHOST:{port}"), "200"),
            (format!("127.0.0.1:{port}"), "200"),
            (format!("[::1]:{port}"), "200"),
            ("[::1]".to_string(), "200"),
            ("evil.example".to_string(), "403"),
            (format!("evil.example:{port}"), "403"),
            ("localhost.evil.example".to_string(), "403"),
            ("127.0.0.1.evil.example".to_string(), "403"),
            ("localhost@evil.example".to_string(), "403"),
            ("localhost:80:80".to_string(), "403"),
            (String::new(), "403"),
        ] {
            let (head, _) = ask(&url, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {head}");
        }
        for request in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        ] {
            assert!(ask(&url, request.as_bytes()).0.starts_with("HTTP/1.1 400 "), "{request}");
        }
    }

    #[test]
    fn bad_requests_are_refused_and_the_server_goes_on() {
        let url = serving(complete());
        let long = [b"GET /".to_vec(), vec![b'a'; 1 << 20]].concat();
        for (request, status) in [
            (b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "405"),
            (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "405"),
            (b"hello\r\n\r\n".to_vec(), "400"),
            (b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n".to_vec(), "400"),
            (b"GET / HTTP/1.1\r\nHost: localhost\r\n".to_vec(), "400"),
            (b"\xff\xfe\r\n\r\n".to_vec(), "400"),
            (Vec::new(), "400"),
        ] {
            let (head, _) = ask(&url, &request);
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status} ")),
                "{}: {head}",
                String::from_utf8_lossy(&request)
            );
        }
        // The rest of what was sent may reset the connection before the answer is read.
        let (head, _) = ask(&url, &long);
        assert!(head.is_empty() || head.starts_with("HTTP/1.1 431 "), "{head}");
        assert!(get(&url, "/").0.starts_with("HTTP/1.1 200 "));
    }

    #[test]
    fn clients_that_say_nothing_do_not_keep_others_out() {
        let url = serving(Recording::default());
        let idle: Vec<TcpStream> =
            (0..super::MOST / 2).map(|_| TcpStream::connect(address(&url)).unwrap()).collect();
        assert!(get(&url, "/").0.starts_with("HTTP/1.1 200 "));
        drop(idle);
    }
}
