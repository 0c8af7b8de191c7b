//! Stacks that a program makes for itself.

use super::common::{Mode, Target};

/// Where boost's headers are, with the library.
const CONTEXT: [&str; 1] = ["-lboost_context"];

fn has_boost() -> bool {
    let there = std::path::Path::new("/usr/include/boost/context/fiber.hpp").is_file();
    if !there {
        super::common::tools::missing("boost.context (libboost-context-dev)");
    }
    there
}

#[test]
fn fibers() {
    if !has_boost() {
        return;
    }
    let target = Target::new("runtimes/fibers.cpp").flags(&CONTEXT);
    target.case().check();
    for returns in ["exits", "instances"] {
        let case = target.case().env("TRAPLINE_RETURNS", returns);
        for report in case.modes(&[Mode::Timed]).check() {
            // What began in one thread and ended in another has ended.
            let apart = report.functions().iter().find(|function| function["name"] == "t_apart");
            let apart = apart.expect("it was called");
            assert!(report.time("t_apart", "total_ns") > 0, "{returns}: {apart}");
            assert_eq!(apart["running"], 0, "{returns}: {apart}");
            assert_eq!(apart["unwound"], 0, "{returns}: {apart}");
        }
    }
    let many = target.case().arg("1600").arg("50").modes(&[Mode::Timed]);
    for report in many.check() {
        // What is suspended is on a stack of its own: the outer call's time is the inner's.
        let (outer, inner) =
            (report.time("t_outer", "total_ns"), report.time("t_inner", "total_ns"));
        assert!(inner <= outer, "{inner} inside of {outer}");
        assert!(report.time("t_inner", "self_ns") <= inner + inner / 100);
    }
}

#[test]
fn coroutines() {
    Target::new("runtimes/coroutines.cpp").flags(&["-std=c++20"]).check();
}
