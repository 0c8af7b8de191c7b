//! What is refused before anything runs, in one line, with what to do.

use super::callers;
use crate::common::process::run;
use crate::common::trapline;
use std::path::{Path, PathBuf};

#[test]
fn recordings_that_cannot_be_made() {
    let program = callers();
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (arguments, code, hint) in [
        (&["t_leaf", "-o", "/nosuch/directory/a.svg"][..], 2, "cannot write"),
        (&["t_leaf", "-o", "a.unknown"], 2, "-f"),
        (&["t_leaf", "-f", "perfetto", "-o", "a"], 2, "events"),
        (&["t_leaf", "-f", "svg", "-o", "a.svg", "-o", "b.svg"], 2, "-f"),
        (&["t_leaf", "--on-full", "evict", "--weight", "time"], 2, "--weight calls"),
        (&["t_laef"], 2, "did you mean t_leaf"),
        (&["t_leaf", "--segment", "/nosuch/segment"], 125, "/nosuch/segment"),
    ] {
        let mut command = trapline();
        let finished = run(
            command
                .current_dir(directory.path())
                .arg("record")
                .args(arguments)
                .arg("--")
                .arg(&program),
            b"",
        );
        assert_eq!(
            (finished.code, finished.stdout.as_str()),
            (code, ""),
            "{arguments:?}: {}",
            finished.stderr
        );
        assert!(
            finished.stderr.contains(hint) && finished.stderr.lines().count() == 1,
            "{arguments:?}: {}",
            finished.stderr
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{arguments:?}");
    }
}

#[test]
fn files_that_are_no_recordings() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let segment = directory.path().join("segment");
    let made = run(
        trapline()
            .args(["record", "t_leaf", "-o"])
            .arg(directory.path().join("a.tlp"))
            .arg("--segment")
            .arg(&segment)
            .arg("--")
            .arg(callers()),
        b"",
    );
    assert_eq!(made.code, 0, "{}", made.stderr);
    let bytes = std::fs::read(directory.path().join("a.tlp")).expect("a recording");
    let mut head = vec![0; 8192];
    std::io::Read::read_exact(&mut std::fs::File::open(&segment).expect("a segment"), &mut head)
        .expect("it is larger");
    let mut cases = vec![
        file("empty", b""),
        file("other", b"#!/bin/sh\n"),
        file("cut", &bytes[..bytes.len() / 2]),
        file("cut-segment", &head),
        directory.path().join("missing"),
        directory.path().to_path_buf(),
    ];
    // A segment of another version, and one with sizes that cannot be.
    let mut other = head.clone();
    other[8] ^= 0x40;
    cases.push(file("version", &other));
    let mut hostile = head.clone();
    hostile[16..96].fill(0xff);
    cases.push(file("hostile", &hostile));
    for case in cases {
        let finished = run(trapline().arg("report").arg(&case), b"");
        assert_eq!(
            (finished.code, finished.stdout.as_str()),
            (2, ""),
            "{}: {}",
            case.display(),
            finished.stderr
        );
        assert_eq!(finished.stderr.lines().count(), 1, "{}: {}", case.display(), finished.stderr);
    }
}

/// A segment that a recording has left in `directory`.
fn left_segment(directory: &Path) -> PathBuf {
    let segment = directory.join("segment");
    let mut command = trapline();
    command
        .args(["record", "t_*", "--stack-memory", "256k", "-o"])
        .arg(directory.join("a.tlp"))
        .arg("--segment")
        .arg(&segment);
    assert_eq!(run(command.arg("--").arg(callers()), b"").code, 0);
    segment
}

/// Whatever the bytes of a segment are, its report is right, wrong or refused: nothing crashes.
#[test]
fn hostile_segments() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let segment = left_segment(directory.path());
    let good = std::fs::File::options().read(true).write(true).open(&segment).expect("a segment");
    let mut state = 1_u64;
    let mut random = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let parts = data(&good);
    for _ in 0..25 {
        use std::os::unix::fs::FileExt;
        let mut changed = Vec::new();
        for _ in 0..40 {
            let (start, end) = parts[random() as usize % parts.len()];
            // The magic, the version and the sizes are another test's.
            let at = (start + random() % (end - start)).max(128);
            let mut old = [0];
            good.read_exact_at(&mut old, at).expect("inside");
            good.write_all_at(&[random() as u8], at).expect("inside");
            changed.push((at, old));
        }
        let finished = run(trapline().arg("report").arg(&segment), b"");
        assert!([0, 2].contains(&finished.code), "{}: {}", finished.code, finished.stderr);
        changed.iter().rev().for_each(|(at, old)| good.write_all_at(old, *at).expect("inside"));
    }
    assert_eq!(run(trapline().arg("report").arg(&segment), b"").code, 0);
}

/// A segment that was cut is refused in one line, wherever that was; and whoever cuts it and mends
/// it again while it is read kills nobody.
#[test]
fn segments_that_are_cut() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let segment = left_segment(directory.path());
    let file = std::fs::File::options().read(true).write(true).open(&segment).expect("a segment");
    let length = file.metadata().expect("its length").len();
    let parts: Vec<(u64, Vec<u8>)> = data(&file)
        .into_iter()
        .map(|(start, end)| {
            let mut bytes = vec![0; (end - start) as usize];
            file.read_exact_at(&mut bytes, start).expect("inside");
            (start, bytes)
        })
        .collect();
    let mend = || {
        file.set_len(length).expect("longer");
        parts.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).expect("inside"));
    };
    let report = || run(trapline().arg("report").arg(&segment), b"");
    let mut cuts = vec![0, 1, 7, 8, 63, 64, 112, 320, 4095, 4096, 4097, length - 4096, length - 1];
    for (start, bytes) in &parts {
        let end = start + bytes.len() as u64;
        cuts.extend([start + 1, start / 2 + end / 2, end].map(|at| at.min(length - 1)));
    }
    for cut in &cuts {
        file.set_len(*cut).expect("shorter");
        let finished = report();
        let what = format!("cut at {cut} of {length}: {}", finished.stderr);
        assert_eq!((finished.code, finished.stdout.as_str()), (2, ""), "{what}");
        assert_eq!(finished.stderr.lines().count(), 1, "{what}");
        mend();
    }
    assert_eq!(report().code, 0);
    let over = std::sync::atomic::AtomicBool::new(false);
    let all: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| {
            for cut in cuts.iter().cycle() {
                file.set_len(*cut).expect("shorter");
                mend();
                if over.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
            }
        });
        let all = (0..30).map(|_| report()).collect();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        all
    });
    for finished in all {
        assert!([0, 2].contains(&finished.code), "{}: {}", finished.code, finished.stderr);
    }
    assert_eq!(report().code, 0);
}

/// The parts of a file that are not holes.
#[allow(unsafe_code)]
fn data(file: &std::fs::File) -> Vec<(u64, u64)> {
    use std::os::fd::AsRawFd;
    let seek = |from: u64, what| {
        // SAFETY: touches no memory.
        u64::try_from(unsafe { libc::lseek(file.as_raw_fd(), from.cast_signed(), what) }).ok()
    };
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(start) = seek(at, libc::SEEK_DATA) {
        let end = seek(start, libc::SEEK_HOLE).expect("a file ends in a hole");
        parts.push((start, end));
        at = end;
    }
    parts
}
