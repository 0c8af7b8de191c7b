//! Programs and libraries whose files are damaged: listed, and run where the kernel runs them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::random::Random;
use super::{check, each};
use crate::common::process::{kill_group, program, run};
use crate::common::{Target, trapline};

/// Words of the ELF header, of its tables, or anywhere.
fn damage(random: &mut Random, file: &mut Vec<u8>) {
    let number = |file: &[u8], at: usize, bytes: usize| {
        let mut word = [0; 8];
        word[..bytes].copy_from_slice(&file[at..at + bytes]);
        u64::from_le_bytes(word) as usize
    };
    let (segments, sections) = (number(file, 32, 8), number(file, 40, 8));
    let (segments_len, sections_len) = (number(file, 56, 2) * 56, number(file, 60, 2) * 64);
    for _ in 0..*random.of(&[1, 1, 2, 3, 8]) {
        let at = match random.below(100) {
            0..15 => 16 + random.below(48),
            15..35 => segments + random.below(segments_len.max(1)),
            35..65 => sections + random.below(sections_len.max(1)),
            _ => random.below(file.len()),
        } & !7;
        if let Some(word) = file.get_mut(at..at + 8) {
            let old = u64::from_ne_bytes(word.try_into().expect("eight bytes"));
            word.copy_from_slice(&random.damaged(old).to_ne_bytes());
        }
    }
    if random.percent(8) {
        file.truncate(random.below(file.len()));
    }
}

/// How long a damaged program is waited for; one that takes longer is left out.
const PATIENCE: Duration = Duration::from_secs(10);

/// The exit code of a damaged program, if the kernel starts it (it may have a part of another name
/// for its interpreter) and it ends.
fn bare_code(command: &mut Command) -> Option<i32> {
    let command = command.process_group(0).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    let started = Instant::now();
    let status = loop {
        let status = child.try_wait().expect("the child is ours");
        if status.is_some() || started.elapsed() > PATIENCE {
            break status;
        }
        thread::sleep(Duration::from_millis(2));
    };
    kill_group(child.id().cast_signed());
    let _ = child.wait();
    status?.code()
}

#[test]
fn files_that_lie() {
    let flags = ["-DFACTOR=2"];
    let library = Target::new("opened_library.c").shared().flags(&flags).build();
    let small = Target::new("fuzzed.c").build();
    let sources: Vec<Vec<u8>> =
        [&small, &library].map(|path| fs::read(path).expect("just built")).to_vec();
    each("elf", 150, |seed| {
        let mut random = Random::new(seed);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("damaged");
        let mut bytes = random.of(&sources).clone();
        damage(&mut random, &mut bytes);
        fs::write(&file, &bytes).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("ours");
        let what = format!("FUZZ_SEED={seed} FUZZ_RUNS=1");
        check(&what, &run(trapline().args(["list", "-v", "*", "--"]).arg(&file), b""));
        // Only what runs bare shows whether it also runs probed. A damaged program may do anything:
        // it does so in a directory that goes away.
        let mut bare = program(&file);
        bare.arg("x").current_dir(directory.path());
        if random.percent(20) && bare_code(&mut bare) == Some(43) {
            let mut command = trapline();
            command
                .current_dir(directory.path())
                .args(["stat", "damaged:*", "--"])
                .arg(&file)
                .arg("x");
            let finished = run(&mut command, b"");
            check(&what, &finished);
        }
    });
}
