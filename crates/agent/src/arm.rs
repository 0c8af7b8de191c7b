//! From the segment's functions to the engine's targets, and from its results to the functions'
//! states.

use crate::objects::Object;
use crate::{MEMORY, overwritten, segment, stacks, watched};
use patch::Decisions;
use resident::Budget;
use std::time::Duration;
use uprobe::{Action, Engine, Method, Patching, Refusal, Returns, Target};
use wire::{Function, Kind, Loss, Patience, Segment, State};

/// How long the program waits for the command line to look at a file that it has not seen. It may
/// be large, and the machine busy.
const PATIENCE: Patience =
    Patience { idle: Duration::from_secs(2), longest: Duration::from_secs(60) };
/// Note of a function that branches back to its first byte in ways that cannot be led past the
/// probe.
const BRANCHES: &str = "may count branches back to its first byte";

/// What was armed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Armed {
    pub(crate) detours: u32,
    pub(crate) breakpoints: u32,
}

/// Arms what the segment wants of these objects, in which no thread runs yet. With `ask`, the
/// command line is asked about objects that the segment does not know.
pub(crate) fn arm(
    engine: &'static Engine,
    segment: &Segment,
    objects: &[Object],
    ask: bool,
) -> Armed {
    let mut budget = Budget::new(segment, bytes(engine));
    let mut armed = Armed::default();
    let mut batch = engine.batch();
    let mut functions = Vec::new();
    for object in objects.iter().filter(|o| o.open_to_probes()) {
        let Some(index) = find(segment, object, ask) else { continue };
        let before = functions.len();
        let plans = segment.plans_of(index);
        let decisions = Decisions::read(&plans);
        for index in segment.functions_of(index) {
            let Some(function) = segment.function(index) else { continue };
            let decision = decisions.find(function.address, function.offset, object.base);
            let places = patch::sites(decision.as_ref());
            if !budget.has_room(index, &function, places) {
                continue;
            }
            let Some(target) = target(object, &function) else {
                segment.set_state(index, State::Skipped, "not in executable code of its object");
                continue;
            };
            if function.offset == 0 && watched::want(target.address, function.cell) {
                segment.set_state(index, State::Detour, watched::NOTE);
                armed.detours += 1;
                continue;
            }
            match decision {
                Some(decision) => batch.add_decided(target, decision),
                None => batch.add(target),
            }
            functions.push(index);
            budget.take(places);
        }
        if functions.len() > before {
            overwritten::watch(object.code());
        }
    }
    if functions.is_empty() || segment.stopped() {
        return armed;
    }
    // Before the first hit: threads that have a block count there.
    if !segment::extend_blocks(segment) {
        budget.refuse_cells(functions);
        return armed;
    }
    for (index, result) in functions.into_iter().zip(batch.commit(Patching::Quiet)) {
        match result {
            Ok(site) => {
                overwritten::remember(site.id, index);
                let note = site.entry_only.map(|why| format!("entry only: {why}"));
                let note = note.or(site.counts_branches.then(|| BRANCHES.to_owned()));
                match site.method {
                    Method::Detour => {
                        armed.detours += 1;
                        segment.set_state(
                            index,
                            State::Detour,
                            note.as_deref().unwrap_or_default(),
                        );
                    }
                    Method::Breakpoint(why) => {
                        armed.breakpoints += 1;
                        segment.set_state(
                            index,
                            State::Breakpoint,
                            note.as_deref().unwrap_or(&why.to_string()),
                        );
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
    if let Some(index) = segment.find_object(file) {
        return Some(index);
    }
    if !ask || !alive(segment.owner()) {
        return None;
    }
    let owner = || alive(segment.owner());
    let answer = segment.ask(segment::pid(), file, object.range.start, PATIENCE, owner);
    // Whatever the answer was: others could write it. What is in the table now, nobody could.
    let found = segment.find_object(file);
    if answer.is_err() || (answer == Ok(true) && found.is_none()) {
        segment.lose(Loss::Unanswered, 1);
        crate::log::line(&format!("no answer about {}", String::from_utf8_lossy(&file.path)));
    }
    found
}

fn target(object: &Object, function: &Function) -> Option<Target> {
    let (address, after) = object.place(function)?;
    let action = match (stacks::recorder(), function.kind) {
        (Some(recorder), kind) => {
            let timed = kind == Kind::Time && function.returns;
            stacks::action(recorder, address, function.offset, function.cell, timed)
        }
        (None, Kind::Count) => Action::Count { cell: function.cell },
        (None, Kind::Time) => Action::Time { cell: function.cell },
    };
    Some(Target {
        address,
        size: function.size,
        after,
        offset: function.offset,
        action,
        returns: function.returns,
        by: Returns::Best,
        breakpoint: false,
        traps: !wire::is_c_library(&object.file.path),
    })
}

/// Memory that the agent uses in this process, in bytes.
pub(crate) fn bytes(engine: &Engine) -> u64 {
    let unwinder = stacks::recorder().map_or(0, |r| r.bytes() as u64);
    MEMORY.mapped() + engine.code_bytes() + uprobe::statistics().bytes as u64 + unwinder
}

/// Whether a process is there, whoever it belongs to.
#[allow(unsafe_code)]
fn alive(pid: u32) -> bool {
    // SAFETY: signal 0 is sent to nobody.
    let gone = unsafe { libc::kill(pid.cast_signed(), 0) } != 0;
    !gone || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}
