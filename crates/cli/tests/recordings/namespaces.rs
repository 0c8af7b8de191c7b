//! Programs that only they themselves can see: in a mount namespace that is gone when their names
//! are looked up.

use super::{callers, read};
use crate::common::process::{program, run};
use crate::common::{build, trapline};

#[test]
fn names_of_a_program_in_a_mount_namespace() {
    // Takes a permission that no package gives.
    if run(program("unshare").args(["-m", "true"]), b"").code != 0 {
        eprintln!("SKIPPED: mount namespaces cannot be made here");
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (hidden, seen) = (directory.path().join("hidden"), directory.path().join("seen"));
    for place in [&hidden, &seen] {
        std::fs::create_dir(place).expect("a directory");
    }
    build::copy(callers(), hidden.join("program"));
    let script = format!(
        "mount --bind {} {} && exec {}/program",
        hidden.display(),
        seen.display(),
        seen.display()
    );
    let file = directory.path().join("a.tlp");
    let mut command = trapline();
    command
        .args(["record", "program:t_leaf", "-o"])
        .arg(&file)
        .args(["--", "unshare", "-m", "sh", "-c", &script]);
    let finished = run(&mut command, b"");
    assert_eq!((finished.code, finished.stdout.as_str()), (0, "sum 236\n"), "{}", finished.stderr);
    let recording = read(&file);
    assert!(!seen.join("program").exists(), "nobody else sees it");
    assert_eq!(
        recording.calls(|names| names.ends_with(&[
            "main".to_owned(),
            "t_one".to_owned(),
            "t_leaf".to_owned()
        ])),
        10
    );
    assert_eq!(recording.calls(|_| true), 27);
}
