//! As an unprivileged user the same commands work.

use std::process::Command;

use crate::common::process::{is_root, open_to_all, run};
use crate::common::{Report, Target, build, tools};

#[test]
fn as_nobody() {
    if !is_root() {
        eprintln!("SKIPPED: only root can become nobody; the other tests have run unprivileged");
        return;
    }
    let Some(setpriv) = tools::find("setpriv") else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let copy = |from: &std::path::Path, name: &str| {
        let to = directory.path().join(name);
        build::copy(from, &to);
        to
    };
    let trapline = copy(env!("CARGO_BIN_EXE_trapline").as_ref(), "trapline");
    for (source, arguments) in [("threads.c", &[][..]), ("fork.c", &[]), ("recursion.c", &["1000"])]
    {
        let program = copy(&Target::new(source).build(), source.trim_end_matches(".c"));
        open_to_all(directory.path());
        let out = tempfile::tempdir().expect("a temporary directory");
        std::os::unix::fs::chown(out.path(), Some(65534), Some(65534)).expect("root may");
        let report = out.path().join("report");
        let nobody = || {
            let mut command = Command::new(&setpriv);
            command
                .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .current_dir("/");
            command
        };
        let bare = run(nobody().arg(&program).args(arguments), b"");
        for spec in [&["t_*"][..], &[]] {
            let probed = run(
                nobody()
                    .arg(&trapline)
                    .args(["stat", "-j", "-o"])
                    .arg(&report)
                    .args(spec)
                    .arg("--")
                    .arg(&program)
                    .args(arguments),
                b"",
            );
            assert_eq!(
                (probed.code, &probed.stdout, &probed.stderr),
                (bare.code, &bare.stdout, &bare.stderr),
                "{source} {spec:?}"
            );
            let report = Report::read(&report).expect("a report");
            for line in bare.stdout.lines() {
                if let Some((name, number)) =
                    line.strip_prefix("calls ").and_then(|rest| rest.split_once(' '))
                {
                    assert_eq!(report.calls(name).to_string(), number, "{source} {spec:?}: {name}");
                }
            }
        }
    }
}
