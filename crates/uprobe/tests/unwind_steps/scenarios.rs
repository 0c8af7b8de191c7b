//! What the child does, so that every instruction of the engine's assembly runs.

use crate::stepper::Event;
use crate::targets::{Callback, Function, PREFIX, attempt, backwards, escape};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use uprobe::testing;

/// Functions by name.
pub(crate) type Lookup<'l> = dyn Fn(&str) -> Function + 'l;

/// One child's life.
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// The actions of the targets that it calls.
    pub(crate) actions: [&'static str; 2],
    pub(crate) event: Event,
    /// Vector state that the engine is told is there.
    pub(crate) vectors: u32,
    pub(crate) run: Box<dyn Fn(&Lookup<'_>)>,
}

pub(crate) const SSE: u32 = 0;
pub(crate) const AVX: u32 = 0b100;
pub(crate) const AVX_512: u32 = 0b1110_0100;

/// Runs a scenario with what finds functions by what they do.
type Run = fn(&dyn Fn(&str) -> Function);

const ACTIONS: [&str; 9] = [
    "count",
    "pair",
    "time",
    "consume",
    "consume_all",
    "consume_entry",
    "exits_pair",
    "exits_time",
    "exits_consume",
];

/// The next callback leaves for good.
static LEAVES: AtomicBool = AtomicBool::new(false);
/// The next consumer does, as a signal handler in it may.
static CONSUMER_LEAVES: AtomicBool = AtomicBool::new(false);
/// What the next consumer calls.
static IN_CONSUMER: AtomicUsize = AtomicUsize::new(0);
/// What the handler of SIGUSR2 calls.
static IN_HANDLER: AtomicUsize = AtomicUsize::new(0);

/// In every consumer.
pub(crate) fn in_consumer() {
    match IN_CONSUMER.swap(0, Ordering::Relaxed) {
        0 => {}
        target => call(function(target), 0, nothing),
    }
    if CONSUMER_LEAVES.swap(false, Ordering::Relaxed) {
        // SAFETY: inside `attempt`.
        unsafe { escape(0) }
    }
}

unsafe extern "C-unwind" fn nothing(_: usize) -> usize {
    0
}

/// Leaves, if that is due.
unsafe extern "C-unwind" fn leave_or_not(_: usize) -> usize {
    if LEAVES.swap(false, Ordering::Relaxed) {
        // SAFETY: inside `attempt`.
        unsafe { escape(0) }
    }
    0
}

fn function(address: usize) -> Function {
    let place = std::ptr::with_exposed_provenance::<()>(address);
    // SAFETY: the address of a target.
    unsafe { std::mem::transmute(place) }
}

/// Calls the target, and may leave it from inside.
unsafe extern "C-unwind" fn call_inside(target: usize) -> usize {
    // SAFETY: a target, inside `attempt`.
    unsafe { function(target)(0, leave_or_not) }
}

unsafe extern "C-unwind" fn attempt_inside(target: usize) -> usize {
    // SAFETY: escapes to here, or returns.
    unsafe { attempt(target, call_inside) }
}

/// Calls the target and leaves it from inside, or does not: from the same place on the stack.
fn try_to_call(target: Function, leaves: bool) {
    LEAVES.store(leaves, Ordering::Relaxed);
    // SAFETY: escapes to there, or returns.
    unsafe { attempt(target as usize, call_inside) };
}

/// Calls the target from further down, where other things stand in the frames that were left.
#[inline(never)]
fn call_below(target: Function, frames: u32) {
    let mut frame = [frames as u8; 200];
    std::hint::black_box(&mut frame);
    if frames == 0 {
        call(target, 0, nothing);
    } else {
        call_below(target, frames - 1);
    }
    std::hint::black_box(&frame);
}

/// A target as what `backwards` calls.
fn as_callback(target: Function) -> Callback {
    // SAFETY: those that are passed look at their first argument only.
    unsafe { std::mem::transmute(target) }
}

extern "C" fn hit(_: i32) {
    let target = function(IN_HANDLER.load(Ordering::Relaxed));
    // SAFETY: a target.
    unsafe { target(0, nothing) };
}

/// All that need no more of the machine than this.
pub(crate) fn all(available: u32) -> Vec<Scenario> {
    let mut all: Vec<Scenario> = Vec::new();
    let mut add = |name: String, event, vectors, run: Box<dyn Fn(&Lookup<'_>)>| {
        // A name begins with the action.
        let its = ACTIONS.iter().find(|a| name.split([' ', ':']).next() == Some(a));
        let actions = [*its.expect("an action"), "consume"];
        all.push(Scenario { name, actions, event, vectors, run });
    };
    for action in ACTIONS {
        let name = move |what: &str| format!("{PREFIX}{action}_{what}");
        let plain = |what: &'static str, run: Run| {
            let run = move |lookup: &Lookup<'_>| {
                run(&|what| match what {
                    "consume" => lookup(&format!("{PREFIX}consume_call")),
                    _ => lookup(&name(what)),
                });
            };
            (format!("{action}: {what}"), Event::Nothing, u32::MAX, Box::new(run))
        };
        for (name, event, vectors, run) in [
            plain("calls", |f| (0..3).for_each(|_| call(f("call"), 0, nothing))),
            plain("a flag is read", |f| (0..3).for_each(|_| call(f("carry"), 0, nothing))),
            plain("deep", |f| {
                call(f("recurse"), 3, nothing);
                call(f("recurse_carry"), 3, nothing);
            }),
            plain("tail calls", |f| {
                call(f("ping"), 3, nothing);
                call(f("ping_carry"), 3, nothing);
            }),
            plain("a tail call of itself", |f| (0..2).for_each(|_| call(f("again"), 3, nothing))),
            plain("branches back", |f| (0..2).for_each(|_| call(f("spin"), 4, nothing))),
            plain("left", |f| {
                for target in [f("call"), f("call_carry")] {
                    call(target, 0, nothing);
                    try_to_call(target, true);
                    try_to_call(target, false);
                    try_to_call(target, true);
                    // Further up.
                    call(target, 0, nothing);
                    LEAVES.store(true, Ordering::Relaxed);
                    call(target, target as usize, attempt_inside);
                }
            }),
            plain("hit in a consumer", |f| {
                for target in [f("call"), f("carry")] {
                    IN_CONSUMER.store(target as usize, Ordering::Relaxed);
                    call(f("consume"), 0, nothing);
                }
            }),
            plain("backwards", |f| {
                for what in ["carry", "recurse", "recurse_carry", "ping", "ping_carry", "spin"] {
                    // SAFETY: these call nothing that must not be called so.
                    unsafe { backwards(2, as_callback(f(what))) };
                }
            }),
        ] {
            add(name, event, vectors, run);
        }
        let saves = ["count", "consume", "consume_all"].contains(&action);
        for (vectors, with) in [(SSE, "SSE"), (AVX, "AVX"), (AVX_512, "AVX-512")] {
            if saves && vectors & !available == 0 {
                let name = name("call");
                let run =
                    move |lookup: &Lookup<'_>| (0..2).for_each(|_| call(lookup(&name), 0, nothing));
                add(
                    format!("{action}: calls, with {with}"),
                    Event::Nothing,
                    vectors,
                    Box::new(run),
                );
            }
        }
    }
    for action in ["pair", "time"] {
        for what in ["call", "carry"] {
            for n in (0..42).step_by(6) {
                let name = format!("{PREFIX}{action}_{what}");
                let run = move |lookup: &Lookup<'_>| {
                    let target = lookup(&name);
                    IN_HANDLER.store(target as usize, Ordering::Relaxed);
                    crate::child::install(libc::SIGUSR2, hit);
                    (0..4).for_each(|_| call(target, 0, nothing));
                };
                let name = format!("{action} {what}: a handler hits it, {n} instructions on");
                add(name, Event::Interrupt(n), u32::MAX, Box::new(run));
            }
        }
        for deep in [["ping", "recurse"], ["ping_carry", "recurse_carry"]] {
            let run = move |lookup: &Lookup<'_>| {
                for what in deep {
                    // More than may stand on one slot, and than a thread gets places for at once.
                    call(lookup(&format!("{PREFIX}{action}_{what}")), 70, nothing);
                }
            };
            let name = format!("{action}: {deep:?} until places run out");
            add(name, Event::Nothing, u32::MAX, Box::new(run));
        }
        let run = move |lookup: &Lookup<'_>| {
            let target = lookup(&format!("{PREFIX}{action}_call"));
            let consume = lookup(&format!("{PREFIX}consume_call"));
            for _ in 0..2 {
                call(target, 0, nothing);
                CONSUMER_LEAVES.store(true, Ordering::Relaxed);
                call(target, consume as usize, attempt_inside);
            }
        };
        let name = format!("{action}: returns while a consumer was left");
        add(name, Event::Nothing, u32::MAX, Box::new(run));
        let run = move |lookup: &Lookup<'_>| {
            let target = lookup(&format!("{PREFIX}{action}_call"));
            (0..3).for_each(|_| call(target, 0, nothing));
        };
        let name = format!("{action}: returns while the lists are held");
        add(name, Event::Hold, u32::MAX, Box::new(run));
    }
    let run = |lookup: &Lookup<'_>| {
        for what in ["recurse", "recurse_carry"] {
            (0..2).for_each(|_| call(lookup(&format!("{PREFIX}time_{what}")), 4, nothing));
        }
        let target = lookup(&format!("{PREFIX}time_call"));
        try_to_call(target, true);
        call_below(target, 8);
    };
    add(
        "time: calls in calls, on a stack that is known".to_owned(),
        Event::OwnStack,
        u32::MAX,
        Box::new(run),
    );
    for action in ["time", "exits_time"] {
        for more in [1, u64::MAX] {
            let run = move |lookup: &Lookup<'_>| {
                let target = lookup(&format!("{PREFIX}{action}_call"));
                (0..3).for_each(|_| call(target, 0, nothing));
            };
            let name = format!("{action}: another maximum meanwhile, {more}");
            add(name, Event::Contend(more), u32::MAX, Box::new(run));
        }
    }
    // A handler's calls come and go between any two instructions of those that it interrupts.
    for what in ["call", "carry"] {
        for n in (0..60).step_by(5) {
            let name = format!("{PREFIX}exits_time_{what}");
            let run = move |lookup: &Lookup<'_>| {
                let target = lookup(&name);
                IN_HANDLER.store(target as usize, Ordering::Relaxed);
                crate::child::install(libc::SIGUSR2, hit);
                (0..4).for_each(|_| call(target, 2, nothing));
            };
            let name = format!("exits_time {what}: a handler hits it, {n} instructions on");
            add(name, Event::InterruptShadow(n), u32::MAX, Box::new(run));
        }
    }
    all
}

fn call(target: Function, argument: usize, f: Callback) {
    // SAFETY: a target, and what it may call.
    unsafe { target(argument, f) };
}

/// In the child, before it is stepped.
pub(crate) fn prepare(scenario: &Scenario) {
    testing::limit_vectors(scenario.vectors);
}
