//! Where the agent comes from: whatever HOME, /tmp and the mounts are, the program gets trapline's
//! own agent or none, and in any case its own output.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::common::process::{self, Finished, program, run};
use crate::common::{Report, Target};

/// Calls of `t_fib` in one run of the target.
const CALLS: u64 = 57_313;

/// What a shell does with the target, in a mount namespace of its own that `mounts` has changed.
/// `None`: none can be made here.
fn inside(mounts: &str, command: &str, variables: &[(&str, &Path)]) -> Option<Finished> {
    // Root in a user namespace of its own, where this is not root.
    let options = if process::is_root() { "-m" } else { "-rm" };
    if run(program("unshare").args([options, "true"]), b"").code != 0 {
        eprintln!("SKIPPED: mount namespaces cannot be made here");
        return None;
    }
    let target = Target::new("mutual_recursion.c").build();
    let bind = process::bind_built();
    let script = format!("mount --make-rprivate / && {bind} && {mounts} && {command}");
    let mut unshare = program("unshare");
    unshare.args([options, "sh", "-ec", &script]);
    let trapline = process::bound(Path::new(env!("CARGO_BIN_EXE_trapline")));
    unshare.env("TRAPLINE", trapline).env("TARGET", process::bound(&target));
    unshare.envs(variables.iter().copied());
    Some(run(&mut unshare, b""))
}

/// Runs the target twice in a shell under trapline, which writes a report to /dev/shm/REPORT.
fn counted(name: &str, mounts: &str, variables: &[(&str, &Path)]) -> Option<(Finished, Report)> {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a temporary directory");
    let report = directory.path().join(name);
    let command = r#""$TRAPLINE" stat -j -o "$REPORT" mutual_recursion:t_fib -- \
        sh -c '"$TARGET"; "$TARGET"'"#;
    let mut all = variables.to_vec();
    all.push(("REPORT", &report));
    let finished = inside(mounts, command, &all)?;
    let counts = Report::read(&report).unwrap_or_else(|why| panic!("{why}\n{}", finished.stderr));
    Some((finished, counts))
}

/// The program's own output, twice, and every call counted.
fn check(name: &str, mounts: &str, variables: &[(&str, &Path)]) {
    let bare = Target::new("mutual_recursion.c").case().bare();
    let Some((finished, report)) = counted(name, mounts, variables) else { return };
    assert_eq!(finished.code, 0, "{name}: {}", finished.stderr);
    assert_eq!(finished.stdout, bare.stdout.repeat(2), "{name}");
    assert_eq!(report.calls("t_fib"), 2 * CALLS, "{name}: {}", finished.stderr);
}

/// Nothing in /tmp can be executed: the agent is held in memory, until the last program has it.
/// Many runs: a descriptor that is closed too early is too early only now and then.
#[test]
fn from_memory_every_time() {
    let mounts = "mount -t tmpfs -o noexec,mode=1777 none /tmp";
    let directory = tempfile::tempdir_in("/dev/shm").expect("a temporary directory");
    let report = directory.path().join("report");
    let command = r#"for i in $(seq 24); do
        "$TRAPLINE" stat -x, -o "$REPORT" t_fib -- "$TARGET" >/dev/null; cat "$REPORT"; done"#;
    let Some(finished) = inside(mounts, command, &[("REPORT", &report)]) else { return };
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""));
    let counted = finished.stdout.lines().filter(|line| line.contains(&CALLS.to_string())).count();
    assert_eq!(counted, 24, "{}", finished.stdout);
    check("noexec", mounts, &[]);
}

#[test]
fn nothing_can_be_written_but_the_counters() {
    let read_only = "mount -t tmpfs -o ro none /tmp && mount -o remount,bind,ro /";
    check("ro", read_only, &[]);
}

/// What others have put where the agent goes is not used: a directory of theirs, a link to one,
/// and an /tmp in which everybody exchanges everything.
#[test]
fn what_others_have_planted_is_left_alone() {
    let tmp = "mount -t tmpfs -o mode=1777 none /tmp";
    let link = "mkdir -m 755 /tmp/a && ln -s /tmp/a /tmp/trapline-0";
    for (name, planted) in [
        ("directory", "mkdir -m 777 /tmp/trapline-0"),
        ("link", link),
        ("file", "touch /tmp/trapline-0"),
        ("fifo", "mkdir -m 755 /tmp/trapline-0 && mkfifo /tmp/trapline-0/agent"),
        ("open", "chmod 777 /tmp"),
    ] {
        check(name, &format!("{tmp} && {planted}"), &[]);
    }
    if process::is_root() {
        let theirs = "mkdir -m 755 /tmp/trapline-0 && chown 65534 /tmp/trapline-0";
        check("theirs", &format!("{tmp} && {theirs}"), &[]);
    }
}

/// Root with another user's HOME (as under sudo): what lies there is neither read nor changed.
#[test]
fn another_users_home_has_no_say() {
    let home = tempfile::tempdir_in("/dev/shm").expect("a temporary directory");
    process::open_to_all(home.path());
    let cache = home.path().join(".cache/trapline");
    fs::create_dir_all(&cache).expect("a directory");
    for path in [home.path(), &home.path().join(".cache"), &cache] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("ours");
        if process::is_root() {
            chown(path, Some(65534), Some(65534)).expect("root may");
        }
    }
    let before = fs::metadata(&cache).expect("there").mtime_nsec();
    let mounts = "mount -t tmpfs -o noexec,mode=1777 none /tmp";
    let variables = [("HOME", home.path()), ("XDG_CACHE_HOME", &home.path().join(".cache"))];
    check("home", mounts, &variables);
    assert_eq!(fs::metadata(&cache).expect("there").mtime_nsec(), before);
    assert_eq!(fs::read_dir(&cache).expect("there").count(), 0, "nothing was put there");
}

/// A program that is executed where neither the agent nor the segment can be opened runs as it
/// does bare: the loader does not complain on its error stream.
#[test]
fn out_of_reach_is_silent() {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a temporary directory");
    let report = directory.path().join("report");
    let command = r#""$TRAPLINE" stat -j -o "$REPORT" mutual_recursion:t_fib -- unshare -m \
        sh -c 'mount -t tmpfs none /tmp && mount -t tmpfs none /dev/shm && exec "$TARGET"'"#;
    let Some(finished) = inside("true", command, &[("REPORT", &report)]) else { return };
    let bare = Target::new("mutual_recursion.c").case().bare();
    let said: Vec<_> = finished.stderr.lines().filter(|l| !l.starts_with("trapline: ")).collect();
    assert_eq!((finished.stdout, said), (bare.stdout, Vec::new()));
    Report::read(&report).expect("a report");
}
