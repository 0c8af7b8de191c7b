//! From the segment's functions to the engine's targets, and from its results to the functions' states.

use crate::objects::Object;
use crate::{allocator, segment, stacks, watched};
use std::time::Duration;
use uprobe::{Action, Engine, Method, Patching, Refusal, Target};
use wire::{Function, Kind, Loss, Segment, State};

/// How long the program waits for the command line to look at a file that it has not seen.
const PATIENCE: Duration = Duration::from_secs(2);
/// Memory that a probed function takes beside its cell: stub, tables, what the plan keeps; an upper bound of the average.
const BYTES_PER_SITE: u64 = 2048;

/// What was armed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Armed {
    pub(crate) detours: u32,
    pub(crate) breakpoints: u32,
}

/// Arms what the segment wants of these objects, in which no thread runs yet. With `ask`, the command line is asked about objects that the segment does not know.
pub(crate) fn arm(engine: &'static Engine, segment: &Segment, objects: &[Object], ask: bool) -> Armed {
    let used = bytes(engine);
    let mut armed = Armed::default();
    let mut batch = engine.batch();
    let mut functions = Vec::new();
    for object in objects {
        let Some(index) = find(segment, object, ask) else { continue };
        for index in segment.functions_of(index) {
            let Some(function) = segment.function(index) else { continue };
            if used + (functions.len() as u64 + 1) * BYTES_PER_SITE > segment.shape().budget {
                segment.set_state(index, State::Skipped, "the memory budget is used up (--max-memory)");
                segment.lose(Loss::Memory, 1);
                continue;
            }
            let target = target(object, &function);
            if function.offset == 0 && watched::want(target.address, function.cell) {
                segment.set_state(index, State::Detour, watched::NOTE);
                armed.detours += 1;
                continue;
            }
            batch.add(target);
            functions.push(index);
        }
    }
    if functions.is_empty() || segment.stopped() {
        return armed;
    }
    for (index, result) in functions.into_iter().zip(batch.commit(Patching::Quiet)) {
        match result {
            Ok(site) => {
                let note = site.entry_only.map(|why| format!("entry only: {why}"));
                match site.method {
                    Method::Detour => {
                        armed.detours += 1;
                        segment.set_state(index, State::Detour, note.as_deref().unwrap_or_default());
                    }
                    Method::Breakpoint(why) => {
                        armed.breakpoints += 1;
                        segment.set_state(index, State::Breakpoint, note.as_deref().unwrap_or(&why.to_string()));
                    }
                }
            }
            Err(Refusal::NeedsTrap) => segment.set_state(index, State::Skipped, wire::NEEDS_TRAP),
            Err(why) => segment.set_state(index, State::Skipped, &why.to_string()),
        }
    }
    armed
}

fn find(segment: &Segment, object: &Object, ask: bool) -> Option<usize> {
    let file = &object.file;
    if let Some(index) = segment.find_object(file.dev, file.ino, &file.build_id) {
        return Some(index);
    }
    if !ask || !alive(segment.owner()) {
        return None;
    }
    match segment.ask(segment::pid(), file, PATIENCE) {
        Ok(index) => index,
        Err(()) => {
            segment.lose(Loss::Unanswered, 1);
            crate::log::line(&format!("no answer about {}", String::from_utf8_lossy(&file.path)));
            None
        }
    }
}

fn target(object: &Object, function: &Function) -> Target {
    let action = match (stacks::recorder(), function.kind) {
        (Some(recorder), kind) => {
            let timed = kind == Kind::Time && function.returns;
            stacks::action(recorder, object.base.wrapping_add(function.address), function.offset, function.cell, timed)
        }
        (None, Kind::Count) => Action::Count { cell: function.cell },
        (None, Kind::Time) => Action::Time { cell: function.cell },
    };
    Target {
        address: object.base.wrapping_add(function.address),
        size: function.size,
        after: function.after,
        offset: function.offset,
        action,
        returns: function.returns,
        breakpoint: false,
        traps: !wire::is_c_library(&object.file.path),
    }
}

/// Memory that the agent uses in this process, in bytes.
pub(crate) fn bytes(engine: &Engine) -> u64 {
    let unwinder = stacks::recorder().map_or(0, |r| r.bytes() as u64);
    allocator::mapped() + engine.code_bytes() + uprobe::statistics().bytes as u64 + unwinder
}

/// Whether a process is there, whoever it belongs to.
#[allow(unsafe_code)]
fn alive(pid: u32) -> bool {
    // SAFETY: signal 0 is sent to nobody.
    let gone = unsafe { libc::kill(pid.cast_signed(), 0) } != 0;
    !gone || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}
