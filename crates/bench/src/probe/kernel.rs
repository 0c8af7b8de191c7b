//! Peers: the kernel's uprobe and uretprobe on the same functions in the same process, with BPF
//! programs attached by plain system calls.

mod bpf;
mod insn;
mod perf;
mod programs;

use super::case::{Kind, ProbeCase};
use super::check::{Checks, Probe, job};
use super::functions::FUNCTIONS;
use crate::affinity;
use crate::harness::{Entry, Role};
use bpf::Map;
use perf::End;
use std::io;
use std::os::fd::OwnedFd;

/// Row of the tables: hits counted at the entry.
pub(super) const COUNT: &str = "kernel uprobe, BPF count";
/// Row of the tables: hits counted at the return.
pub(super) const RETURN: &str = "kernel uretprobe, BPF count";
/// Row of the tables: the pair with a start time per thread and a histogram.
pub(super) const HISTOGRAM: &str = "kernel pair, BPF histogram";
/// Row of the tables where BPF is refused.
const PERF_COUNT: &str = "kernel uprobe, perf count";
/// Row of the tables where BPF is refused.
const PERF_RETURN: &str = "kernel uretprobe, perf count";

/// The note that belongs to every ratio against a single-stepped kernel probe.
pub(super) const SINGLE_STEP_NOTE: &str = "`ret` and `ordinary`: the kernel single-steps their \
    first instruction, and in a virtual machine that trap costs about 8 us extra (hypervisor \
    intercept): its figures there are \
    about 8 us too high, so compare with `nop`, `push` (emulated) and `nop5` (no trap); published \
    on bare metal: uprobe nop 316, push 333, single-stepped 909, nop5 137 ns; uretprobe 476-1,094";

/// A kernel probe with its program and the map that the program counts in.
struct Attached {
    // Taken away in this order.
    probes: Vec<perf::Probe>,
    _programs: Vec<OwnedFd>,
    maps: Vec<Map>,
}

impl Attached {
    fn count(address: u64, end: End) -> io::Result<Self> {
        let counts = Map::new(bpf::Kind::PerCpuArray, 1)?;
        let program = bpf::load(&programs::count(counts.fd()))?;
        let probe = perf::Probe::arm(address, end, Some(&program), 0)?;
        Ok(Self { probes: vec![probe], _programs: vec![program], maps: vec![counts] })
    }

    fn histogram(address: u64) -> io::Result<Self> {
        const THREADS: u32 = 1024;
        let histogram = Map::new(bpf::Kind::PerCpuArray, programs::BUCKETS)?;
        let starts = Map::new(bpf::Kind::Hash, THREADS)?;
        let entry = bpf::load(&programs::remember_start(starts.fd()))?;
        let ret = bpf::load(&programs::add_duration(starts.fd(), histogram.fd()))?;
        let probes = vec![
            perf::Probe::arm(address, End::Return, Some(&ret), 0)?,
            perf::Probe::arm(address, End::Entry, Some(&entry), 0)?,
        ];
        Ok(Self { probes, _programs: vec![entry, ret], maps: vec![histogram, starts] })
    }

    fn plain(address: u64, end: End) -> io::Result<Self> {
        let probes = affinity::allowed()
            .into_iter()
            .map(|cpu| perf::Probe::arm(address, end, None, cpu))
            .collect::<io::Result<_>>()?;
        Ok(Self { probes, _programs: Vec::new(), maps: Vec::new() })
    }
}

impl Probe for Attached {
    fn hits(&self) -> Option<u64> {
        match self.maps.first() {
            Some(map) => map.sum().ok(),
            None => self.probes.iter().map(|probe| probe.hits().ok()).sum(),
        }
    }
}

/// Whether the kernel lets this process probe.
pub(super) fn permitted() -> bool {
    Attached::count(FUNCTIONS[0].address(), End::Entry).is_ok()
}

/// All rows of the kernel; where it refuses, one row that says why.
pub(super) fn contenders(checks: &Checks) -> Vec<Entry<ProbeCase>> {
    let address = FUNCTIONS[0].address();
    if let Err(error) = Attached::plain(address, End::Entry) {
        return vec![Entry::absent(
            "kernel uprobe",
            Role::Peer,
            &format!("refused ({error}): run as root to compare with it"),
        )];
    }
    if let Err(error) = Attached::count(address, End::Entry) {
        return vec![
            Entry::absent(
                HISTOGRAM,
                Role::Peer,
                &format!("BPF is refused ({error}): plain perf counting instead"),
            ),
            row(PERF_COUNT, Kind::Entry, checks, |address| Attached::plain(address, End::Entry)),
            row(PERF_RETURN, Kind::Return, checks, |address| Attached::plain(address, End::Return)),
        ];
    }
    vec![
        row(COUNT, Kind::Entry, checks, |address| Attached::count(address, End::Entry)),
        row(RETURN, Kind::Return, checks, |address| Attached::count(address, End::Return)),
        row(HISTOGRAM, Kind::Histogram, checks, Attached::histogram),
    ]
}

fn row(
    name: &'static str,
    kind: Kind,
    checks: &Checks,
    attach: impl Fn(u64) -> io::Result<Attached> + 'static,
) -> Entry<ProbeCase> {
    let checks = checks.clone();
    Entry::new(name, Role::Peer, move |case: &ProbeCase| {
        if case.kind != kind {
            return None;
        }
        match attach(case.function().address()) {
            Ok(attached) => Some(job(name, case, attached, &checks)),
            Err(error) => {
                checks.say(format!("{name}, {}: {error}", case.function().name));
                None
            }
        }
    })
}
