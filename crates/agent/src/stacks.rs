//! Call stacks: the recorder of this process, if the segment wants stacks.

use crate::log;
use crate::objects::{self, Object};
use recorder::{Loaded, Probe, Recorder};
use std::sync::OnceLock;
use unwind::Module;
use wire::Segment;

static RECORDER: OnceLock<Option<&'static Recorder>> = OnceLock::new();

/// The recorder, if there is one.
pub(crate) fn recorder() -> Option<&'static Recorder> {
    RECORDER.get().copied().flatten()
}

/// Makes the recorder that the segment asks for.
pub(crate) fn start(segment: &'static Segment) {
    RECORDER.get_or_init(|| {
        segment.stacks()?;
        Recorder::start(segment, grown).inspect_err(|why| log::line(&format!("no stacks are recorded: {why}"))).ok()
    });
    refresh();
}

/// A thread has more memory now.
fn grown() {
    if let (Some(segment), Some(engine)) = (crate::segment::get(), uprobe::Engine::get()) {
        segment.note_agent_bytes(crate::arm::bytes(engine));
    }
}

/// What is loaded has changed.
pub(crate) fn refresh() {
    if let Some(recorder) = recorder() {
        let loaded = |o: Object| {
            let begins = o.file.path.rsplit(|b| *b == b'/').next().is_some_and(|name| name.starts_with(b"ld-"));
            Loaded { module: Module { begins, ..o.module }, file: o.file }
        };
        recorder.loaded(objects::everything().into_iter().map(loaded).collect());
    }
}

/// In a fork child.
pub(crate) fn forked() {
    if let Some(recorder) = recorder() {
        recorder.forked();
    }
}

/// What a probe at `offset` in the function at `function` does.
pub(crate) fn action(recorder: &'static Recorder, function: u64, offset: u32, cell: u32, timed: bool) -> uprobe::Action {
    let probe = Probe { address: function.wrapping_add(u64::from(offset)), entry: offset == 0, cell, timed };
    uprobe::Action::Call(recorder.consumer(probe))
}
