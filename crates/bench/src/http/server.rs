//! The server: a hyper on each of some worker threads, whose requests take references to a
//! configuration that another thread replaces a hundred times a second. A process of its own, so
//! that its CPU time is its own.

use super::config::{Config, Maker};
use super::held::{MOST, Scheme};
use super::{held, peers};
use clap::Args;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::convert::Infallible;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

/// Between two replacements.
const PERIOD: Duration = Duration::from_millis(10);

/// What to serve.
#[derive(Args, Clone, Debug)]
pub struct Serve {
    /// A name of [`SCHEMES`].
    #[arg(long)]
    scheme: String,
    /// How many references a request takes
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MOST as u64))]
    references: u64,
    /// Worker threads
    #[arg(long)]
    workers: usize,
}

/// How one scheme is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    /// In tables, and on the server's command line.
    pub(super) name: &'static str,
    /// Whether it is one of ours.
    pub(super) ours: bool,
    serve: fn(&Serve, TcpListener) -> io::Result<()>,
}

/// What is never replaced: the other rows' floor.
pub(super) const FIXED: &str = "never replaced";
pub(super) const LOCKED: &str = "Arc in a lock";
pub(super) const SWAPPED: &str = "arc-swap load";
pub(super) const CACHED: &str = "cached";

/// All there are.
pub(super) const SCHEMES: [Served; 11] = [
    Served { name: FIXED, ours: false, serve: serve::<peers::Fixed> },
    Served { name: LOCKED, ours: false, serve: serve::<peers::Locked> },
    Served { name: SWAPPED, ours: false, serve: serve::<peers::Swapped> },
    Served { name: "arc-swap Cache", ours: false, serve: serve::<peers::SwapCache> },
    Served { name: "crossbeam-epoch", ours: false, serve: serve::<peers::Epoch> },
    Served { name: "haphazard", ours: false, serve: serve::<peers::Haphazard> },
    Served { name: "hazptr", ours: true, serve: serve::<held::Hazptr<Config>> },
    Served { name: "rcu", ours: true, serve: serve::<held::Rcu<Config>> },
    Served { name: "srcu", ours: true, serve: serve::<held::Srcu<Config>> },
    Served { name: "percpu_ref", ours: true, serve: serve::<held::Counted<Config>> },
    Served { name: CACHED, ours: true, serve: serve::<held::Cached<Config>> },
];

/// Serves until its input ends; then says how many configurations were kept: mean and most.
pub fn main(options: &Serve) -> ExitCode {
    let served = SCHEMES.iter().find(|served| served.name == options.scheme);
    let result = match served {
        Some(served) => crate::redis::server::free_port()
            .and_then(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)))
            .and_then(|listener| (served.serve)(options, listener)),
        None => Err(io::Error::other(format!("no scheme is called {}", options.scheme))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("trapline-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn serve<S: Scheme<Config>>(options: &Serve, listener: TcpListener) -> io::Result<()> {
    let mut maker = Maker::default();
    let scheme = Arc::new(S::new(maker.next()));
    let references = options.references as usize;
    let start = |_| {
        let scheme = Arc::clone(&scheme);
        let (sender, streams) = unbounded_channel();
        let run = move || worker(&scheme, references, streams);
        thread::Builder::new().name("worker".into()).spawn(run).map(|_| sender)
    };
    let workers = (0..options.workers).map(start).collect::<io::Result<Vec<_>>>()?;
    let port = listener.local_addr()?.port();
    thread::Builder::new().name("accept".into()).spawn(move || accept(&listener, &workers))?;
    let stop = Arc::new(AtomicBool::new(false));
    let (theirs, replaced) = (Arc::clone(&stop), Arc::clone(&scheme));
    let replace = move || replace(&*replaced, &mut maker, &theirs);
    let replacer = thread::Builder::new().name("replace".into()).spawn(replace)?;
    let mut out = io::stdout();
    writeln!(out, "{port}")?;
    out.flush()?;
    // Until who started this has enough, or is gone.
    io::stdin().read_to_end(&mut Vec::new())?;
    stop.store(true, Ordering::Relaxed);
    let kept = replacer.join().map_err(|_| io::Error::other("replacing panicked"))?;
    writeln!(out, "{} {}", kept.mean, kept.most)
}

/// Gives connections to the workers in turn.
fn accept(listener: &TcpListener, workers: &[UnboundedSender<TcpStream>]) {
    for (stream, worker) in listener.incoming().zip(workers.iter().cycle()) {
        if let Ok(stream) = stream {
            // A worker that is gone has panicked, and its clients see that.
            let _ = worker.send(stream);
        }
    }
}

/// How many configurations there were beside the current one, just before each replacement.
struct Kept {
    mean: f64,
    most: u64,
}

fn replace<S: Scheme<Config>>(scheme: &S, maker: &mut Maker, stop: &AtomicBool) -> Kept {
    let (mut sum, mut times, mut most) = (0, 0u64, 0);
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        next += PERIOD;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let held = maker.held();
        (sum, times, most) = (sum + held, times + 1, most.max(held));
        scheme.replace(maker.next());
    }
    Kept { mean: sum as f64 / times.max(1) as f64, most }
}

fn worker<S: Scheme<Config>>(
    scheme: &Arc<S>,
    references: usize,
    mut streams: UnboundedReceiver<TcpStream>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("a thread can wait for sockets");
    let own = Rc::new(RefCell::new(scheme.own()));
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        while let Some(stream) = streams.recv().await {
            // A connection that fails is its client's affair.
            let Ok(()) = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true))
            else {
                continue;
            };
            let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { continue };
            let (scheme, own) = (Arc::clone(scheme), Rc::clone(&own));
            let answer = move |_: Request<Incoming>| {
                let number = used(&*scheme, &mut own.borrow_mut(), references);
                std::future::ready(response(number))
            };
            let connection = http1::Builder::new();
            tokio::task::spawn_local(
                connection.serve_connection(TokioIo::new(stream), service_fn(answer)),
            );
        }
    });
}

/// What a request does with the configuration.
fn used<S: Scheme<Config>>(scheme: &S, own: &mut S::Own, references: usize) -> u64 {
    let mut sum = 0;
    scheme.hold(own, references, &mut |config| sum += black_box(config.number));
    black_box(sum)
}

fn response(_number: u64) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"as configured\n"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::held::{Cached, Counted, Hazptr, Rcu, Srcu};

    /// Each reference is to what is current, and what was replaced goes.
    fn works<S: Scheme<Config>>(may_keep: u64) {
        let mut maker = Maker::default();
        let scheme = S::new(maker.next());
        let mut own = scheme.own();
        for number in 1..=2_000 {
            scheme.replace(maker.next());
            assert_eq!(used(&scheme, &mut own, MOST), number * MOST as u64);
            assert!(maker.held() <= may_keep, "{} after {number}", maker.held());
        }
    }

    #[test]
    fn every_scheme_reads_what_is_current() {
        works::<peers::Locked>(0);
        works::<peers::Swapped>(0);
        works::<peers::SwapCache>(1);
        works::<peers::Epoch>(2_000);
        works::<peers::Haphazard>(1_000);
        works::<Hazptr<Config>>(1_000);
        works::<Rcu<Config>>(3);
        works::<Srcu<Config>>(3);
        works::<Counted<Config>>(4);
        works::<Cached<Config>>(8);
    }
}
