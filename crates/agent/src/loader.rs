//! Libraries that are opened and closed while the program runs.
//!
//! The dynamic loader calls an empty function, `_dl_debug_state`, whenever its list of objects changes, for debuggers. A probe on it tells us, too. The call that says "consistent" comes after
//! a library was mapped and before it is relocated and its constructors run: nobody is in its code yet. No wrapper around `dlopen` is needed, which would look like its caller.
#![allow(unsafe_code)]

use crate::objects::{self, Object};
use crate::{arm, log, segment, stacks, watched};
use std::ffi::{c_int, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};
use uprobe::{Action, Consumer, Context, Engine, Patching, Target, Vectors, Verdict};

/// What the loader tells debuggers: `struct r_debug`.
#[repr(C)]
struct Debug {
    version: c_int,
    map: *const c_void,
    /// The empty function.
    breakpoint: usize,
    state: c_int,
    base: usize,
}

const CONSISTENT: c_int = 0;
/// Bytes behind the function that may be padding; the engine looks whether they are.
const AFTER: u32 = 15;

struct Watch {
    engine: &'static Engine,
    debug: &'static Debug,
    known: Mutex<Vec<Object>>,
}

// SAFETY: what `debug` points to is only read, under the loader's own lock.
unsafe impl Send for Watch {}
// SAFETY: as above.
unsafe impl Sync for Watch {}

static WATCH: OnceLock<Watch> = OnceLock::new();

/// Hears of every object from now on; `known` are there already.
pub(crate) fn watch(engine: &'static Engine, known: Vec<Object>) {
    // SAFETY: a name that lives through the call.
    let debug = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_r_debug".as_ptr()) }.cast::<Debug>();
    // SAFETY: null, or the loader's own structure.
    let Some(debug) = (unsafe { debug.as_ref() }).filter(|d| d.breakpoint != 0) else {
        log::line("the dynamic loader does not tell of libraries that are opened later");
        return;
    };
    let address = debug.breakpoint as u64;
    let _ = WATCH.set(Watch { engine, debug, known: Mutex::new(known) });
    let Some(number) = watched::add(address) else { return };
    let consumer = Consumer { entry: Some(changed), ret: None, span: None, busy: None, data: number, vectors: Vectors::All, limit: 0 };
    let mut batch = engine.batch();
    batch.add(Target { after: AFTER, ..Target::entry(address, 1, Action::Call(consumer)) });
    if let Some(Err(why)) = batch.commit(Patching::Quiet).pop() {
        log::line(&format!("libraries that are opened later are not seen: {why}"));
    }
}

fn changed(_context: &mut Context, number: usize, _cookie: &mut u64) -> Verdict {
    watched::count(number);
    if let (Some(watch), Some(segment)) = (WATCH.get(), segment::get()) {
        // SAFETY: the loader's structure; it changes only under the lock that its caller, this thread, holds.
        let state = unsafe { (&raw const watch.debug.state).read_volatile() };
        if state == CONSISTENT && !segment.stopped() {
            uprobe::own_code(|| compare(watch, segment));
        }
    }
    Verdict::Skip
}

fn compare(watch: &Watch, segment: &wire::Segment) {
    let now = objects::loaded();
    let mut known = watch.known.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |a: &Object, b: &Object| a.range == b.range && a.file == b.file;
    for gone in known.iter().filter(|k| !now.iter().any(|n| same(n, k))) {
        watch.engine.forget(gone.range.clone());
    }
    let new: Vec<Object> = now.iter().filter(|n| !known.iter().any(|k| same(n, k))).cloned().collect();
    let changed = known.len() != now.len() || !new.is_empty();
    *known = now;
    drop(known);
    if changed {
        stacks::refresh();
    }
    if new.is_empty() {
        return;
    }
    arm::arm(watch.engine, segment, &new, true);
    segment.note_agent_bytes(arm::bytes(watch.engine));
}
