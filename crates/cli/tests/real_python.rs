//! Debian's python3 runs its own tests with every function of the interpreter probed.

mod common;

use common::process::{program, run, trapline};
use common::{Report, tools};

#[test]
fn its_own_tests() {
    let python = std::path::Path::new("/usr/bin/python3");
    if !python.is_file()
        || run(
            program(python)
                .args(["-c", "import test.test_json, test.test_re, test.test_threading"]),
            b"",
        )
        .code
            != 0
    {
        tools::missing("/usr/bin/python3 with the package test (libpython3-testsuite)");
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report");
    for tests in [&["test_json", "test_re"][..], &["test_threading"]] {
        let mut command = trapline();
        command
            .args(["stat", "-j", "-o"])
            .arg(&file)
            .arg("--")
            .arg(python)
            .args(["-m", "test"])
            .args(tests)
            .current_dir(directory.path());
        let finished = run(&mut command, b"");
        assert!(
            finished.code == 0
                && finished.stdout.contains("Result: SUCCESS")
                    | finished.stdout.contains("result: SUCCESS"),
            "{tests:?}: exit code {}\n{}\n{}",
            finished.code,
            finished.stdout,
            finished.stderr
        );
        let report = Report::read(&file).expect("a report");
        assert!(report.problems().is_empty(), "{:?}", report.problems());
        assert!(report.lost().is_empty(), "{:?}", report.lost());
        assert!(report.armed() > 1_000, "{} armed", report.armed());
        assert!(report.calls("_PyEval_EvalFrameDefault") > 10_000);
    }
}

/// A script that counts how often it called into a C function of the interpreter.
#[test]
fn exact_counts() {
    let python = std::path::Path::new("/usr/bin/python3");
    if !python.is_file() {
        tools::missing("/usr/bin/python3");
        return;
    }
    let script = "import ctypes\nf = ctypes.pythonapi.PyFloat_GetMax\nf.restype = \
        ctypes.c_double\nfor i in range(5000):\n    assert f() > 1e308\nprint('done')";
    let directory = tempfile::tempdir().expect("a temporary directory");
    for specs in [&["PyFloat_GetMax"][..], &["entry:PyFloat_*"], &[]] {
        let file = directory.path().join("report");
        let finished = run(
            trapline()
                .args(["stat", "-j", "-o"])
                .arg(&file)
                .args(specs)
                .arg("--")
                .arg(python)
                .args(["-I", "-c", script]),
            b"",
        );
        assert_eq!(
            (finished.code, finished.stdout.as_str(), finished.stderr.as_str()),
            (0, "done\n", ""),
            "{specs:?}"
        );
        assert_eq!(
            Report::read(&file).expect("a report").calls("PyFloat_GetMax"),
            5000,
            "{specs:?}"
        );
    }
}
