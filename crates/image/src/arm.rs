//! From the segment's functions to the engine's targets, and from its results to the functions'
//! states.
//!
//! Nothing is written to the program's code here: lists say what is to be written, and whoever put
//! the image there writes it while all threads stand.

use crate::memory::{bytes, note_code};
use crate::objects::{self, Object};
use crate::segment::{self, Attached};
use crate::{fresh, hooks, known, stacks};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use patch::Decisions;
use recorder::Recorder;
use resident::Budget;
use sys::{process, thread};
use uprobe::{Action, Change, Engine, Method, Prepared, Refusal, Returns, SiteId, Target};
use wire::image::{Failure, MOST_BYTES, encode};
use wire::{Function, Kind, Segment, State, hook};

/// Note of a function that branches back to its first byte in ways that cannot be led past the
/// probe.
const BRANCHES: &str = "may count branches back to its first byte";
/// Why functions are left alone that have no room for a jump. A handler of ours would take the
/// program's signals, and that from outside.
const NO_JUMP: &str = "too short for a jump, and breakpoints are not put in from outside";
/// What the log says where a function of [`hook::ALL`] could not be probed.
const NO_HOOK: &[u8] = b"image: programs that are executed, or libraries that are opened later, \
    are not followed";
/// Why functions are left alone whose changes were not written.
const NOT_WRITTEN: &str = "its code could not be changed: a thread stood in it, or other code was \
    there";

/// What is armed.
pub(crate) struct Armed {
    /// A function of the segment. None: it is probed for the image's own sake alone.
    pub(crate) function: Option<usize>,
    pub(crate) site: SiteId,
    breakpoint: bool,
}

/// What a target of a batch is.
struct Wanted {
    /// As [`Armed::function`].
    function: Option<usize>,
    /// Of a C library, which blocks all signals at times.
    library: bool,
    /// A probe of the image's own by which breakpoints can trap.
    lets_trap: bool,
}

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
    let began = now();
    let segment = &attached.segment;
    let objects = objects::loaded().ok_or(Failure::Maps)?;
    let recorder = attached.recorder();
    if let Some(recorder) = recorder {
        stacks::loaded(recorder, segment, &objects);
    }
    note_code(engine);
    let outside = fresh::outside();
    let mut budget = Budget::new(segment, bytes());
    let mut batch = engine.batch();
    let mut all = Vec::new();
    let new = known::update(&objects, |range| engine.forget(range));
    for object in new {
        let Some(index) = segment.find_object(&object.file) else { continue };
        let plans = segment.plans_of(index);
        let decisions = Decisions::read(&plans);
        let library = wire::is_c_library(&object.file.path);
        let mut hooks = Hooks::of(segment.hooks(index), outside.traps);
        for index in segment.functions_of(index) {
            let Some(function) = segment.function(index) else { continue };
            let decision = decisions.find(function.address, function.offset, object.bias);
            let places = patch::sites(decision.as_ref());
            if !budget.has_room(index, &function, places) {
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
            let target = Target { traps: outside.traps && !library, ..target };
            match decision {
                Some(decision) => batch.add_decided(target, decision),
                None => batch.add(target),
            }
            all.push(Wanted { function: Some(index), library, lets_trap: false });
            budget.take(places);
        }
        for Hook { address, target, function, of_signals: lets_trap } in hooks.targets(object) {
            match decisions.find(address, 0, object.bias) {
                Some(decision) => batch.add_decided(target, decision),
                None => batch.add(target),
            }
            all.push(Wanted { function, library, lets_trap });
        }
    }
    // Before the first hit: threads that have a block count there.
    if !segment::extend_blocks(attached) {
        budget.refuse_cells(all.into_iter().filter_map(|wanted| wanted.function));
        return Ok(Vec::new());
    }
    let Prepared { armed: mut results, mut changes } = batch.commit_outside(outside);
    fresh::ran();
    if all.iter().zip(&results).any(|(wanted, result)| wanted.lets_trap && result.is_err()) {
        fresh::no_traps();
        without_traps(engine, &mut results, &mut changes);
    }
    let mut armed = Vec::with_capacity(all.len());
    for (Wanted { function, library, .. }, result) in all.into_iter().zip(results) {
        match (result, function) {
            (Ok(probe), function) => {
                if let Some(index) = function {
                    note(segment, index, &probe);
                }
                let breakpoint = matches!(probe.method, Method::Breakpoint(_));
                armed.push(Armed { function, site: probe.id, breakpoint });
            }
            (Err(Refusal::NeedsTrap), Some(index)) => {
                let why = if outside.traps && library { wire::NEEDS_TRAP } else { NO_JUMP };
                segment.set_state(index, State::Skipped, why);
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
    // Relaxed: calls of the image come one after the other.
    TOOK.store(now().saturating_sub(began), Ordering::Relaxed);
    Ok(armed)
}

/// Nanoseconds that the last list took.
static TOOK: AtomicU64 = AtomicU64::new(0);

/// A time in nanoseconds; 0: there is none.
fn now() -> u64 {
    const MONOTONIC: i32 = 1;
    let time = sys::time::clock_gettime(MONOTONIC).unwrap_or_default();
    (time.sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.nsec as u64)
}

/// Takes back all that needs a breakpoint, of which nothing was written yet.
fn without_traps(
    engine: &'static Engine,
    results: &mut [Result<uprobe::Armed, Refusal>],
    changes: &mut Vec<Change>,
) {
    let at = |probe: &uprobe::Armed| changes.iter().find(|change| change.address == probe.address);
    let traps = |probe: &uprobe::Armed| at(probe).is_some_and(|change| change.new.len() == 1);
    let mut sites = Vec::new();
    for result in results.iter_mut() {
        if let Some(probe) = result.as_ref().ok().filter(|probe| traps(probe)) {
            sites.push(probe.id);
            *result = Err(Refusal::NeedsTrap);
        }
    }
    let undone = engine.remove_outside(&sites);
    changes.retain(|change| undone.iter().all(|other| other.address != change.address));
}

/// What there is to be said of a function that is armed.
fn note(segment: &Segment, index: usize, probe: &uprobe::Armed) {
    let entry_only = probe.entry_only.map(|why| format!("entry only: {why}"));
    let (state, why) = match probe.method {
        Method::Detour => (State::Detour, String::new()),
        Method::Breakpoint(why) => (State::Breakpoint, why.to_string()),
    };
    let other = if probe.counts_branches { BRANCHES } else { &why };
    segment.set_state(index, state, entry_only.as_deref().unwrap_or(other));
}

/// Takes everything off sites whose code was put back: no hit of them leads to the segment.
pub(crate) fn forget(engine: &'static Engine, sites: &[SiteId]) {
    engine.removed_outside(sites);
}

/// Whoever was told so has written the list, or nothing of it.
pub(crate) fn written(engine: &'static Engine, attached: &Attached, armed: &[Armed], ok: bool) {
    let functions = || armed.iter().filter(|armed| armed.function.is_some());
    if ok {
        let breakpoints = functions().filter(|armed| armed.breakpoint).count();
        let detours = functions().count() - breakpoints;
        segment::announce(attached, [detours, breakpoints], TOOK.load(Ordering::Relaxed));
        return;
    }
    let sites: Vec<SiteId> = armed.iter().map(|armed| armed.site).collect();
    engine.remove_outside(&sites);
    for index in functions().filter_map(|armed| armed.function) {
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

/// One of them.
struct Hook {
    /// In the file.
    address: u64,
    target: Target,
    /// The function of the segment that is counted by it.
    function: Option<usize>,
    of_signals: bool,
}

impl Hooks {
    /// `signals`: those that are about signals, too.
    fn of(mut places: [u64; hook::ALL.len()], signals: bool) -> Self {
        for (which, place) in places.iter_mut().enumerate() {
            if !signals && hook::is_of_signals(which) {
                *place = 0;
            }
        }
        Self { places, wanted: [None; hook::ALL.len()] }
    }

    /// Whether a function is one of them, and is counted there.
    fn want(&mut self, function: &Function, index: usize) -> bool {
        let is_it = |place: &u64| function.offset == 0 && *place == function.address;
        let found = self.places.iter().position(is_it).filter(|_| function.address != 0);
        found.map(|which| self.wanted[which] = Some((index, function.cell))).is_some()
    }

    fn targets(self, object: &Object) -> impl Iterator<Item = Hook> {
        let Self { places, wanted } = self;
        places.into_iter().zip(wanted).enumerate().filter_map(|(which, (address, wanted))| {
            let (place, after) = object.place(&hooks::place(address)).filter(|_| address != 0)?;
            let (function, cell) = wanted.unzip();
            let target = hooks::target(which, place, after, cell);
            Some(Hook { address, target, function, of_signals: hook::is_of_signals(which) })
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
