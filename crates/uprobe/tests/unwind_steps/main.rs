//! Unwinding from every instruction of a hit: a child is stepped through every way that a hit can
//! take, a signal's handler walks the stack at each instruction, and what it finds is compared with
//! what is known from the function's entry: the caller, its stack pointer, the registers that a
//! function keeps, and where the walk ends.
//!
//! Every instruction of the engine's assembly has to have been run, with AVX-512, with AVX only and
//! with neither; the machine's lack of one is the only excuse.
#![allow(unsafe_code)]

mod child;
#[path = "../common/mod.rs"]
mod common;
mod ptrace;
mod scenarios;
mod stepper;
mod symbols;
mod targets;

use child::Walk;
use iced_x86::{FlowControl, Instruction, Register};
use ptrace::Child;
use scenarios::{AVX, AVX_512, Scenario};
use std::collections::BTreeSet;
use std::ptr::{self, NonNull};
use stepper::{Event, Places, Seen, Stepper};
use symbols::Symbols;
use uprobe::testing;

/// Memory that a child shares.
fn shared() -> NonNull<Walk> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping.
    let place = unsafe { libc::mmap(ptr::null_mut(), size_of::<Walk>(), protection, flags, -1, 0) };
    assert_ne!(place, libc::MAP_FAILED);
    NonNull::new(place.cast()).expect("not at 0")
}

fn places() -> Places {
    let symbols = Symbols::read("unstepped_attempt", targets::attempt as *const () as usize as u64);
    let sites = targets::arm(&symbols);
    let engine: Vec<_> = symbols.functions("__trapline_uprobe_").collect();
    let area = engine.iter().find(|s| s.name.contains("_code_")).expect("the area").clone();
    // In functions of Go's, of whose stacks these unwinders know nothing.
    let is_gos = |name: &str| name.contains("_switching_") || name.contains("_goroutine_");
    let routines: Vec<_> =
        engine.into_iter().filter(|s| symbols.is_code(s.start) && !is_gos(&s.name)).collect();
    assert!(routines.len() >= 13, "the engine's routines: {routines:?}");
    let instructions = routines.iter().flat_map(|r| r.instructions(&symbols.file, symbols.bias));
    Places {
        instructions: instructions.collect(),
        sites,
        targets: symbols.functions(targets::PREFIX).collect(),
        routines,
        area,
        landing: targets::landing(),
    }
}

/// Runs one child; what was wrong, and whether its event came.
fn run(
    scenario: &Scenario,
    places: &Places,
    walk: NonNull<Walk>,
    seen: &mut Seen,
) -> (Vec<String>, bool) {
    let lookup = |name: &str| {
        let site = places.sites.iter().find(|s| s.name == name).expect("a target");
        let place = ptr::with_exposed_provenance::<()>(site.start as usize);
        // SAFETY: the address of a target.
        unsafe { std::mem::transmute::<*const (), targets::Function>(place) }
    };
    let child = Child::start(|| {
        scenarios::prepare(scenario);
        child::walk_at_signals(walk.as_ptr());
        for _ in 0..2 {
            // SAFETY: stops until the parent has come; the first time it goes on by a first walk.
            unsafe { libc::raise(libc::SIGSTOP) };
        }
        (scenario.run)(&lookup);
    });
    let mut stepper = Stepper::new(child, places, walk, seen);
    stepper.actions = scenario.actions;
    stepper.event = scenario.event;
    stepper.go();
    let wrong = stepper.wrong.into_values().map(|why| format!("{}: {why}", scenario.name));
    (wrong.collect(), stepper.happened)
}

/// Whether the machine lacks what the instruction needs.
fn lacks(i: &Instruction, available: u32) -> bool {
    let uses = |test: fn(Register) -> bool| (0..2).any(|n| test(i.op_register(n)));
    let of_avx_512 = uses(Register::is_zmm) || uses(Register::is_k);
    of_avx_512 && available & AVX_512 != AVX_512 || uses(Register::is_ymm) && available & AVX == 0
}

/// The addresses of what the machine cannot run, the one reason not to have seen it: what it lacks,
/// and what can be come to only from there.
fn beyond(places: &Places, available: u32) -> BTreeSet<u64> {
    let branches = places.instructions.values();
    let targets: BTreeSet<u64> = branches.map(Instruction::near_branch_target).collect();
    let mut found = BTreeSet::new();
    let mut before: Option<&Instruction> = None;
    for (ip, i) in &places.instructions {
        let follows = before.is_some_and(|before| {
            let goes_on = !matches!(
                before.flow_control(),
                FlowControl::UnconditionalBranch
                    | FlowControl::IndirectBranch
                    | FlowControl::Return
                    | FlowControl::Exception
            );
            before.next_ip() == *ip && goes_on && found.contains(&before.ip())
        });
        let is_begin = places.routines.iter().any(|r| r.start == *ip);
        if lacks(i, available) || follows && !is_begin && !targets.contains(ip) {
            found.insert(*ip);
        }
        before = Some(i);
    }
    found
}

/// What was never run.
fn unreached(places: &Places, seen: &Seen, available: u32) -> Vec<String> {
    let beyond = beyond(places, available);
    let all = places.instructions.iter();
    let missing = all.filter(|(ip, _)| !beyond.contains(ip) && !seen.contains_key(ip));
    missing.map(|(ip, i)| format!("{} {:?}", places.name(*ip), i.code())).collect()
}

#[test]
fn every_instruction_of_a_hit_can_be_unwound_from() {
    let places = places();
    let walk = shared();
    let available = testing::vectors();
    if available & AVX_512 != AVX_512 {
        eprintln!("no AVX-512 here: the ways that save its registers are not tested");
    }
    let mut seen = Seen::new();
    let mut wrong = Vec::new();
    for scenario in scenarios::all(available) {
        let (mut its, happened) = run(&scenario, &places, walk, &mut seen);
        wrong.append(&mut its);
        let must = matches!(scenario.event, Event::Hold | Event::Contend(_) | Event::Interrupt(0));
        assert!(happened || !must, "{}: did not happen", scenario.name);
    }
    let missing = unreached(&places, &seen, available);
    let some = &wrong[..wrong.len().min(40)];
    assert!(wrong.is_empty(), "wrong at {} places:\n{}", wrong.len(), some.join("\n"));
    assert!(missing.is_empty(), "not reached: {missing:#?}");
}
