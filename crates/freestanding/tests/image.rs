//! Builds the program, looks at what it is made of, and runs it.
#![cfg(target_arch = "x86_64")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What ends well, or what it said.
fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it can be run");
    let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    stdout
}

fn image() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // Not the directory of the build that goes on, since that is locked.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--quiet", "--package", "trapline-freestanding"]);
    cargo.args(["--features", "image", "--profile", "agent", "--target-dir"]).arg(&target);
    cargo.current_dir(workspace).env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    output(&mut cargo);
    target.join("agent/freestanding")
}

#[test]
fn a_program_without_a_c_library() {
    let image = image();
    let asked = |tool: &str, how: &str| output(Command::new(tool).arg(how).arg(&image));

    assert_eq!(asked("nm", "-u"), "", "undefined symbols");
    let dynamic = asked("readelf", "-dW");
    assert!(dynamic.contains("RELA"), "{dynamic}");
    assert!(!dynamic.contains("NEEDED"), "{dynamic}");
    let segments = asked("readelf", "-lW");
    for none in ["INTERP", "TLS"] {
        assert!(!segments.contains(none), "{segments}");
    }
    let relocations = asked("readelf", "-rW");
    for line in relocations.lines().filter(|line| line.contains("R_X86_64")) {
        assert!(line.contains("R_X86_64_RELATIVE"), "{line}");
    }
    // Without restartable sequences, and with them.
    assert_eq!(output(&mut Command::new(&image)), "ok\n");
    assert_eq!(output(Command::new(&image).arg("area")), "ok\n");
}
