//! What a program finds around itself is what it finds bare: environment, descriptors, streams,
//! allocator, system call filter.

use crate::common::process::run;
use crate::common::{Case, Mode, Target, build, process, tools, trapline};

#[test]
fn env_prints_the_same() {
    let env = tools::find("env").expect("coreutils");
    Case::new(&env).specs(&["libc.so.6:getenv"]).check();
    Case::new(&env)
        .env("LD_PRELOAD", "libm.so.6")
        .env("LD_BIND_NOW", "1")
        .specs(&["libc.so.6:getenv"])
        .check();
    let sh = tools::find("sh").expect("a shell");
    let script = "env; echo $$ | tr -d '0-9'; env -i env; exec env";
    Case::new(&sh).arg("-c").arg(script).specs(&["libc.so.6:getenv"]).check();
}

#[test]
fn descriptors_are_the_programs_own() {
    Target::new("descriptors.c").check();
}

#[test]
fn streams_pass_through() {
    let mut input = Vec::new();
    let mut state = 1u32;
    while input.len() < 1_000_037 {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        // Text only: the harness compares strings.
        input.push(b' ' + (state >> 24) as u8 % 90);
    }
    // 1,000,037 bytes make exit code 37.
    let reports = Target::new("copy.c").case().input(&input).code(37).check();
    assert!(reports.iter().all(|report| report.calls("t_copy") > 10));
    Target::new("copy.c").check();
}

/// The report goes to standard error, behind the program's own, when no file is named; standard
/// output is the program's alone.
#[test]
fn the_report_stays_out_of_the_output() {
    let case = Target::new("mutual_recursion.c").case();
    let bare = case.bare();
    let program = Target::new("mutual_recursion.c").build();
    let probed = run(trapline().args(["stat", "t_*", "--"]).arg(&program), b"");
    assert_eq!((probed.code, probed.stdout), (0, bare.stdout));
    assert!(
        probed.stderr.contains("t_fib")
            && probed.stderr.contains("57313") | probed.stderr.contains("57,313"),
        "{}",
        probed.stderr
    );
}

#[test]
fn the_programs_own_malloc() {
    let target = Target::new("own_malloc.c").flags(&["-fno-builtin"]);
    target.case().specs(&["malloc", "free", "calloc", "realloc", "aligned_alloc"]).check();
    target.case().specs(&[]).check();
}

/// The kernel's strict mode takes the time stamp counter away as well, so entries can be counted
/// there, but nothing timed.
#[test]
fn next_to_no_system_call_allowed() {
    let target = Target::new("seccomp.c");
    target.case().arg("filter").code(21).check();
    target.case().arg("strict").modes(&[Mode::Counted]).code(21).check();
    target.case().arg("sandbox").code(21).check();
}

/// At its end a program makes one system call, and probed no other one.
#[test]
fn no_system_call_allowed_at_the_end() {
    let target = Target::new("sandboxes.c");
    let ends = [
        "exit",
        "return",
        "_exit",
        "quick_exit",
        "thread exits",
        "atexit",
        "at_quick_exit",
        "destructor",
        "writable",
        "own code",
    ];
    for end in ends {
        target.case().arg(end).code(21).check();
    }
}

/// What we need beyond what the program does itself was there before, or is done without.
#[test]
fn no_system_call_allowed_but_the_programs_own() {
    let target = Target::new("sandboxes.c").flags(&["-pthread"]);
    for how in
        ["threads", "pthread_exit", "new threads", "signals", "deep", "fork", "exec", "dlopen"]
    {
        target.case().arg(how).code(21).check();
    }
}

#[test]
fn another_root_directory_and_another_user() {
    if !process::is_root() {
        eprintln!("SKIPPED: only root can change the root directory");
        return;
    }
    let empty = tempfile::tempdir().expect("a temporary directory");
    process::open_to_all(empty.path());
    Target::new("privileges.c").case().arg(empty.path()).check();
}

/// A program whose directory is gone, and one that is started by a relative path from elsewhere.
#[test]
fn a_relative_path_and_a_deleted_directory() {
    let program = Target::new("mutual_recursion.c").build();
    let directory = tempfile::tempdir().expect("a temporary directory");
    build::copy(&program, directory.path().join("copy"));
    let report = directory.path().join("report");
    let finished = run(
        trapline()
            .args(["stat", "-j", "-o", "report", "t_*", "--", "./copy"])
            .current_dir(directory.path()),
        b"",
    );
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(crate::common::Report::read(&report).expect("a report").calls("t_fib"), 57_313);
}
