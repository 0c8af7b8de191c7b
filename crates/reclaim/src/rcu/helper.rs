//! A thread that runs a domain's callbacks.

use super::domain::Domain;
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// How long the helper sleeps while there is nothing to do.
const IDLE: Duration = Duration::from_millis(10);
/// How long it sleeps while a grace period is in progress.
const BUSY: Duration = Duration::from_micros(100);

/// A thread that runs the callbacks of a domain, so that those who queue them never have to.
///
/// It looks every 10 ms, every 0.1 ms while callbacks wait, and stops when this is dropped, which
/// waits for the callback that it is in and leaves the rest queued. A fork child has no helper:
/// start another one there. A callback that panics does not end it: the panic is reported by the
/// hook, counted ([`Domain::panicked_callbacks`]), and the next callback runs.
///
/// # Examples
/// ```
/// use reclaim::rcu::{self, Domain, Helper};
///
/// let helper = Helper::spawn(Domain::global())?;
/// rcu::defer_drop(Box::new([0_u8; 4096]));
/// // From here on nobody else has to think of it.
/// # rcu::barrier();
/// # drop(helper);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Helper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system does not give another thread.
    pub fn spawn(domain: &'static Domain) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("rcu-callbacks".into())
            .spawn(move || work(domain, &seen))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Relaxed: the flag carries nothing, and `join` orders.
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // `work` does not panic: it catches what callbacks throw.
            let _ = thread.join();
        }
    }
}

fn work(domain: &Domain, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if domain.run_callbacks_alone() == 0 {
            thread::park_timeout(if domain.has_callbacks() { BUSY } else { IDLE });
        }
    }
}
