//! Call stacks: the recorder of this process, if the segment wants stacks.

use crate::objects::Object;
use crate::{log, segment};
use recorder::{Loaded, Probe, Recorder};
use std::sync::OnceLock;
use unwind::Module;
use wire::Segment;

static RECORDER: OnceLock<Option<&'static Recorder>> = OnceLock::new();

/// The recorder, if there is one.
pub(crate) fn recorder() -> Option<&'static Recorder> {
    RECORDER.get().copied().flatten()
}

/// Makes the recorder that the segment asks for; `grown` hears of threads that take more memory.
pub(crate) fn start(segment: &'static Segment, loaded: &[Object], grown: fn()) {
    RECORDER.get_or_init(|| {
        segment.stacks()?;
        Recorder::start(segment, grown)
            .inspect_err(|why| log::line(&format!("no stacks are recorded: {why}")))
            .ok()
    });
    refresh(loaded);
}

/// What is loaded has changed.
pub(crate) fn refresh(now: &[Object]) {
    if let Some(recorder) = recorder() {
        let loaded = |o: &Object| {
            let begins = o
                .file
                .path
                .rsplit(|b| *b == b'/')
                .next()
                .is_some_and(|name| name.starts_with(b"ld-"));
            Loaded { module: Module { begins, ..o.module.clone() }, file: o.file.clone() }
        };
        recorder.loaded(now.iter().map(loaded).collect());
    }
}

/// The program is about to lose its system calls.
pub(crate) fn seal() {
    if let Some(recorder) = recorder() {
        recorder.seal();
    }
}

/// In a fork child.
pub(crate) fn forked() {
    if let Some(recorder) = recorder() {
        recorder.forked();
    }
}

/// In one whose process has lost its system calls, when all that forks change is done.
pub(crate) fn settled_sealed() {
    if let Some(recorder) = recorder() {
        recorder.settled_sealed(segment::pid());
    }
}

/// What a probe at `offset` in the function at `function` does.
pub(crate) fn action(
    recorder: &'static Recorder,
    function: u64,
    offset: u32,
    cell: u32,
    timed: bool,
) -> uprobe::Action {
    let probe = Probe {
        address: function.wrapping_add(u64::from(offset)),
        entry: offset == 0,
        cell,
        timed,
    };
    uprobe::Action::Call(recorder.consumer(probe))
}
