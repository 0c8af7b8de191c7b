//! Processes that other threads of this process trace at the same time: one thread waits for
//! another.

use crate::processes;
use inject::{Refusal, Refused};
use std::fs;
use std::time::{Duration, Instant};

/// How long a process is waited for that another thread of this one traces.
const TRACED: Duration = Duration::from_secs(2);

/// Does something with a process as soon as no other thread of this process traces it.
pub(super) fn patiently<R>(what: impl Fn() -> anyhow::Result<R>) -> anyhow::Result<R> {
    let end = Instant::now() + TRACED;
    loop {
        let done = what();
        let by_us = done.as_ref().is_err_and(is_traced_by_us);
        if !by_us || Instant::now() >= end {
            return done;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_traced_by_us(why: &anyhow::Error) -> bool {
    let refused = why.downcast_ref::<Refused>();
    refused.is_some_and(|refused| match refused.why {
        Refusal::Traced { tracer, .. } => {
            fs::exists(format!("/proc/self/task/{tracer}")).unwrap_or(false)
        }
        _ => false,
    })
}

/// An error of tracing a thread: that somebody else does, if that is it.
pub(super) fn refused_or(tid: i32, error: anyhow::Error) -> anyhow::Error {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    match tracer.and_then(|tracer| tracer.trim().parse().ok()) {
        None | Some(0) => error,
        Some(tracer) => {
            let why = Refusal::Traced { tracer, name: processes::name(tracer) };
            Refused { pid: tid, why }.into()
        }
    }
}
