//! A worker that gave up its rights cannot use the segment against its parent, which kept them.

use crate::common::process::{is_root, open_to_all, run};
use crate::common::{Report, Target, build, trapline};

/// The tables are out of its reach, questions of its own bring nobody wrong functions, and whatever
/// it writes to the counters, its parent lives, gives the right results, and patches nothing but
/// entries of functions.
#[test]
fn a_worker_without_rights_changes_no_code_of_its_parent() {
    if !is_root() {
        eprintln!("SKIPPED: only root has rights to give up; fuzz::segment damages the same");
        return;
    }
    let program = Target::new("privsep.c").build();
    let library = |factor: &str| {
        let flags = [factor, "-Wl,--build-id=0x0102030405060708"];
        Target::new("opened_library.c").shared().flags(&flags).build()
    };
    let (library, forged) = (library("-DFACTOR=3"), library("-DFACTOR=2"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    // Where the worker can reach it, too.
    let copy = directory.path().join("forged.so");
    build::copy(forged, &copy);
    open_to_all(directory.path());
    let report = directory.path().join("report");
    let segment = directory.path().join("a.segment");
    let named = ["--segment", segment.to_str().expect("in UTF-8")];
    let verbs: [&[&str]; 4] = [
        &["stat", "-j"],
        &["record", "-f", "tlp"],
        &["record", "-f", "tlp", "--weight", "time", named[0], named[1]],
        &["record", "-f", "tlp", "--on-full", "evict"],
    ];
    for (attack, said) in [("tables", "tried "), ("ask", "asked"), ("scribble", "changed ")] {
        for verb in verbs {
            let mut command = trapline();
            command.args(verb).arg("-o").arg(&report).args(["t_*", "*opened*:t_*", "--"]);
            command.arg(&program).args([attack.as_ref(), library.as_os_str(), copy.as_os_str()]);
            let finished = run(&mut command, b"");
            let what = format!("{attack} {verb:?}: {}{}", finished.stdout, finished.stderr);
            assert!(finished.stdout.starts_with("right\n"), "{what}");
            let did = finished.stderr.lines().find_map(|line| line.strip_prefix(said));
            assert!(did.is_some_and(|number| number != "0"), "{what}");
            // What the worker wrote over what was counted is another matter.
            if attack == "scribble" {
                continue;
            }
            assert_eq!(finished.code, 0, "{what}");
            if verb[0] == "stat" {
                let report = Report::read(&report).expect("a report");
                for line in finished.stdout.lines() {
                    let Some(line) = line.strip_prefix("calls ") else { continue };
                    let (name, number) = line.split_once(' ').expect("a number");
                    assert_eq!(report.calls(name).to_string(), number, "{name}: {what}");
                }
            }
        }
    }
}
