//! Unwinding through probed frames: C++ exceptions, Rust panics, backtraces.

use std::io::{BufRead, BufReader};
use std::process::Command;

use crate::common::process::{run, start};
use crate::common::{Mode, Target, tools, trapline};

#[test]
fn cpp_exceptions() {
    Target::new("throw.cpp").check();
    Target::new("throw.cpp").flags(&["-O0", "-fno-omit-frame-pointer"]).check();
}

/// The unwinder in the program itself, as in programs linked against a static libgcc.
#[test]
fn cpp_exceptions_with_a_static_runtime() {
    Target::new("throw.cpp").flags(&["-static-libgcc", "-static-libstdc++"]).check();
}

/// The unwinder and the C++ runtime are probed, too.
#[test]
fn cpp_exceptions_through_the_runtime() {
    Target::new("throw.cpp").case().specs(&["t_*", "libstdc++.so.6:*", "libgcc_s.so.1:*"]).check();
}

#[test]
fn exceptions_that_end_the_program() {
    let target = Target::new("throw_end.cpp");
    for (how, code) in [
        ("uncaught", 134),
        ("noexcept", 134),
        ("destructor", 134),
        ("handler", 42),
        ("exit", 43),
        ("quick", 44),
        ("now", 45),
    ] {
        target.case().arg(how).code(code).check();
    }
}

#[test]
fn rust_panics() {
    Target::new("panic.rs").case().code(101).check();
    Target::new("panic.rs").flags(&["-C", "opt-level=0"]).case().code(101).check();
}

#[test]
fn backtraces_name_the_same_functions() {
    Target::new("backtrace.c").flags(&["-rdynamic"]).check();
    Target::new("backtrace.c").flags(&["-rdynamic", "-O0"]).check();
    Target::new("backtrace.c").flags(&["-rdynamic"]).case().modes(&[Mode::WithLibc]).check();
}

/// A debugger that looks at the program from outside sees the frames that are there.
#[test]
fn a_debuggers_backtrace() {
    let Some(gdb) = tools::find("gdb") else { return };
    for specs in [&["t_*"][..], &["entry:t_*"], &[]] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = trapline();
        command
            .args(["stat", "-j", "-o"])
            .arg(directory.path().join("report"))
            .args(specs)
            .arg("--")
            .arg(Target::new("waits.c").build());
        let mut running = start(&mut command);
        let mut output = BufReader::new(running.child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("the program writes a line");
        let process = line.trim().strip_prefix("process ").expect("its number").to_owned();
        let seen = run(
            Command::new(&gdb).args([
                "-nx",
                "-batch",
                "-iex",
                "set debuginfod enabled off",
                "-ex",
                "backtrace",
                "-p",
                &process,
            ]),
            b"",
        );
        running.child.stdout = Some(output.into_inner());
        assert_eq!(running.finish(b"").code, 5);
        if seen.stderr.contains("ptrace: Operation not permitted") {
            eprintln!("SKIPPED: this user may not attach a debugger (kernel.yama.ptrace_scope)");
            return;
        }
        let names: Vec<&str> = seen
            .stdout
            .lines()
            .filter_map(|line| {
                line.split([' ', '(']).find(|word| word.starts_with("t_") || *word == "main")
            })
            .collect();
        let expected =
            ["t_wait", "t_level", "t_level", "t_level", "t_level", "t_through_pointer", "main"];
        assert_eq!(names, expected, "{specs:?}\n{}\n{}", seen.stdout, seen.stderr);
    }
}
