//! What went wrong, in a file: never on the program's own streams.

use crate::segment;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

/// Appends a line to the log that the segment names. Without a segment there is nobody to tell.
pub(crate) fn line(text: &str) {
    let Some(segment) = segment::get() else { return };
    let path = segment.log_path();
    if path.is_empty() {
        return;
    }
    if let Ok(mut file) = File::options().append(true).create(true).open(OsStr::from_bytes(&path)) {
        // One write: lines of several processes do not mix. A full disk is nobody's business here.
        let _ = file.write_all(format!("{}: {text}\n", std::process::id()).as_bytes());
    }
}
