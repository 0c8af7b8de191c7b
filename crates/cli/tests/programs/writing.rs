//! What is asked for is written whole, or the exit code says that it was not; a reader that goes
//! away is no error.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::process::{self, Finished, program, run};
use crate::common::{Target, trapline};

/// What trapline says of itself when it could not do what it was asked for.
const FAILED: i32 = 125;

fn target() -> PathBuf {
    Target::new("recursion.c").build()
}

/// A recording in `directory`.
fn recording(directory: &Path) -> PathBuf {
    let file = directory.join("a.tlp");
    let finished = run(
        trapline().args(["record", "t_*", "-o"]).arg(&file).arg("--").arg(target()).arg("9"),
        b"",
    );
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    file
}

/// Every way to write to standard output. The target writes nothing there that matters.
fn writers(directory: &Path) -> Vec<Vec<String>> {
    let file = recording(directory).display().to_string();
    let report = directory.join("a.json").display().to_string();
    let program = target().display().to_string();
    let finished =
        run(trapline().args(["stat", "-j", "-o", &report, "t_*", "--", &program, "9"]), b"");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let mut all: Vec<Vec<String>> = Vec::new();
    let mut add = |words: &str| {
        let word = |word: &str| match word {
            "FILE" => file.clone(),
            "REPORT" => report.clone(),
            "PROGRAM" => program.clone(),
            other => other.to_string(),
        };
        all.push(words.split(' ').map(word).collect());
    };
    for words in [
        "stat -o - t_* -- PROGRAM 9",
        "stat -j -o - t_* -- PROGRAM 9",
        "stat -x ; -o - t_* -- PROGRAM 9",
        "stat -i 10ms -j -o - t_* -- PROGRAM 9",
        "stat --diff REPORT REPORT",
        "stat --diff REPORT REPORT -j -o -",
        "report FILE",
        "report -o - FILE",
        "report -j FILE",
        "report --tree -o - FILE",
        "list -v t_* -- PROGRAM",
        "list t_* -- PROGRAM",
        "doctor",
        "completions bash",
        "completions zsh",
        "man",
        "--help",
        "stat --help",
        "--version",
    ] {
        add(words);
    }
    for format in ["tlp", "svg", "html", "folded", "pprof", "firefox"] {
        add(&format!("report -f {format} FILE"));
        add(&format!("record -f {format} -o - t_* -- PROGRAM 9"));
    }
    all
}

fn with_stdout(words: &[String], stdout: impl Into<Stdio>) -> (i32, String) {
    let output = trapline()
        .args(words)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .output()
        .expect("it runs");
    (
        output.status.code().expect("no signal ends it"),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn a_full_disk_behind_standard_output() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for words in writers(directory.path()) {
        // The target's own output is lost there as well; its exit code is 0 all the same.
        let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
        let (code, said) = with_stdout(&words, full);
        assert_eq!(code, FAILED, "{words:?}: {said}");
        assert!(
            said.contains("cannot write to standard output: No space left"),
            "{words:?}: {said}"
        );
    }
}

#[test]
fn a_closed_standard_output() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for words in writers(directory.path()) {
        let mut command = trapline();
        command.args(&words).stdin(Stdio::null()).stderr(Stdio::piped());
        let close = || {
            // SAFETY: closes the child's own descriptor, between fork and exec.
            unsafe { libc::close(1) };
            Ok(())
        };
        // SAFETY: the closure makes one call, which is safe after fork.
        unsafe { command.pre_exec(close) };
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(FAILED), "{words:?}: {said}");
        assert!(
            said.contains("cannot write to standard output: Bad file descriptor"),
            "{words:?}: {said}"
        );
    }
}

#[test]
fn a_reader_that_went_away() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for words in writers(directory.path()) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let (code, said) = with_stdout(&words, writer);
        assert!(!said.contains("panicked") && !said.contains("cannot write"), "{words:?}: {said}");
        // The target writes there as well, and may be killed by SIGPIPE as it would be bare.
        let expected: &[i32] = match words[0].as_str() {
            "stat" | "record" => &[0, 141],
            "doctor" => &[0, 1],
            _ => &[0],
        };
        assert!(expected.contains(&code), "{words:?}: {code}\n{said}");
    }
}

#[test]
fn a_full_disk_behind_a_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = recording(directory.path());
    let program = target();
    let refused = |command: &mut Command| {
        let finished = run(command, b"");
        assert_eq!(finished.code, FAILED, "{command:?}: {}", finished.stderr);
        assert!(
            finished.stderr.contains("/dev/full: No space left"),
            "{command:?}: {}",
            finished.stderr
        );
    };
    for options in
        [&[][..], &["-j"], &["-x", ";"], &["-i", "10ms", "-j"], &["-i", "10ms", "-x", ";"]]
    {
        refused(
            trapline()
                .arg("stat")
                .args(options)
                .args(["-o", "/dev/full", "t_*", "--"])
                .arg(&program)
                .arg("9"),
        );
    }
    for format in ["tlp", "svg", "html", "folded", "pprof", "firefox"] {
        refused(
            trapline()
                .args(["record", "-f", format, "-o", "/dev/full", "t_*", "--"])
                .arg(&program)
                .arg("9"),
        );
        refused(trapline().args(["report", "-f", format, "-o", "/dev/full"]).arg(&file));
    }
    refused(trapline().args(["report", "-j", "-o", "/dev/full"]).arg(&file));
    // Standard error is where reports go if nobody says otherwise.
    let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
    let status = trapline()
        .args(["stat", "t_*", "--"])
        .arg(&program)
        .arg("9")
        .stdout(Stdio::null())
        .stderr(full)
        .status();
    assert_eq!(status.expect("it runs").code(), Some(FAILED));
}

/// A small file system of its own, in namespaces of its own; none where those are not allowed.
fn on_a_small_disk(script: &str, directory: &Path) -> Option<Finished> {
    let (bind, files) = (process::bind_built(), directory.display());
    let mount = format!("{bind} && mount -t tmpfs -o size=16k none '{files}' || exit 99\n{script}");
    let mut command = program("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount])
        .env("TRAPLINE", process::bound(Path::new(env!("CARGO_BIN_EXE_trapline"))))
        .env("PROGRAM", process::bound(&target()));
    let finished = run(command.env("FILES", directory), b"");
    if finished.code == 99 || finished.stderr.contains("unshare") {
        // SAFETY: asks for a number.
        assert_ne!(unsafe { libc::geteuid() }, 0, "root can mount: {}", finished.stderr);
        eprintln!("SKIPPED: namespaces are not allowed here");
        return None;
    }
    Some(finished)
}

/// What was there stays there, and nothing is left beside it.
#[test]
fn a_full_disk_leaves_the_old_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = r#"
cd "$FILES"
echo old > a.html; echo old > a.json
"$TRAPLINE" record -o a.html t_* -- "$PROGRAM" 9 >/dev/null 2>said; echo "record $?"
head -c 9000 /dev/zero > filler; cat /dev/zero > filler2 2>/dev/null
"$TRAPLINE" stat -j -o a.json t_* -- "$PROGRAM" 9 >/dev/null 2>/dev/null; echo "stat $?"
cat a.html a.json; ls -A
"#;
    let Some(finished) = on_a_small_disk(script, directory.path()) else { return };
    assert_eq!(
        finished.stdout, "record 125\nstat 125\nold\nold\na.html\na.json\nfiller\nfiller2\nsaid\n",
        "{}",
        finished.stderr
    );
}

/// `doctor` tries a run, and says where nothing can be written.
#[test]
fn what_doctor_finds() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let finished = run(trapline().arg("doctor").current_dir(directory.path()), b"");
    let line = |text: &str, what: &str| {
        let found =
            text.lines().find(|line| line.get(6..).is_some_and(|line| line.starts_with(what)));
        found.unwrap_or_else(|| panic!("no {what} in\n{text}")).to_string()
    };
    assert!(line(&finished.stdout, "trial run").starts_with("ok "), "{}", finished.stdout);
    assert!(line(&finished.stdout, "output").starts_with("ok "), "{}", finished.stdout);
    assert!(line(&finished.stdout, "kernel uprobes").contains("available"), "{}", finished.stdout);
    // What the loader is told to do is done in the trial, too.
    let finished = run(
        trapline()
            .arg("doctor")
            .env("LD_BIND_NOT", "1")
            .env("LD_PRELOAD", "/nosuch.so")
            .current_dir("/proc"),
        b"",
    );
    assert!(line(&finished.stdout, "output").starts_with("less "), "{}", finished.stdout);
    let full = "cd \"$FILES\"; cat /dev/zero > filler 2>/dev/null; \"$TRAPLINE\" doctor";
    let read_only = "mount -o remount,ro \"$FILES\" && cd \"$FILES\" && \"$TRAPLINE\" doctor";
    for script in [full, read_only] {
        let Some(finished) = on_a_small_disk(script, directory.path()) else { return };
        assert!(
            line(&finished.stdout, "output").starts_with("less "),
            "{script}: {}",
            finished.stdout
        );
        assert!(finished.stdout.contains("fix: trapline record -o"), "{}", finished.stdout);
        assert!(line(&finished.stdout, "trial run").starts_with("ok "), "{}", finished.stdout);
    }
    // Where nothing at all can be executed from memory or a file, the trial says it.
    let noexec = "mount -t tmpfs -o noexec none /tmp && mount -t tmpfs -o ro none /dev/shm; cd /; \
        \"$TRAPLINE\" doctor";
    let Some(finished) = on_a_small_disk(noexec, directory.path()) else { return };
    let agent = line(&finished.stdout, "agent file");
    assert!(!agent.starts_with("ok "), "{}", finished.stdout);
}

#[test]
fn standard_output_by_its_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let expected = |text: &str| text.contains("t_down");
    let program = target();
    for options in [&["-j"][..], &["-x", ";"], &[]] {
        let finished = run(
            trapline()
                .arg("stat")
                .args(options)
                .args(["-o", "-", "t_*", "--"])
                .arg(&program)
                .arg("9"),
            b"",
        );
        assert!(
            finished.code == 0 && expected(&finished.stdout) && finished.stderr.is_empty(),
            "{}",
            finished.stderr
        );
    }
    let file = recording(directory.path());
    for options in [&[][..], &["-j"], &["--tree"], &["-f", "folded"]] {
        let finished =
            run(trapline().arg("report").args(options).args(["-o", "-"]).arg(&file), b"");
        assert!(
            finished.code == 0 && expected(&finished.stdout),
            "{options:?}: {}",
            finished.stderr
        );
    }
    assert!(!Path::new("-").exists(), "no file is called so");
}
