//! From the segment's functions to the engine's targets, and from its results to the functions'
//! states.
//!
//! Nothing is written to the program's code here: lists say what is to be written, and whoever put
//! the image there writes it while all threads stand.

use crate::memory::{bytes, note_code};
use crate::objects::{self, Object};
use crate::segment::{self, Attached};
use crate::{hooks, known, stacks};
use alloc::vec::Vec;
use alloc::{format, string::ToString};
use patch::Decisions;
use recorder::Recorder;
use sys::{process, thread};
use uprobe::{Action, Change, Engine, Prepared, Refusal, Returns, SiteId, Target};
use wire::image::{Failure, MOST_BYTES, encode};
use wire::{Function, Kind, Loss, State, hook};

/// Memory that a probed place takes, the function's entry or an exit of it, beside its cell: stub,
/// tables, what the plan keeps; an upper bound of the average.
const BYTES_PER_SITE: u64 = 3072;

/// Note of a function that branches back to its first byte in ways that cannot be led past the
/// probe.
const BRANCHES: &str = "may count branches back to its first byte";
/// Why functions are left alone for which the budget has no room.
const NO_MEMORY: &str = "no room in --max-memory: give it more, or choose fewer functions";
/// Why functions are left alone that came when memory was used up already.
const NO_CELLS: &str = "no room in --max-memory for its counters in the threads that there are: \
    give it more, or choose fewer functions";
/// Why functions are left alone that have no room for a jump. A handler of ours would take the
/// program's signals, and that from outside.
const NO_JUMP: &str = "too short for a jump, and breakpoints are not put in from outside";
/// What the log says where a function of [`hook::ALL`] could not be probed.
const NO_HOOK: &[u8] = b"image: programs that are executed, or libraries that are opened later, \
    are not followed";
/// Why functions are left alone whose changes were not written.
const NOT_WRITTEN: &str = "its code could not be changed: a thread stood in it, or other code was \
    there";

/// What is armed: a function of the segment, or, without one, one that is probed for the image's
/// own sake alone.
pub(crate) type Armed = (Option<usize>, SiteId);

/// Prepares what the segment wants of everything that is loaded and was not looked through before;
/// the words of the list are added to `words`. What is not loaded any more is forgotten.
///
/// # Errors
/// It cannot be known what is loaded.
pub(crate) fn arm(
    engine: &'static Engine,
    attached: &Attached,
    words: &mut Vec<u64>,
) -> Result<Vec<Armed>, Failure> {
    let segment = &attached.segment;
    let objects = objects::loaded().ok_or(Failure::Maps)?;
    let recorder = attached.recorder();
    if let Some(recorder) = recorder {
        stacks::loaded(recorder, segment, &objects);
    }
    note_code(engine);
    let used = bytes();
    let mut batch = engine.batch();
    let mut functions = Vec::new();
    let mut sites = 0;
    let new = known::update(&objects, |range| engine.forget(range));
    for object in new {
        let Some(index) = segment.find_object(&object.file) else { continue };
        let plans = segment.plans_of(index);
        let decisions = Decisions::read(&plans);
        let mut hooks = Hooks::of(segment.hooks(index));
        for index in segment.functions_of(index) {
            let Some(function) = segment.function(index) else { continue };
            let decision = decisions.find(function.address, function.offset, object.bias);
            let more = decision.as_ref().map_or(1, |d| d.as_ref().map_or(1, |plan| plan.sites()));
            let needed = (sites + more) as u64 * BYTES_PER_SITE;
            if used + needed + segment.bytes_with(index, &function) > segment.shape().budget {
                segment.set_state(index, State::Skipped, NO_MEMORY);
                segment.lose(Loss::Memory, 1);
                continue;
            }
            let Some(target) = target(object, &function, recorder) else {
                segment.set_state(index, State::Skipped, "not in executable code of its object");
                continue;
            };
            // Two probes that count do not share a place; consumers do.
            if recorder.is_none() && hooks.want(&function, index) {
                continue;
            }
            match decision {
                Some(decision) => batch.add_decided(target, decision),
                None => batch.add(target),
            }
            functions.push(Some(index));
            sites += more;
        }
        for (address, target, index) in hooks.targets(object) {
            match decisions.find(address, 0, object.bias) {
                Some(decision) => batch.add_decided(target, decision),
                None => batch.add(target),
            }
            functions.push(index);
        }
    }
    // Before the first hit: threads that have a block count there.
    if !segment::extend_blocks(attached) {
        for index in functions.into_iter().flatten() {
            segment.set_state(index, State::Skipped, NO_CELLS);
        }
        segment.lose(Loss::Memory, 1);
        return Ok(Vec::new());
    }
    let Prepared { armed: results, changes } = batch.commit_outside();
    let mut armed = Vec::with_capacity(functions.len());
    for (index, result) in functions.into_iter().zip(results) {
        match (result, index) {
            (Ok(site), index) => {
                if let Some(index) = index {
                    let note = site.entry_only.map(|why| format!("entry only: {why}"));
                    let branches = if site.counts_branches { BRANCHES } else { "" };
                    segment.set_state(index, State::Detour, note.as_deref().unwrap_or(branches));
                }
                armed.push((index, site.id));
            }
            (Err(Refusal::NeedsTrap), Some(index)) => {
                segment.set_state(index, State::Skipped, NO_JUMP);
            }
            (Err(why), Some(index)) => {
                segment.set_state(index, State::Skipped, &why.to_string());
            }
            (Err(_), None) => segment.log(NO_HOOK),
        }
    }
    note_code(engine);
    segment.note_agent_bytes(bytes());
    changes.iter().for_each(|change| add(words, change));
    Ok(armed)
}

/// Takes everything off sites whose code was put back: no hit of them leads to the segment.
pub(crate) fn forget(engine: &'static Engine, sites: &[SiteId]) {
    engine.removed_outside(sites);
}

/// Whoever was told so has written the list, or nothing of it.
pub(crate) fn written(engine: &'static Engine, attached: &Attached, armed: &[Armed], ok: bool) {
    let functions = armed.iter().filter_map(|(index, _)| *index);
    if ok {
        segment::announce(attached, u32::try_from(functions.count()).unwrap_or(u32::MAX), 0);
        return;
    }
    let sites: Vec<SiteId> = armed.iter().map(|(_, site)| *site).collect();
    engine.remove_outside(&sites);
    for index in functions {
        attached.segment.set_state(index, State::Skipped, NOT_WRITTEN);
    }
}

/// The functions of an object that are probed for the image's own sake.
struct Hooks {
    /// Where they are in its file, by their numbers; 0: nowhere.
    places: [u64; hook::ALL.len()],
    /// What the user wants of them, too: the function, and its cell.
    wanted: [Option<(usize, u32)>; hook::ALL.len()],
}

impl Hooks {
    fn of(places: [u64; hook::ALL.len()]) -> Self {
        Self { places, wanted: [None; hook::ALL.len()] }
    }

    /// Whether a function is one of them, and is counted there.
    fn want(&mut self, function: &Function, index: usize) -> bool {
        let is_it = |place: &u64| function.offset == 0 && *place == function.address;
        let found = self.places.iter().position(is_it).filter(|_| function.address != 0);
        found.map(|which| self.wanted[which] = Some((index, function.cell))).is_some()
    }

    /// Address in the file, probe, and the function of the segment that is counted by it.
    fn targets(self, object: &Object) -> impl Iterator<Item = (u64, Target, Option<usize>)> {
        let Self { places, wanted } = self;
        places.into_iter().zip(wanted).enumerate().filter_map(|(which, (address, wanted))| {
            let (place, after) = object.place(&hooks::place(address)).filter(|_| address != 0)?;
            let (index, cell) = wanted.unzip();
            Some((address, hooks::target(which, place, after, cell), index))
        })
    }
}

/// The list of those of these changes that take back what is there: a list may have been written in
/// part, or not at all, and a library may be gone.
pub(crate) fn list_written(reversals: &[Change], words: &mut Vec<u64>) {
    // Not the process's number: its first thread may have ended, and no memory is found by it then.
    let own = thread::gettid();
    let is_there = |change: &&Change| {
        let mut there = [0; MOST_BYTES];
        let there = &mut there[..change.old.len().min(MOST_BYTES)];
        let read = process::read_memory(own, change.address as usize, there);
        read == Ok(change.old.len()) && *there == *change.old
    };
    reversals.iter().filter(is_there).for_each(|change| add(words, change));
}

fn target(
    object: &Object,
    function: &Function,
    recorder: Option<&'static Recorder>,
) -> Option<Target> {
    let (address, after) = object.place(function)?;
    let &Function { offset, cell, kind, .. } = function;
    let timed = kind == Kind::Time;
    let action = match recorder {
        Some(recorder) => stacks::action(recorder, address, offset, cell, timed),
        None if timed => Action::Time { cell },
        None => Action::Count { cell },
    };
    Some(Target {
        address,
        size: function.size,
        after,
        offset,
        action,
        // Nobody's unwinder knows the stubs of an image. Exits need none.
        returns: false,
        by: Returns::Exits,
        breakpoint: false,
        traps: false,
    })
}

fn add(words: &mut Vec<u64>, change: &Change) {
    let bytes = (&*change.old, &*change.new);
    encode(words, change.address, bytes, change.range.clone(), &change.moved);
}
