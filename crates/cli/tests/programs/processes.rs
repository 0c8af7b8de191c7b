//! Processes: fork, vfork, exec in all its forms, daemons.

use crate::common::process::{run, start, wait_until};
use crate::common::{Case, Mode, Target, tools};
use serde_json::Value;
use std::io::Read;

#[test]
fn fork_in_mid_call() {
    Target::new("fork.c").check();
    Target::new("fork.c").flags(&["-O0"]).check();
    Target::new("fork.c").case().modes(&[Mode::WithLibc]).check();
}

/// Parent and child return from the call into the C library at the same time, before a handler has
/// run in the child: neither writes over what the other counts. What one of them has lost would be
/// missing from one of the two sums.
#[test]
fn parent_and_child_return_from_a_fork() {
    for report in Target::new("fork_often.c").case().specs(&["libc.so.6:_Fork"]).check() {
        let time = |column| report.time("_Fork", column);
        assert_eq!(time("total_ns"), time("self_ns"), "nothing else is timed");
    }
}

#[test]
fn starting_other_programs() {
    Target::new("spawn.c").check();
}

#[test]
fn children_of_vfork_change_nothing_for_their_parent() {
    let target = Target::new("vfork_signals.c");
    target.case().modes(&[Mode::Counted, Mode::Timed, Mode::RecordedTime]).check();
}

#[test]
fn an_environment_that_cannot_be_read() {
    Target::new("bad_exec.c").check();
}

/// A child that waits for ever ends with the harness's timeout.
#[test]
fn fork_and_execute_beside_threads() {
    Target::new("fork_exec.c").case().modes(&[Mode::Counted, Mode::Timed]).check();
}

/// Python's `subprocess` uses vfork; its handlers live on.
#[test]
fn python_keeps_its_handlers() {
    let Some(python) = tools::find("python3") else { return };
    let text = "
import os, signal, subprocess
got = []
signal.signal(signal.SIGUSR1, lambda *a: got.append(1))
for _ in range(3):
    subprocess.run(['/bin/true'])
    os.kill(os.getpid(), signal.SIGUSR1)
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.sigtimedwait([], 20)
    print('SIGINT was lost')
except KeyboardInterrupt:
    print('KeyboardInterrupt', len(got))
";
    let case = Case::new(&python).arg("-c").arg(text).specs(&["entry:Py_Finalize*"]);
    assert!(case.bare().stdout.contains("KeyboardInterrupt 3"), "as Python does it");
    case.check_output_only();
}

/// A debugger starts its program in a child of vfork, and waits for it by signals.
#[test]
fn a_debugger_runs_its_program() {
    let Some(gdb) = tools::find("gdb") else { return };
    let program = Target::new("ends.c").build();
    let arguments = ["-nx", "-batch", "-ex", "run", "--args"];
    let mut command = crate::common::trapline();
    command.args(["stat", "-o", "/dev/null", "libc.so.6:getpid", "--"]).arg(gdb);
    let finished = run(command.args(arguments).arg(program).args(["exit", "3"]), &[]);
    assert!(
        finished.stdout.contains("exited with code 03"),
        "{}{}",
        finished.stdout,
        finished.stderr
    );
}

#[test]
fn starting_other_programs_with_libc() {
    Target::new("spawn.c").case().modes(&[Mode::WithLibc]).check();
}

/// The daemon outlives the program that was started, and the report; what it did before is counted,
/// and it does not notice.
#[test]
fn a_daemon_lives_on() {
    let case = Target::new("daemon.c").case();
    let directory = tempfile::tempdir().expect("a temporary directory");
    for specs in [vec!["t_*".to_owned()], vec![]] {
        let file = directory.path().join(format!("daemon{}", specs.len()));
        let (probed, report) = case.clone().arg(&file).probed(&specs);
        assert_eq!(
            (probed.code, probed.stdout.as_str(), probed.stderr.as_str()),
            (0, "daemon started\n", "")
        );
        let report = report.expect("a report");
        let counted = report.calls("t_work");
        assert!((1010..=2010).contains(&counted), "{counted} calls of t_work");
        let on = report.0["still_running"].as_array().expect("an array");
        // It may have finished before the report was made, on a busy machine.
        assert!(on.len() <= 1 && on.iter().all(|one| one["name"] == "daemon"), "{on:?}");
        wait_until("the daemon finishes", || {
            std::fs::read_to_string(&file).is_ok_and(|text| text == "daemon finished: 1001000\n")
        });
    }
}

/// Processes that go on are named in every kind of output, and those that ended are not.
#[test]
fn processes_that_go_on_are_named() {
    let program = Target::new("server.c").build();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("a.tlp");
    let stat: [&[&str]; 4] =
        [&["stat"], &["stat", "-x", ";"], &["stat", "-j"], &["stat", "-i", "1h"]];
    let record: &[&str] = &["record"];
    for words in stat.into_iter().chain([record]) {
        let mut command = crate::common::trapline();
        command.args(words).args(["-o"]);
        command.arg(if words == record { file.as_os_str() } else { "-".as_ref() });
        command.args(["t_serve", "--"]).arg(&program);
        let mut running = start(&mut command);
        // The server goes on as long as its input is open.
        let input = running.child.stdin.take().expect("piped");
        running.child.wait().expect("ours");
        let mut said = String::new();
        running.child.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
        running.child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        drop(input);
        if words.contains(&"-j") {
            let report: Value =
                said.lines().find_map(|line| serde_json::from_str(line).ok()).expect("JSON");
            let on = report["still_running"].as_array().expect("an array");
            let mut names: Vec<&str> = on.iter().filter_map(|one| one["name"].as_str()).collect();
            names.sort_unstable();
            assert_eq!(names, ["listener", "worker"], "{report}");
            assert!(on.iter().all(|one| one["process"].as_u64() > Some(1)), "{report}");
            continue;
        }
        let line = said.lines().find_map(|line| line.split_once("still running: "));
        let (_, names) = line.unwrap_or_else(|| panic!("{words:?}: {said}"));
        let names = names.strip_prefix("2 (").and_then(|names| names.strip_suffix(')'));
        let names = names.unwrap_or_else(|| panic!("{words:?}: {said}")).split(", ");
        let mut names: Vec<&str> =
            names.map(|one| one.split_once(' ').expect("a name").1).collect();
        names.sort_unstable();
        assert_eq!(names, ["listener", "worker"], "{words:?}: {said}");
    }
    let shown = run(crate::common::trapline().arg("report").arg(&file), b"").stdout;
    assert!(shown.contains("\nstill running: 2 ("), "{shown}");
}

/// Programs that cannot be followed run as ever when a probed one starts them: static ones, setuid
/// ones, scripts.
#[test]
fn children_that_cannot_be_followed() {
    let sh = tools::find("sh").expect("a shell");
    let fixed = Target::new("mutual_recursion.c").named("fixed").flags(&["-static"]).build();
    let followed = Target::new("mutual_recursion.c").build();
    let script = format!(
        "{} | head -1; su --version >/dev/null; echo $?; {}; {}",
        fixed.display(),
        followed.display(),
        fixed.display()
    );
    let report = Case::new(&sh).arg("-c").arg(script).specs(&["*:*"]).check_output_only();
    assert_eq!(report.calls("t_fib"), 57_313);
    // Each is said once, and no other.
    let said = report.0["not_followed"].as_array().expect("an array");
    let of = |name: &str| {
        let is = |one: &&Value| one["program"].as_str().is_some_and(|path| path.ends_with(name));
        said.iter().filter(is).map(|one| one["reason"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of(fixed.to_str().expect("UTF-8")), ["\"statically linked\""]);
    assert_eq!(of(followed.to_str().expect("UTF-8")), [""; 0]);
    assert_eq!(of("/head"), [""; 0]);
    // `record` says it, too.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = crate::common::trapline();
    command.args(["record", "*:*", "-o"]).arg(directory.path().join("a.tlp"));
    command.args(["--", "sh", "-c"]).arg(format!("{}; :", fixed.display()));
    let finished = run(&mut command, b"");
    let line = format!("not followed: {} (statically linked)", fixed.display());
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(finished.stderr.lines().any(|said| said.ends_with(&line)), "{}", finished.stderr);
}
