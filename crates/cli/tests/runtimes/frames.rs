//! Whoever looks at the stack of a probed program sees the frames that are there bare: the program
//! itself, its profiler, its sanitizer, a debugger.

use super::common::process::{program, run, trapline};
use super::common::{Target, tools};
use std::path::Path;
use std::process::Command;

/// What `command` prints of the program's stack, without addresses.
fn frames(text: &str) -> Vec<String> {
    let plain = |line: &str| {
        let words = line.split_whitespace();
        let kept = words.filter(|word| !word.contains("0x") && !word.starts_with("=="));
        kept.collect::<Vec<_>>().join(" ")
    };
    text.lines().map(plain).filter(|line| !line.is_empty()).collect()
}

fn both(path: &Path, arguments: &[&str]) -> [(i32, Vec<String>, Vec<String>); 2] {
    let folder = tempfile::tempdir().expect("a directory");
    let bare = run(program(path).args(arguments), b"");
    let mut probed = trapline();
    probed.args(["stat", "-o"]).arg(folder.path().join("report")).arg("--").arg(path);
    let probed = run(probed.args(arguments), b"");
    [bare, probed].map(|one| (one.code, frames(&one.stdout), frames(&one.stderr)))
}

/// `backtrace()`, a handler of a timer's that unwinds, and the C++ runtime's, in one program.
#[test]
fn the_program_itself() {
    let path = Target::new("runtimes/looks.cpp").flags(&["-rdynamic"]).build();
    let [bare, probed] = both(&path, &[]);
    assert_eq!(bare.0, 0, "{:?}", bare.2);
    assert_eq!(bare, probed);
}

/// The report of a sanitizer names the callers of what went wrong.
#[test]
fn a_sanitizers_report() {
    let path = Target::new("runtimes/looks.cpp")
        .flags(&["-rdynamic", "-fsanitize=address", "-static-libasan"])
        .named("looks-asan")
        .build();
    let [bare, probed] = both(&path, &["wrong"]);
    assert_ne!(bare.0, 0);
    assert_eq!(bare.0, probed.0);
    let calls = |errors: &[String]| -> Vec<String> {
        let inside = errors.iter().filter(|line| line.starts_with('#') && line.contains(" t_"));
        inside.map(|line| line.split(" /").next().unwrap_or(line).to_owned()).collect()
    };
    assert!(calls(&bare.2).len() >= 4, "{:?}", bare.2);
    assert_eq!(calls(&bare.2), calls(&probed.2), "{:?}", probed.2);
}

/// A debugger that comes to the program in the middle of a call, and a core file that it writes.
#[test]
fn a_debugger_and_a_core_file() {
    let Some(gdb) = tools::find("gdb") else { return };
    let path = Target::new("runtimes/looks.cpp").flags(&["-rdynamic"]).build();
    let folder = tempfile::tempdir().expect("a directory");
    let mut stacks = Vec::new();
    for probed in [false, true] {
        let mut command = if probed { trapline() } else { program(&path) };
        if probed {
            command.args(["stat", "-o"]).arg(folder.path().join("report")).arg("--").arg(&path);
        }
        let running = super::common::process::start(command.arg("wait"));
        // Its number, when it stands at the bottom.
        let number = folder.path().join("number");
        let _ = std::fs::remove_file(&number);
        let id = target_of(running.id(), &path);
        let core = folder.path().join("core");
        let look = |arguments: &[&str]| {
            let mut command = Command::new(&gdb);
            command.args(["-q", "-batch", "-nx", "-iex", "set debuginfod enabled off"]);
            let out = command.args(arguments).output().expect("gdb runs");
            frames_of(&String::from_utf8_lossy(&out.stdout))
        };
        let save = format!("generate-core-file {}", core.display());
        let (id, file) = (id.to_string(), path.display().to_string());
        let live = look(&["-p", &id, "-ex", "bt", "-ex", &save]);
        let dead = look(&[&file, &core.display().to_string(), "-ex", "bt"]);
        stacks.push((live, dead));
        drop(running);
    }
    let (bare, probed) = (&stacks[0], &stacks[1]);
    assert!(bare.0.iter().filter(|name| name.starts_with("t_")).count() >= 4, "{bare:?}");
    assert_eq!(bare.0, probed.0);
    assert_eq!(bare.1, probed.1);
}

/// The functions of a stack as gdb shows it, from the one that waits up.
fn frames_of(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with('#'));
    let name = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "in").map_or(1, |at| at + 1);
        words.get(at).map_or_else(String::new, |word| word.to_string())
    };
    lines.map(name).collect()
}

/// The process that runs `path` and waits: `parent` itself, or its child.
fn target_of(parent: i32, path: &Path) -> i32 {
    let name = path.file_name().expect("a name").to_owned();
    let found = std::cell::Cell::new(0);
    super::common::process::wait_until("the program waits", || {
        let children = format!("/proc/{parent}/task/{parent}/children");
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let all = children.split_whitespace().filter_map(|id| id.parse().ok()).chain([parent]);
        for id in all {
            let exe = std::fs::read_link(format!("/proc/{id}/exe")).unwrap_or_default();
            let waits = std::fs::read_to_string(format!("/proc/{id}/wchan")).unwrap_or_default();
            let call = std::fs::read_to_string(format!("/proc/{id}/syscall")).unwrap_or_default();
            // pause
            if exe.file_name() == Some(&name)
                && (call.starts_with("34 ") || waits.contains("pause"))
            {
                found.set(id);
                return true;
            }
        }
        false
    });
    found.get()
}
