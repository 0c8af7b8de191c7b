//! What the command line learns of a process that counts: which it is, and what is armed in it.
#![allow(unsafe_code)]

use crate::arm::Armed;
use crate::{identity, segment};
use wire::{Process, Segment};

/// This process has the probes `armed`, which took `arming_ns`.
pub(crate) fn announce(segment: &Segment, armed: Armed, arming_ns: u64) {
    // SAFETY: no arguments.
    let parent = unsafe { libc::getppid() };
    let process = Process {
        pid: segment::pid(),
        parent: parent.cast_unsigned(),
        detours: armed.detours,
        breakpoints: armed.breakpoints,
        arming_ns,
        name: identity::program(),
    };
    segment.add_process(&process);
}

/// In a fork child, which has everything armed that its parent had.
pub(crate) fn forked() {
    if let Some(segment) = segment::get() {
        announce(segment, Armed::default(), 0);
    }
}
