//! Libraries that are opened and closed while the program runs.
//!
//! The dynamic loader calls an empty function, `_dl_debug_state`, whenever its list of objects
//! changes, for debuggers. A probe on it tells us, too. The call that says "consistent" comes after
//! a library was mapped and before it is relocated and its constructors run: nobody is in its code
//! yet. No wrapper around `dlopen` is needed, which would look like its caller.
#![allow(unsafe_code)]

use crate::namespaces::{self, Debug};
use crate::objects::{self, Object};
use crate::own_probes::OwnProbes;
use crate::{arm, log, overwritten, segment, stacks, watched};
use std::sync::{Mutex, OnceLock, PoisonError};
use uprobe::{Action, Consumer, Context, Engine, Target, Vectors, Verdict};

/// Bytes behind the function that may be padding; the engine looks whether they are.
const AFTER: u32 = 15;

struct Watch {
    engine: &'static Engine,
    known: Mutex<Vec<Object>>,
}

static WATCH: OnceLock<Watch> = OnceLock::new();

/// Hears of every object from now on; `known` are there already.
pub(crate) fn watch(engine: &'static Engine, known: &[Object], probes: &mut OwnProbes<'_>) {
    let Some(address) = namespaces::debug().map(Debug::breakpoint).filter(|at| *at != 0) else {
        log::line("the dynamic loader does not tell of libraries that are opened later");
        return;
    };
    let address = address as u64;
    let _ = WATCH.set(Watch { engine, known: Mutex::new(known.to_vec()) });
    let Some(number) = watched::add(address) else { return };
    let consumer = Consumer {
        entry: Some(changed),
        ret: None,
        span: None,
        busy: Some(missed),
        data: number,
        vectors: Vectors::All,
        limit: 0,
    };
    let entry = Target::entry(address, 1, Action::Call(consumer));
    probes.add(Target { after: AFTER, ..entry }, "libraries that are opened later are not seen");
}

fn changed(_context: &mut Context, number: usize, _cookie: &mut u64) -> Verdict {
    watched::count(number);
    let (Some(watch), Some(segment)) = (WATCH.get(), segment::get()) else { return Verdict::Skip };
    if !namespaces::consistent() {
        watch.engine.keep_out();
    } else if !segment.stopped() {
        uprobe::own_code(|| compare(watch, segment));
        watch.engine.let_in();
    }
    Verdict::Skip
}

/// A change in a signal handler that has interrupted a consumer of this thread: what is closed is
/// not heard of.
fn missed(number: usize) {
    watched::count(number);
    overwritten::look_no_more();
}

fn compare(watch: &Watch, segment: &wire::Segment) {
    let mut known = watch.known.lock().unwrap_or_else(PoisonError::into_inner);
    let now = if uprobe::is_sealed() {
        // What is new cannot be looked at.
        objects::remaining(&known)
    } else {
        objects::loaded(&known)
    };
    for gone in known.iter().filter(|k| !now.iter().any(|n| n.is(k))) {
        watch.engine.forget(gone.range.clone());
    }
    let new: Vec<Object> = now.iter().filter(|n| !known.iter().any(|k| n.is(k))).cloned().collect();
    let changed = known.len() != now.len() || !new.is_empty();
    if changed {
        stacks::refresh(&now);
    }
    *known = now;
    drop(known);
    if new.is_empty() {
        return;
    }
    arm::arm(watch.engine, segment, &new, true);
    segment.note_agent_bytes(arm::bytes(watch.engine));
}
