//! What cannot be traced is refused in one clear line, with the exit code that `env` and `timeout`
//! would give, and with what to do next.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn trapline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trapline"));
    command.stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRAPLINE_") {
            command.env_remove(&name);
        }
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    trapline().args(arguments).output().expect("trapline can be run")
}

/// The exit code, and the one line on stderr.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.stdout, b"", "{arguments:?}");
    assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    assert!(text.starts_with("trapline: "), "{arguments:?}: {text}");
    (output.status.code().expect("an exit code"), text)
}

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        path
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn program() -> Vec<u8> {
    fs::read("/bin/true").expect("every Linux has /bin/true")
}

#[test]
fn a_missing_program() {
    for name in ["nosuchprogram", "/nosuch/program", "./nosuch", "/bin/true/x"] {
        let (code, line) = refused(&["stat", "malloc", "--", name]);
        assert_eq!(code, 127, "{line}");
        assert!(line.contains(name) && line.contains("no such"), "{line}");
    }
}

#[test]
fn what_is_no_program() {
    let directory = Directory::new();
    let text_file = directory.file("text", b"hello\n", 0o755);
    let plain = directory.file("plain", &program(), 0o644);
    let empty = directory.file("empty", b"", 0o755);
    for (path, why) in [
        (text(&text_file), "neither an ELF program nor a script"),
        (text(&plain), "chmod +x"),
        (text(&empty), "neither"),
        ("/tmp", "directory"),
        ("/dev/null", "not a regular file"),
    ] {
        let (code, line) = refused(&["stat", "malloc", "--", path]);
        assert_eq!(code, 126, "{line}");
        assert!(line.contains(why), "{line}");
    }
}

#[test]
fn corrupt_programs() {
    let directory = Directory::new();
    let whole = program();
    let mut no_segments = whole.clone();
    no_segments[56..58].fill(0);
    let mut far_headers = whole.clone();
    far_headers[32..40].fill(0xfe);
    let mut relocatable = whole.clone();
    relocatable[16] = 1;
    for (name, content) in [
        ("cut-header", whole[..40].to_vec()),
        ("cut-half", whole[..whole.len() / 2].to_vec()),
        ("no-segments", no_segments),
        ("far-headers", far_headers),
        ("object", relocatable),
    ] {
        let path = directory.file(name, &content, 0o755);
        let (code, line) = refused(&["stat", "malloc", "--", text(&path)]);
        assert_eq!(code, 126, "{line}");
        assert!(line.contains("ELF") || line.contains("object file"), "{line}");
    }
}

#[test]
fn other_architectures() {
    let directory = Directory::new();
    let mut arm = program();
    arm[18..20].copy_from_slice(&183_u16.to_le_bytes());
    let mut narrow = program();
    narrow[4] = 1;
    let mut big = program();
    big[5] = 2;
    for (name, content, why) in
        [("arm", arm, "arm64"), ("narrow", narrow, "32-bit"), ("big", big, "big-endian")]
    {
        let path = directory.file(name, &content, 0o755);
        let (code, line) = refused(&["stat", "malloc", "--", text(&path)]);
        assert_eq!(code, 125, "{line}");
        assert!(line.contains(why) && line.contains("x86-64"), "{line}");
    }
}

/// A program whose C library nobody knows.
#[test]
fn a_static_program() {
    let directory = Directory::new();
    let mut program = program();
    // Without a PT_INTERP header it is one.
    let count = usize::from(u16::from_le_bytes([program[56], program[57]]));
    for header in 0..count {
        let at = 64 + header * 56;
        if program[at..at + 4] == 3_u32.to_le_bytes() {
            program[at..at + 4].fill(0);
        }
    }
    let path = directory.file("static", &program, 0o755);
    let (code, line) = refused(&["stat", "malloc", "--", text(&path)]);
    assert_eq!(code, 125, "{line}");
    assert!(line.contains("its C library is neither glibc nor musl"), "{line}");
}

#[test]
fn a_setuid_program_of_somebody_else() {
    let directory = Directory::new();
    let path = directory.file("privileged", &program(), 0o755);
    // Another owner can be given by root only; otherwise any setuid program of root's will do.
    let path = if std::os::unix::fs::chown(&path, Some(65534), None).is_ok() {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).expect("its mode");
        path
    } else {
        PathBuf::from("/usr/bin/passwd")
    };
    if !path.exists() {
        return;
    }
    let (code, line) = refused(&["stat", "malloc", "--", text(&path)]);
    assert_eq!(code, 125, "{line}");
    assert!(line.contains("setuid") && line.contains("LD_PRELOAD"), "{line}");
}

#[test]
fn scripts_stand_for_their_interpreter() {
    let directory = Directory::new();
    let missing = directory.file("missing", b"#!/nosuch/shell\n", 0o755);
    let (code, line) = refused(&["stat", "malloc", "--", text(&missing)]);
    assert_eq!(code, 127, "{line}");
    assert!(line.contains("its interpreter") && line.contains("/nosuch/shell"), "{line}");
    let nothing = directory.file("nothing", b"#!\n", 0o755);
    assert_eq!(refused(&["stat", "malloc", "--", text(&nothing)]).0, 126);
    let script = directory.file("script", b"#! /bin/sh -e\nexit 3\n", 0o755);
    let through_env = directory.file("through-env", b"#!/usr/bin/env -S sh\nexit 3\n", 0o755);
    for script in [script, through_env] {
        let output = run(&["list", "libc:malloc", "--", text(&script)]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "libc.so.6:malloc\n", "{script:?}");
    }
    let around = directory.0.path().join("around");
    fs::write(&around, format!("#!{}\n", around.display())).expect("a file");
    fs::set_permissions(&around, fs::Permissions::from_mode(0o755)).expect("its mode");
    assert_eq!(refused(&["stat", "malloc", "--", text(&around)]).0, 126);
}

#[test]
fn a_spec_that_matches_nothing() {
    let (code, line) = refused(&["stat", "nosuch", "--", "ls"]);
    assert_eq!(code, 2, "{line}");
    assert!(line.contains("'nosuch' matches no function of ls or its libraries"), "{line}");
    let (code, line) = refused(&["stat", "zzqqxxyyzzqq", "--", "ls"]);
    assert!(
        code == 2 && !line.contains("did you mean") && line.contains("trapline list -- ls"),
        "{line}"
    );
    let (code, line) = refused(&["stat", "libc:MALOC", "--", "ls"]);
    assert!(code == 2 && line.contains("did you mean libc.so.6:malloc"), "{line}");
    let (code, line) = refused(&["stat", "libc:maloc", "--", "ls"]);
    assert_eq!(code, 2, "{line}");
    assert!(line.contains("did you mean libc.so.6:malloc"), "{line}");
    // The object is there, whatever names it: its functions are all known.
    for (spec, place) in [
        ("libc*:nosuch", "libc.so.6"),
        ("/libc/:nosuch", "libc.so.6"),
        ("lib?.so*:nosuch_*", "libc.so.6"),
        ("*:nosuch", "libc.so.6"),
        ("ls:nosuch", "ls"),
    ] {
        let (code, line) = refused(&["stat", spec, "--", "ls"]);
        let expected = format!("'{spec}' matches no function of ");
        assert!(code == 2 && line.contains(&expected) && line.contains(place), "{line}");
    }
    // Nothing is started.
    let directory = Directory::new();
    let witness = directory.0.path().join("started");
    assert_eq!(refused(&["stat", "nosuch", "--", "touch", text(&witness)]).0, 2);
    assert!(!witness.exists());
}

#[test]
fn wrong_usage() {
    for arguments in [
        &["stat"][..],
        &["stat", "malloc"],
        &["nosuch"],
        &["stat", "--sort", "nosuch", "--", "ls"],
        &["stat", "-d", "x", "--", "ls"],
        &[],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    for spec in ["libc:", "/(/", ":x", "call:f+4"] {
        let (code, line) = refused(&["stat", spec, "--", "ls"]);
        assert_eq!(code, 2, "{line}");
        assert!(line.contains(spec), "{line}");
    }
}

/// Before the program runs, with what to write instead.
#[test]
fn what_other_tools_understand() {
    let directory = Directory::new();
    let witness = directory.0.path().join("started");
    for (spec, hint) in [
        ("libcc:malloc", "did you mean libc.so.6?"),
        ("usdt:libc:setjmp", "OBJECT:FUNCTION"),
        ("k:vfs_read", "libc:read"),
        ("tracepoint:syscalls:sys_enter_read", "libc:openat"),
        ("file.c:8", "the function that it is in"),
    ] {
        let (code, line) = refused(&["stat", spec, "--", "touch", text(&witness)]);
        assert!(code == 2 && line.contains(spec) && line.contains(hint), "{line}");
        assert!(!witness.exists());
    }
    for (arguments, hint) in [
        (&["stat", "ls"][..], "trapline stat -- ls"),
        (&["stat", "libc:malloc", "ls", "-l"], "trapline stat libc:malloc -- ls -l"),
        (&["record", "malloc"], "trapline record malloc -- CMD"),
        (&["stat", "--attach", "1", "malloc"], "trapline stat -p PID SPEC"),
        (&["stat", "--", "-p", "1", "malloc"], "trapline stat -p PID SPEC"),
    ] {
        let (code, line) = refused(arguments);
        assert!(code == 2 && line.contains(hint), "{line}");
    }
}

/// A library may be opened later, however near to a loaded one its name is: the program runs, and
/// the nearest name is said.
#[test]
fn libraries_that_may_be_opened_later() {
    let directory = Directory::new();
    directory.file("libcc.so", b"", 0o644);
    let near = "; did you mean libc.so.6?";
    for (spec, hint) in [
        ("libp.so:plug_leaf", near),
        ("entry:libx.so.6:malloc", near),
        ("memfd:plug_leaf", ""),
        ("./d/libp.so:plug_leaf", ""),
        ("libcc:malloc", near),
    ] {
        let witness = directory.0.path().join("started");
        let mut command = trapline();
        command.env("LD_LIBRARY_PATH", directory.0.path());
        let output = command.args(["stat", spec, "--", "touch", text(&witness)]).output();
        let output = output.expect("trapline can be run");
        let errors = String::from_utf8(output.stderr).expect("UTF-8");
        let bare = "no such object is loaded at start";
        let waits = format!("'{spec}': {bare}{hint}; waiting for an object that is opened later");
        assert!(errors.contains(&waits), "{spec}: {errors}");
        let nothing = format!("'{spec}' matched nothing");
        assert!(output.status.code() == Some(2) && errors.contains(&nothing), "{spec}: {errors}");
        assert!(witness.exists(), "{spec}");
        fs::remove_file(&witness).expect("just made");
    }
}

/// What a user or a file says comes back as one line without commands to the terminal.
#[test]
fn messages_are_plain_text() {
    let hostile = "a\x1b[31m\u{202e}b\nc\x07";
    let shown = "a\\x1b[31m\\u{202e}b\\nc\\x07";
    for arguments in [
        &["stat", hostile, "--", "ls"][..],
        &["stat", &format!("libc:{hostile}"), "--", "ls"],
        &["stat", &format!("{hostile}:"), "--", "ls"],
        &["stat", &format!("/(/{hostile}/"), "--", "ls"],
        &["stat", "malloc", "--", hostile],
        &["stat", hostile, "--", &format!("/nosuch/{hostile}")],
        &["list", &format!("{hostile}:x")],
        &["report", hostile],
        &["stat", "-d", hostile, "--", "ls"],
        &["stat", &format!("--{hostile}"), "--", "ls"],
        &[hostile],
    ] {
        let output = run(arguments);
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(text.contains(shown), "{arguments:?}: {text}");
        assert!(
            !text.contains(['\x1b', '\u{202e}', '\x07']) && !text.contains("\nc"),
            "{arguments:?}: {text:?}"
        );
    }
}

#[test]
fn an_object_is_known_by_what_was_asked_for() {
    let directory = Directory::new();
    let link = directory.0.path().join("other-name");
    symlink("/bin/sh", &link).expect("a link");
    let target = fs::canonicalize("/bin/sh").expect("its target");
    let by_link = run(&["list", "other-name:*", "--", text(&link)]);
    assert!(by_link.status.success(), "{by_link:?}");
    let by_target = run(&["list", &format!("{}:*", text(&target)), "--", text(&link)]);
    assert_eq!(by_link.stdout, by_target.stdout);
    assert!(String::from_utf8_lossy(&by_link.stdout).starts_with("other-name:"));
}

#[test]
fn list_ends_quietly_when_its_reader_does() {
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("{} list 'libc:*' -- ls | head -n 1", env!("CARGO_BIN_EXE_trapline")))
        .output()
        .expect("a shell");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.stdout.iter().filter(|&&byte| byte == b'\n').count(), 1);
}

#[test]
fn help_completions_and_man_pages_come_from_the_parser() {
    for verb in ["stat", "list", "doctor"] {
        let help = run(&[verb, "--help"]);
        assert!(String::from_utf8_lossy(&help.stdout).contains("Example"), "{verb}");
    }
    assert!(String::from_utf8_lossy(&run(&["completions", "bash"]).stdout).contains("trapline"));
    assert!(String::from_utf8_lossy(&run(&["man"]).stdout).contains(".TH trapline"));
    let directory = Directory::new();
    assert!(run(&["man", text(directory.0.path())]).status.success());
    for page in ["trapline.1", "trapline-stat.1", "trapline-list.1", "trapline-doctor.1"] {
        assert!(directory.0.path().join(page).exists(), "{page}");
    }
}
