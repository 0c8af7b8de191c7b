//! The constructor: from a mapped file to armed functions, before the program's first instruction.
#![allow(unsafe_code)]

use crate::announce::announce;
use crate::decided::{Decided, Plans};
use crate::own_probes::OwnProbes;
use crate::{arm, environment, fork, hooks, loader, log, objects, overwritten, segment, stacks};
use std::ffi::{c_char, c_int};
use std::time::Instant;
use uprobe::{Config, Engine, Hooks};
use wire::Segment;

#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn(c_int, *const *const c_char, *mut *mut c_char) = constructor;

/// Runs behind the functions that the program has given to `atexit`. By then it may have given up
/// all system calls but the last.
#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".fini_array")]
static DESTRUCTOR: extern "C" fn() = destructor;

#[cfg_attr(test, expect(dead_code, reason = "tests are not preloaded"))]
extern "C" fn destructor() {
    overwritten::look_at_end();
}

/// glibc gives constructors the arguments of `main`. Before its own constructor ran, which is when
/// we run, `environ` is not set yet.
#[cfg_attr(test, expect(dead_code, reason = "tests are not preloaded"))]
extern "C" fn constructor(
    _argc: c_int,
    _argv: *const *const c_char,
    environment: *mut *mut c_char,
) {
    let Some(own) = objects::own_path() else { return };
    // SAFETY: the kernel's array, before anybody else has looked at it.
    let Some(path) = (unsafe { environment::take(environment, &own) }) else { return };
    match segment::open(&path) {
        // Nobody is left to read what would be counted.
        Some(segment) if segment.stopped() => {}
        Some(segment) => run(segment),
        // No segment, no log: the command line says what it did not hear from us.
        None => {}
    }
}

fn run(segment: &'static Segment) {
    let started = Instant::now();
    segment.reclaim_blocks(segment::owner());
    // Before the engine's handlers for forks, which ask for a block in the child: it has to know
    // who it is.
    fork::prepare();
    hooks::prepare();
    let hooks = Hooks {
        thread_start: segment::thread_start,
        thread_exit: segment::thread_exit,
        lost: segment::lost,
    };
    let engine = match Engine::start(hooks, Config::default()) {
        Ok(engine) => engine,
        Err(why) => {
            log::line(&why.to_string());
            return;
        }
    };
    fork::prepare_last();
    uprobe::own_code(|| arm_all(engine, segment, started));
    uprobe::prepare_thread();
}

/// Arms everything. What the C library does for us behind the first patch is not the program's
/// doing.
fn arm_all(engine: &'static Engine, segment: &'static Segment, started: Instant) {
    uprobe::signals::adopt();
    let loaded = objects::loaded(&[]);
    stacks::start(segment, &loaded, grown);
    // First what the agent needs itself: what the user wants of the same functions is counted
    // there.
    let plans = Plans::of(segment, &loaded);
    let decided = Decided::by(&plans);
    let mut own = OwnProbes::new(engine, &decided);
    loader::watch(engine, &loaded, &mut own);
    hooks::exec::watch(&mut own);
    hooks::ends::watch(&mut own);
    hooks::names::watch(&mut own);
    own.arm();
    let armed = arm::arm(engine, segment, &loaded, true);
    segment.note_agent_bytes(arm::bytes(engine));
    announce(segment, armed, started.elapsed().as_nanos() as u64);
}

/// A thread has more memory now.
fn grown() {
    if let (Some(segment), Some(engine)) = (segment::get(), Engine::get()) {
        segment.note_agent_bytes(arm::bytes(engine));
    }
}
