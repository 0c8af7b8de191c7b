//! greenlet copies frames of C away and back.

use super::common::process::{program, run};
use super::common::tools;
use super::{Runtime, source};

#[test]
fn greenlets_under_a_timed_interpreter() {
    let python = "/usr/bin/python3";
    let there = |module: &str| {
        let import = format!("import {module}");
        std::path::Path::new(python).is_file()
            && run(program(python).args(["-c", &import]), b"").code == 0
    };
    if !there("greenlet") || !there("gevent") {
        tools::missing("python3 with greenlet and gevent (python3-gevent)");
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    let script = source("tasks.py").display().to_string();
    let command = [python, script.as_str()];
    let environment = &[("PYTHONHASHSEED", "1")];
    let runtime = Runtime { environment, ..Runtime::new(&command, folder.path()) };
    for report in runtime.check(&[&[]]) {
        assert!(report.armed() > 1_000, "{} armed", report.armed());
        assert!(report.calls("_PyEval_EvalFrameDefault") > 1_000);
    }
}
