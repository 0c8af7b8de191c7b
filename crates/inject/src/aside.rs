//! Parents that wait in `vfork`, kept from running for a moment.
//!
//! Such a thread does not stop before its child is done, so it cannot be let go by its tracer
//! either, but for the tracer's end. While it is traced, the end of its child sends a signal that
//! it ignores to some other thread of the process, whose call ends with `EINTR` for nothing. So a
//! thread of ours traces it that ends before any of the others goes on.

use crate::ptrace::{self, Stop, Tid, Waited, options};
use crate::tracer::{await_end, cannot_stop, pass_on, stand};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long one is waited for that stops after all, as its child was done.
const PATIENCE: Duration = Duration::from_millis(100);

/// Threads of a process that cannot go on until this is dropped.
pub(crate) struct Aside {
    tids: Vec<Tid>,
    tracer: Tid,
    /// Closed: it is over.
    over: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Aside {
    /// Keeps those of the threads that there are; others trace what is left out.
    pub(crate) fn keep(pid: Tid, tids: Vec<Tid>) -> Self {
        let (over, is_over) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let seized = |tid: &Tid| ptrace::seize(*tid, options::PLAIN).is_ok();
            let kept: Vec<Tid> = tids.into_iter().filter(seized).collect();
            kept.iter().for_each(|tid| drop(ptrace::interrupt(*tid)));
            let deadline = Instant::now() + PATIENCE;
            let stand: Vec<Tid> =
                kept.iter().copied().filter(|tid| stops(pid, *tid, deadline)).collect();
            let _ = ready.send((kept, ptrace::own_tid()));
            // An error: nobody waits any more.
            let _ = is_over.recv();
            stand.into_iter().for_each(|tid| drop(ptrace::detach(tid)));
        });
        let (tids, tracer) = is_ready.recv().unwrap_or_default();
        Self { tids, tracer, over: Some(over), thread: Some(thread) }
    }

    /// The threads.
    pub(crate) fn tids(&self) -> &[Tid] {
        &self.tids
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
            await_end(self.tracer);
        }
    }
}

/// Whether the thread came to stand, and does not wait.
fn stops(pid: Tid, tid: Tid, deadline: Instant) -> bool {
    loop {
        match ptrace::wait_unless(tid, || cannot_stop(pid, tid, deadline)) {
            Waited::Running | Waited::Ended => return false,
            Waited::Stopped(stop @ (Stop::Trap | Stop::Group)) => {
                // An error is that it has been killed.
                return stand(tid, stop).is_ok();
            }
            Waited::Stopped(other) => pass_on(tid, other),
        }
    }
}
