//! V8 walks its own frames, and has builtins that move their return address.

use super::common::tools;
use super::{Runtime, source};

#[test]
fn every_function_timed() {
    let Some(node) = tools::find("node") else { return };
    let folder = tempfile::tempdir().expect("a directory");
    let (node, script) = (node.display().to_string(), source("all.js").display().to_string());
    for report in Runtime::new(&[&node, &script], folder.path()).check(&[&[]]) {
        assert!(report.armed() > 10_000, "{} armed", report.armed());
        // Its own libraries are part of the program, or shared objects of Debian's.
        assert!(report.0["hits"].as_u64() > Some(10_000), "{}", report.0["hits"]);
    }
}
