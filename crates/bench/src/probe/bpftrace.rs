//! Peer, second opinion: bpftrace on the push-first function, by one thread; it takes seconds to
//! attach.

use super::case::{Kind, ProbeCase};
use super::check::{Checks, Probe, job};
use super::functions::PUSH;
use crate::bpftrace as tool;
use crate::group::Group;
use crate::harness::{Entry, Role};
use crate::programs::installed;
use crate::scratch::Scratch;
use std::io;
use std::path::Path;
use std::time::Duration;

/// A running bpftrace.
struct Attached {
    /// Ended when its count is asked for.
    group: std::sync::Mutex<Group>,
    dir: Scratch,
}

impl Attached {
    fn start(script: &str) -> io::Result<Self> {
        let dir = Scratch::new("bpftrace")?;
        let group = std::sync::Mutex::new(tool::attach(script, &dir.path().join("log"))?);
        Ok(Self { group, dir })
    }
}

impl Probe for Attached {
    fn hits(&self) -> Option<u64> {
        let mut group = self.group.lock().ok()?;
        group.signal(libc::SIGINT);
        group.wait(Duration::from_secs(10))?;
        Some(tool::hits(&std::fs::read_to_string(self.dir.path().join("log")).ok()?))
    }
}

/// The rows; none where the permission is missing, as the kernel's rows say enough then.
pub(super) fn contenders(checks: &Checks, permitted: bool) -> Vec<Entry<ProbeCase>> {
    if !permitted {
        return Vec::new();
    }
    if !installed("bpftrace") {
        return vec![Entry::absent("bpftrace", Role::Peer, "bpftrace is not installed")];
    }
    vec![
        row("bpftrace, count", Kind::Entry, checks, tool::count),
        row("bpftrace, histogram", Kind::Histogram, checks, tool::histogram),
    ]
}

fn row(
    name: &'static str,
    kind: Kind,
    checks: &Checks,
    script: fn(&Path, &str) -> String,
) -> Entry<ProbeCase> {
    let checks = checks.clone();
    Entry::new(name, Role::Peer, move |case: &ProbeCase| {
        if case.kind != kind || case.function != PUSH || case.threads != 1 {
            return None;
        }
        let program = std::env::current_exe().ok()?;
        match Attached::start(&script(&program, case.function().symbol)) {
            Ok(attached) => Some(job(name, case, attached, &checks)),
            Err(error) => {
                checks.say(format!("{name}: {error}"));
                None
            }
        }
    })
}
