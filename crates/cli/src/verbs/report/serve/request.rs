//! The head of a request, as much of it as this server looks at.

use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::{Duration, Instant};

/// A longer head is refused.
const LONGEST: usize = 8 << 10;
/// Time for all of the head.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Without what follows a `?`.
    pub(super) path: String,
    pub(super) host: String,
    pub(super) head_only: bool,
}

/// Why there is none: the status, and a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) &'static str, pub(super) &'static str);

const MALFORMED: Refusal = Refusal("400 Bad Request", "not a request that is understood here");

pub(super) fn read(stream: &mut TcpStream) -> Result<Request, Refusal> {
    let end = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut part = [0; 1024];
    loop {
        // By the time that is left, so that a byte now and then does not hold the thread.
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return Err(Refusal("408 Request Timeout", "the request did not come"));
        }
        let read = stream
            .read(&mut part)
            .map_err(|_| Refusal("408 Request Timeout", "the request did not come"))?;
        head.extend_from_slice(&part[..read]);
        if let Some(at) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            return parse(&head[..at]);
        }
        if read == 0 {
            return Err(MALFORMED);
        }
        if head.len() > LONGEST {
            return Err(Refusal("431 Request Header Fields Too Large", "the request is too long"));
        }
    }
}

fn parse(head: &[u8]) -> Result<Request, Refusal> {
    let text = std::str::from_utf8(head).map_err(|_| MALFORMED)?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or("").split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (first.next(), first.next(), first.next(), first.next())
    else {
        return Err(MALFORMED);
    };
    if !version.starts_with("HTTP/1.") {
        return Err(MALFORMED);
    }
    if !matches!(method, "GET" | "HEAD") {
        return Err(Refusal("405 Method Not Allowed", "GET and HEAD only"));
    }
    let mut hosts = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(MALFORMED)?;
        if name.eq_ignore_ascii_case("host") {
            hosts.push(value.trim().to_string());
        }
    }
    // Two would leave it open which one counts.
    let (Some(host), true) = (hosts.pop(), hosts.is_empty()) else {
        return Err(MALFORMED);
    };
    let path = target.split('?').next().unwrap_or("").to_string();
    Ok(Request { path, host, head_only: method == "HEAD" })
}

impl Request {
    /// Whether the client calls the server by a name or address that only this machine has.
    pub(super) fn is_for_this_machine(&self) -> bool {
        let (name, port) = match self.host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (self.host.as_str(), None),
        };
        let address = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(name) => name.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback()),
            None => name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
        };
        (address || name.eq_ignore_ascii_case("localhost"))
            && port.is_none_or(|port| port.parse::<u16>().is_ok())
    }
}
