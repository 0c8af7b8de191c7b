//! The helper thread of a domain: runs its deleters, so that no retiring thread does.
#![allow(unsafe_code)]

use super::domain::Domain;
use super::scope::read;
use super::wait::synchronize;
use super::wake::Wake;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::io;
use std::thread::{self, JoinHandle};

/// How long garbage from signal handlers, which wake nobody, waits at most.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running helper thread; dropping it stops the thread and waits for it.
#[derive(Debug)]
pub struct Helper {
    domain: &'static Domain,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Domain {
    /// Starts the helper thread of a domain with [`Policy::Helper`](super::Policy::Helper).
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when the domain has one; otherwise what the system says
    /// about starting a thread.
    pub fn spawn_helper(&'static self) -> io::Result<Helper> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name(String::from("hazptr-helper"))
            .spawn(move || self.help(&seen))?;
        let wake = Box::into_raw(Box::new(Wake { thread: thread.thread().clone() }));
        // Release pairs with the Acquire in `protect`.
        let won = self
            .helper
            .compare_exchange(ptr::null_mut(), wake, Ordering::Release, Ordering::Relaxed)
            .is_ok();
        if !won {
            // SAFETY: just made and published nowhere.
            drop(unsafe { Box::from_raw(wake) });
            stop_and_join(&stop, thread);
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        Ok(Helper { domain: self, stop, thread: Some(thread) })
    }

    fn help(&self, stop: &AtomicBool) {
        // Relaxed: `stop` carries no data.
        while !stop.load(Ordering::Relaxed) {
            self.round_if_fresh();
            thread::park_timeout(LOOK_EVERY);
        }
        self.round_alone();
    }

    /// Wakes the helper; false if there is none.
    pub(super) fn wake_helper(&self) -> bool {
        // SAFETY: `helper` holds pointers from boxes, unlinked in `Helper::drop`, which waits
        // before it frees them; `Thread` is `Sync`.
        unsafe { read(&self.helper, |wake| wake.inspect(|w| w.thread.unpark()).is_some()) }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Acquire: the box is ours, with all that was written to it.
        let wake = self.domain.helper.swap(ptr::null_mut(), Ordering::Acquire);
        if let Some(thread) = self.thread.take() {
            stop_and_join(&self.stop, thread);
        }
        synchronize(wake);
        // SAFETY: from a box, unlinked by the swap, which only the one `Helper` of the domain does;
        // nobody looks at it any more.
        drop(unsafe { Box::from_raw(wake) });
    }
}

fn stop_and_join(stop: &AtomicBool, thread: JoinHandle<()>) {
    stop.store(true, Ordering::Relaxed);
    thread.thread().unpark();
    // `help` does not panic: it catches what deleters throw.
    let _ = thread.join();
}
