//! Where names come from: stripped programs, debug files, demangled names.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::process::program;
use crate::common::{Case, Target, process};

fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name).args(arguments).output().unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A copy of a compiled target in a fresh directory.
fn copy(program: &Path) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join(program.file_name().expect("a name"));
    std::fs::copy(program, &path).expect("a copy");
    (directory, path)
}

#[test]
fn dynamic_symbols_of_a_stripped_program() {
    let (_directory, program) = copy(&Target::new("threads.c").flags(&["-rdynamic"]).build());
    tool("strip", &[program.to_str().expect("in UTF-8")]);
    Case::new(&program).check();
}

/// Without any symbol, the functions are those of the unwind tables, under addresses for names.
#[test]
fn a_stripped_program_without_symbols() {
    let (_directory, program) = copy(&Target::new("mutual_recursion.c").build());
    tool("strip", &[program.to_str().expect("in UTF-8")]);
    let bare = process::run(&mut process::program(&program), b"");
    let (probed, report) = Case::new(&program).probed(&[]);
    assert_eq!((probed.code, &probed.stdout, &probed.stderr), (0, &bare.stdout, &bare.stderr));
    let report = report.expect("a report");
    let mut counted: Vec<u64> = report.functions().iter().map(crate::common::report::calls).collect();
    counted.sort_unstable();
    for expected in [57_313, 7_625, 1_002] {
        assert!(counted.contains(&expected), "{expected} calls of some function: {counted:?}");
    }
    assert!(report.lost().is_empty());
}

#[test]
fn a_debug_file_beside_the_program() {
    let (_directory, program) = copy(&Target::new("mutual_recursion.c").build());
    let path = program.to_str().expect("in UTF-8");
    let debug = format!("{path}.debug");
    tool("objcopy", &["--only-keep-debug", path, &debug]);
    tool("strip", &[path]);
    tool("objcopy", &[&format!("--add-gnu-debuglink={debug}"), path]);
    Case::new(&program).check();
}

/// Debian's `.gnu_debugdata`-less default: a program with compressed debug sections keeps its symbol table.
#[test]
fn compressed_debug_sections() {
    Target::new("mutual_recursion.c").flags(&["-gz"]).check();
}

#[test]
fn cpp_names() {
    let target = Target::new("names.cpp");
    let bare = process::run(&mut program(target.build()), b"");
    for (spec, expected) in [
        ("app::Box::work", 200),
        ("app::Box::work*", 200),
        ("app::twice*", 200),
        ("app::*hidden*", 100),
        ("app::Box::operator+*", 100),
        ("local_one*", 100),
        ("/^app::Box::work\\(long\\)/", 100),
    ] {
        let (probed, report) = target.case().probed(&[spec.to_owned()]);
        assert_eq!((probed.code, &probed.stdout, probed.stderr.as_str()), (0, &bare.stdout, ""), "{spec}");
        assert_eq!(report.expect("a report").sum(|_| true), expected, "{spec}");
    }
}

#[test]
fn rust_names() {
    let target = Target::new("names.rs");
    let bare = process::run(&mut program(target.build()), b"");
    for (spec, expected) in [
        ("names::app::db::Table::insert", 100),
        ("names::app::db::generic", 200),
        ("*::app::db::*", 400),
        ("names::app::db::generic*", 200),
        ("*Query*::query", 100),
    ] {
        let (probed, report) = target.case().probed(&[spec.to_owned()]);
        assert_eq!((probed.code, &probed.stdout, probed.stderr.as_str()), (0, &bare.stdout, ""), "{spec}");
        assert_eq!(report.expect("a report").sum(|_| true), expected, "{spec}");
    }
}

/// Any of a function's names finds it, and it is counted once.
#[test]
fn aliases() {
    let target = Target::new("aliases.c");
    for name in ["t_first_name", "t_second_name", "t_third_name"] {
        let report = target.case().specs(&[name]).check_output_only();
        assert_eq!(report.calls(name), 300, "{name}");
    }
    assert_eq!(target.case().specs(&["t_*"]).check_output_only().sum(|_| true), 400);
}
