//! Which calls return when: recursion, tail calls, longjmp, coroutines.

use crate::common::{Mode, Target};

#[test]
fn recursion_1_000() {
    Target::new("recursion.c").case().arg("1000").check();
}

#[test]
fn recursion_50_000() {
    Target::new("recursion.c").case().arg("50000").check();
    Target::new("recursion.c").flags(&["-O0"]).case().arg("50000").check();
}

#[test]
fn recursion_100_000() {
    Target::new("recursion.c").case().arg("100000").check();
}

/// The total is that of outermost calls. With one of those it is the longest call; no clock
/// decides.
#[test]
fn total_times_of_recursive_functions() {
    let once = Target::new("recursion_total.c").case().modes(&[Mode::Timed, Mode::Everything]);
    for report in once.check() {
        for name in ["t_down", "t_even", "t_fib"] {
            let (total, longest) = (report.time(name, "total_ns"), report.time(name, "max_ns"));
            assert!(total.abs_diff(longest) <= 1, "{name}: {total} in all, {longest} at most");
        }
        for name in ["t_down", "t_even", "t_odd", "t_fib"] {
            let (total, all) = (report.time(name, "total_ns"), report.time("t_all", "total_ns"));
            assert!(total <= all + 1, "{name}: {total} inside of {all}");
            assert!(report.time(name, "self_ns") <= total + 1, "{name}");
        }
    }
    let threads = Target::new("recursion_total.c").case().arg("3").modes(&[Mode::Timed]);
    for report in threads.check() {
        for name in ["t_down", "t_even", "t_odd", "t_fib"] {
            let (total, all) = (report.time(name, "total_ns"), report.time("t_all", "total_ns"));
            assert!(total <= all + 3, "{name}: {total} inside of {all}");
            assert!(total > 0, "{name}: each thread has its own outermost call");
        }
    }
}

#[test]
fn mutual_recursion() {
    Target::new("mutual_recursion.c").check();
    Target::new("mutual_recursion.c").flags(&["-O0"]).check();
}

#[test]
fn tail_calls() {
    Target::new("tail_calls.c").flags(&["-foptimize-sibling-calls"]).check();
    Target::new("tail_calls.c").flags(&["-O0"]).check();
}

#[test]
fn a_million_tail_calls_on_one_return_address() {
    Target::new("tail_machine.c").check();
}

#[test]
fn longjmp_out_of_frames() {
    Target::new("longjmp.c").check();
    Target::new("longjmp.c").flags(&["-O0", "-fno-omit-frame-pointer"]).check();
}

/// longjmp itself, and everything else in the C library, is probed, too.
#[test]
fn longjmp_with_libc() {
    Target::new("longjmp.c").case().modes(&[Mode::WithLibc]).check();
}

#[test]
fn coroutines() {
    Target::new("coroutines.c").check();
    Target::new("coroutines.c").flags(&["-O0"]).check();
    Target::new("coroutines.c").case().modes(&[Mode::WithLibc]).check();
}

/// setjmp and its kin, vfork, getcontext, swapcontext, dlopen and dlsym as targets: they work, and
/// return where they leave.
#[test]
fn functions_that_keep_their_callers_frame() {
    let target = Target::new("setjmp_family.c");
    target.check();
    let family =
        ["_setjmp", "__sigsetjmp", "*longjmp*", "getcontext", "setcontext", "vfork", "dl*"];
    let specs: Vec<String> =
        family.iter().map(|name| format!("libc.so.6:{name}")).chain(["t_*".to_owned()]).collect();
    let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
    let reports = target.case().specs(&specs).check();
    // Each of 50 rounds enters each of them once; the C library takes one _setjmp of its own around
    // main. _setjmp goes on in __sigsetjmp, and so does what dlopen does to catch errors (with
    // glibc 2.36 a debugger's breakpoint counts 450 after the start of main).
    for (name, expected) in [
        ("_setjmp", 50..=51),
        ("__sigsetjmp", 100..=1000),
        ("getcontext", 50..=50),
        ("vfork", 50..=50),
        ("dlopen", 50..=50),
        ("dlclose", 50..=50),
    ] {
        let counted = reports[0].sum(|function| function.split('@').next() == Some(name));
        assert!(expected.contains(&counted), "{name}: {counted} calls");
    }
    let returned = |name: &str| {
        let functions = reports[0].functions().iter();
        let its = functions
            .filter(|f| f["name"].as_str().and_then(|n| n.split('@').next()) == Some(name));
        its.map(|f| (f["total_ns"].as_u64() > Some(0), f["running"] == 0)).collect::<Vec<_>>()
    };
    for name in ["vfork", "dlopen", "dlclose", "dlsym", "getcontext", "_setjmp"] {
        assert_eq!(returned(name), [(true, true)], "{name}");
    }
    target.case().modes(&[Mode::WithLibc]).check();
}

/// Far more frames are left by longjmp and exceptions than there are return probes at a time: none
/// may stay taken.
#[test]
fn deep_frames_dropped_again_and_again() {
    Target::new("deep_unwind.cpp").check();
}

/// More open calls than return probes: the deepest ones are counted without a time, and the program
/// dies of its own mistake only.
#[test]
fn a_stack_overflow() {
    Target::new("overflow.c").case().code(5).may_lose("depth").check();
}
