//! HotSpot walks its own frames, compiles, and collects garbage meanwhile.

use super::common::process::{program, run};
use super::common::tools;
use super::{Runtime, source};

/// Heaps that this machine has, and nothing that its size decides.
const OPTIONS: [&str; 2] = ["-Xmx256m", "-Xss1m"];

#[test]
fn the_virtual_machine_and_the_compiler() {
    let (Some(java), Some(javac)) = (tools::find("java"), tools::find("javac")) else { return };
    let folder = tempfile::tempdir().expect("a directory");
    let (java, javac) = (java.display().to_string(), javac.display().to_string());
    let script = source("All.java").display().to_string();
    let classes = folder.path().display().to_string();
    let compile = [javac.as_str(), "-J-Xmx256m", "-d", &classes, &script];
    let compiled = run(program(compile[0]).args(&compile[1..]), b"");
    assert_eq!(compiled.code, 0, "{}", compiled.stderr);
    let start = [&java, OPTIONS[0], OPTIONS[1], "-cp", &classes, "All"];
    for (command, least) in [(&start[..], 100_000), (&compile[..], 100_000)] {
        let specs: &[&str] = &["libjvm:*"];
        for report in Runtime::new(command, folder.path()).check(&[specs]) {
            assert!(report.armed() > 10_000, "{} armed", report.armed());
            assert!(report.0["hits"].as_u64() > Some(least), "{}", report.0["hits"]);
        }
    }
}
