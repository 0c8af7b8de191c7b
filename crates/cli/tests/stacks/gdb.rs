//! gdb's side: the program runs in gdb, which takes the stack at each hit of some functions.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::stack::{Place, Stack, Stacks};
use crate::common::process::{Finished, program, run};
use crate::common::tools;

/// Whether gdb is there, and can trace here. Otherwise the test says that it is skipped.
pub(crate) fn available() -> bool {
    let Some(gdb) = tools::find("gdb") else { return false };
    let mut command = program(gdb);
    command.args([
        "-batch",
        "-nx",
        "-ex",
        "python print('it has Python')",
        "-ex",
        "starti",
        "-ex",
        "kill",
        "--args",
        "/bin/true",
    ]);
    let finished = run(&mut command, b"");
    let works =
        finished.stdout.contains("it has Python") && finished.stdout.contains("Program stopped");
    if !works {
        tools::missing("a gdb that has Python and may trace");
    }
    works
}

/// The command that runs in gdb what is appended to it, and writes the stacks of `functions` to
/// `out`.
pub(crate) fn command(functions: &[&str], out: &Path) -> Command {
    let mut command = program(tools::find("gdb").expect("it was there"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stacks/gdb.py");
    // Lists of plain strings look the same in both languages.
    command
        .args(["-batch", "-nx", "-ex"])
        .arg(format!("python FUNCTIONS = {functions:?}; OUT = {out:?}"))
        .arg("-x")
        .arg(script)
        .arg("--args");
    command
}

/// What gdb has written.
pub(crate) fn read(out: &Path, finished: &Finished) -> Stacks {
    let context = || format!("gdb:\n{}\n{}", finished.stdout, finished.stderr);
    let text =
        std::fs::read_to_string(out).unwrap_or_else(|error| panic!("{error}\n{}", context()));
    let lines = text
        .strip_suffix("\"whole\"\n")
        .unwrap_or_else(|| panic!("the list of stacks is cut off\n{}", context()));
    let place = |frame: &Value| Place {
        file: frame[0].as_str().unwrap_or_default().to_owned(),
        address: frame[1].as_u64().expect("an address"),
        exact: frame[2] == true,
    };
    let mut stacks = Stacks::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let mut stack: Stack = line[1].as_array().expect("frames").iter().map(place).collect();
        // glibc's start of a context (`makecontext`) has unwind information that knows of a caller,
        // but there is none. gdb takes it at its word, and what it finds behind is an address of
        // data. No program here has code that belongs to no file.
        stack.truncate(stack.iter().position(|place| place.file.is_empty()).unwrap_or(stack.len()));
        *stacks.entry(stack).or_default() += line[0].as_u64().expect("a count");
    }
    let broken =
        stacks.keys().find(|stack| stack.iter().any(|place| place.file.starts_with("gdb: ")));
    assert!(broken.is_none(), "gdb cannot follow {broken:?}\n{}", context());
    assert!(!stacks.is_empty(), "no hits\n{}", context());
    stacks
}

/// Stacks of `functions` in a run of `program` in gdb.
pub(crate) fn stacks(functions: &[&str], run_this: &Command) -> Stacks {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let out = directory.path().join("stacks");
    let mut command = command(functions, &out);
    command.arg(run_this.get_program()).args(run_this.get_args());
    command.envs(run_this.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let finished = run(&mut command, b"");
    read(&out, &finished)
}
