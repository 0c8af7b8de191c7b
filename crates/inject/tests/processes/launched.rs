//! Programs worked on before their first instruction.

use super::common::{Hook, Kind, Running, image, program};
use inject::{Error, Force, Launch, Stopped, launch};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Maps the image, calls a function of it and leads `work` through it.
pub(crate) fn hook(
    stopped: &mut Stopped<'_>,
    pid: i32,
    program: &Path,
    kind: Kind,
) -> Result<Hook, Error> {
    let mut remote = stopped.remote()?;
    let mapped = remote.map(&image())?;
    let function = mapped.address("image_calculate").expect("a function");
    assert_eq!(remote.call_function(&mapped, function, &[1, 6, 7])?, 42);
    drop(remote);
    let hook = Hook::new(&mapped, pid, program, kind);
    let moved = hook.install(stopped)?;
    assert_eq!(moved, 0, "it stands in its first instruction");
    Ok(hook)
}

#[test]
fn every_kind_of_program_is_counted_from_its_first_call_on() {
    const CALLS: u64 = 3 * 50_000;
    for kind in Kind::ALL {
        let Some(work) = program("work", kind) else { continue };
        let bare = Command::new(&work).args(["3", "50000"]).output().expect("runs");
        let mut command = Command::new(&work);
        // It waits before its end, so that there is something to be read.
        command.args(["3", "50000", "wait"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let (child, hook) = launch(command, Force::default(), |stopped| {
            let pid = stopped.threads().next().expect("its only one");
            hook(stopped, pid, &work, kind)
        })
        .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let mut running = Running { child };
        assert_eq!(running.line(), format!("{CALLS} calls"), "{kind:?}");
        let hits = running.target().trace(|tracer| Ok(hook.hits(&tracer.stop_all()?)));
        assert_eq!(hits.expect("counted"), CALLS, "{kind:?}");
        let (rest, status) = running.end();
        assert_eq!((rest.as_str(), status.code()), ("", bare.status.code()), "{kind:?}");
        assert_eq!(bare.stdout, format!("{CALLS} calls\n").as_bytes(), "{kind:?}");
    }
}

#[test]
fn a_program_is_started_as_ever() {
    let script = "echo $0 $1; cat; umask; ulimit -c; test -t 0; echo $?; ls /proc/self/fd | wc -l; \
                  trap; kill -0 $PPID && exit 5";
    let shell = || {
        let mut command = Command::new("sh");
        command.arg0("name").args(["-c", script, "shell", "word"]).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).env("A", "b").process_group(0);
        command
    };
    let bare = shell().spawn().expect("starts").wait_with_output().expect("ends");
    let (child, group) = launch(shell(), Force::default(), |stopped| {
        let pid = stopped.threads().next().expect("its only one");
        let mut remote = stopped.remote()?;
        let group = remote.call(libc::SYS_getpgid, [0; 6])?;
        Ok((pid as u64, group))
    })
    .expect("started");
    assert_eq!(group, (u64::from(child.id()), Ok(u64::from(child.id()))), "a group of its own");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&bare.stdout));
    assert_eq!((output.status.code(), bare.status.code()), (Some(5), Some(5)));
}

#[test]
fn what_cannot_be_executed_is_told_as_by_a_shell() {
    let nothing = |_: &mut Stopped<'_>| Ok(());
    let error = launch(Command::new("/nowhere/at/all"), Force::default(), nothing).unwrap_err();
    assert_eq!(error.exit_code(), 127, "{error}");
    let error = launch(Command::new("/etc/passwd"), Force::default(), nothing).unwrap_err();
    assert_eq!(error.exit_code(), 126, "{error}");
    let mut command = Command::new("true");
    command.current_dir("/nowhere");
    assert!(matches!(launch(command, Force::default(), nothing), Err(Launch::Spawn(_))));
}

#[test]
fn a_program_that_work_fails_on_has_not_run() {
    let mark = std::env::temp_dir().join(format!("trapline-ran-{}", std::process::id()));
    let mut command = Command::new("touch");
    command.arg(&mark);
    let error = launch(command, Force::default(), |_| Err::<(), _>(Error::NoRoom)).unwrap_err();
    assert!(matches!(error, Launch::Work(Error::NoRoom)), "{error}");
    assert!(!mark.exists());
}

#[test]
fn the_end_of_a_launched_program_is_its_parents_to_see() {
    let mut command = Command::new("sh");
    command.args(["-c", "kill -SEGV $$"]);
    let (mut child, ()) = launch(command, Force::default(), |_| Ok(())).expect("started");
    assert_eq!(child.wait().expect("a child").signal(), Some(libc::SIGSEGV));
}
