//! Libraries: linked, opened and closed.

use std::path::PathBuf;

use crate::common::{Case, Mode, Target};

fn plugin(name: &str, factor: u32) -> PathBuf {
    Target::new("plugin.c").shared().named(name).flags(&[&format!("-DFACTOR={factor}")]).build()
}

#[test]
fn opened_and_closed_200_times() {
    let case = Target::new("dlopen.c")
        .flags(&["-rdynamic"])
        .case()
        .arg(plugin("libdouble.so", 2))
        .arg(plugin("libtriple.so", 3));
    case.clone().specs(&["*:t_*"]).check();
    case.clone().specs(&["entry:*:t_*"]).check();
    case.clone().specs(&["libdouble.so:*", "libtriple.so:*", "t_*"]).check();
}

/// The same with the C library and the dynamic loader probed.
#[test]
fn opened_and_closed_with_libc() {
    let case = Target::new("dlopen.c")
        .flags(&["-rdynamic"])
        .case()
        .arg(plugin("libdouble.so", 2))
        .arg(plugin("libtriple.so", 3));
    case.specs(&["*:t_*", "libc.so.6:*"]).check();
}

#[test]
fn linked_with_a_constructor() {
    let library = plugin("liblinked.so", 2);
    let directory = library.parent().expect("a directory").to_str().expect("in UTF-8");
    let program = Target::new("linked.c").flags(&[
        "-rdynamic",
        &format!("-L{directory}"),
        "-llinked",
        &format!("-Wl,-rpath,{directory}"),
    ]);
    program.case().specs(&["*:t_*"]).check();
    program.case().specs(&["liblinked.so:*"]).check();
    program.case().specs(&["entry:liblinked.so:t_*"]).check();
}

/// Everything that is there at the start.
#[test]
fn all_of_libc() {
    for source in [
        "mutual_recursion.c",
        "threads.c",
        "short_threads.c",
        "arguments.c",
        "sigaltstack.c",
        "own_malloc.c",
    ] {
        Target::new(source).case().modes(&[Mode::WithLibc]).check();
    }
}

/// Every function of every object: the dynamic loader, the C library, the unwinder. The agent
/// itself is not among them.
#[test]
fn all_objects() {
    for source in [
        "mutual_recursion.c",
        "threads.c",
        "fork.c",
        "sigaltstack.c",
        "longjmp.c",
        "throw.cpp",
        "late_early.cpp",
    ] {
        let reports = Target::new(source).case().specs(&["*:*"]).check();
        assert!(reports[0].armed() > 3_000, "{source}: {} armed", reports[0].armed());
        let own = reports[0].functions().iter().find(|function| {
            function["object"].as_str().is_some_and(|object| object.contains("trapline"))
        });
        assert!(own.is_none(), "{own:?}");
    }
    let plugins = Target::new("dlopen.c")
        .flags(&["-rdynamic"])
        .case()
        .arg(plugin("libdouble.so", 2))
        .arg(plugin("libtriple.so", 3));
    plugins.specs(&["*:*"]).check();
}

const WAYS: [&str; 7] =
    ["relative", "memory", "unlinked", "replaced", "rewritten", "namespaces", "leaderless"];

/// Which file a library is does not follow from its name: relative ones, memory files, files that
/// are gone, replaced or rewritten, namespaces of the loader, and a process whose first thread has
/// ended. With build-ids and without.
#[test]
fn the_file_that_is_mapped() {
    let library = |factor: u32, flag: &str| {
        let factor = format!("-DFACTOR={factor}");
        Target::new("opened_library.c").shared().flags(&[&factor, flag]).build()
    };
    let program = Target::new("opened.c").build();
    for flag in ["-Wl,--build-id=sha1", "-Wl,--build-id=none"] {
        for what in WAYS {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let case = Case::new(&program).arg(what).arg(library(2, flag)).arg(library(3, flag));
            let case = case.arg(directory.path());
            case.specs(&["*:t_*"]).check();
        }
    }
}
