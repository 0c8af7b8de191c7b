//! Clients of an HTTP server that ask for a file all the time.

use crate::histogram::Histogram;
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// What a load found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answered {
    /// Requests a second.
    pub(crate) rate: f64,
    /// How long answers took, in nanoseconds.
    pub(crate) latency: Histogram,
}

/// So many clients, each on one connection, ask for a path for so long.
///
/// # Errors
/// An answer was not as it should be.
pub(crate) fn run(port: u16, path: &str, clients: usize, seconds: f64) -> io::Result<Answered> {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let latency = std::thread::scope(|scope| {
        let client = || client(port, path, end);
        let all: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let mut together = Histogram::default();
        for one in all {
            let panicked = |_| io::Error::other("a client panicked");
            together.merge(&one.join().map_err(panicked)??);
        }
        Ok::<_, io::Error>(together)
    })?;
    let rate = latency.total() as f64 / start.elapsed().as_secs_f64();
    Ok(Answered { rate, latency })
}

/// How long the requests took that were answered until then.
fn client(port: u16, path: &str, end: Instant) -> io::Result<Histogram> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (mut latency, mut body) = (Histogram::default(), Vec::new());
    loop {
        let asked = Instant::now();
        if asked >= end {
            return Ok(latency);
        }
        // nginx closes a connection after so many requests that it is told to.
        stream.write_all(request.as_bytes())?;
        body.resize(head(&mut answers)?, 0);
        answers.read_exact(&mut body)?;
        latency.add(asked.elapsed().as_nanos() as u64);
    }
}

/// Reads up to the body: its length.
fn head(answers: &mut impl io::BufRead) -> io::Result<usize> {
    let (mut line, mut length, mut first) = (String::new(), None, true);
    loop {
        line.clear();
        answers.read_line(&mut line)?;
        if std::mem::take(&mut first) && !line.contains(" 200 ") {
            return Err(io::Error::other(format!("it answered '{}'", line.trim_end())));
        }
        let text = line.trim_end().to_ascii_lowercase();
        if text.is_empty() {
            return length.ok_or_else(|| io::Error::other("an answer without a length"));
        }
        length =
            text.strip_prefix("content-length:").and_then(|n| n.trim().parse().ok()).or(length);
    }
}

#[cfg(test)]
mod tests {
    use super::head;

    #[test]
    fn the_length_of_an_answer() {
        let ok = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 12\r\n\r\nbody";
        assert_eq!(head(&mut &ok[..]).ok(), Some(12));
        assert!(head(&mut &b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\n"[..]).is_err());
        assert!(head(&mut &b"HTTP/1.1 200 OK\r\n\r\n"[..]).is_err());
        assert!(head(&mut &b""[..]).is_err());
    }
}
