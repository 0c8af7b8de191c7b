//! A compiler of its own, with errors that unwind through frames of C.

use super::common::tools;
use super::{Runtime, source};

#[test]
fn every_function_timed() {
    let Some(lua) = tools::find("luajit") else { return };
    let folder = tempfile::tempdir().expect("a directory");
    let (lua, script) = (lua.display().to_string(), source("jit.lua").display().to_string());
    // Debian's has all of its code in the program.
    let specs: [&[&str]; 2] = [&[], &["libc.so.6:*"]];
    for report in Runtime::new(&[&lua, &script], folder.path()).check(&specs) {
        assert!(report.armed() > 100, "{} armed", report.armed());
    }
}
