//! Recordings from files.

use super::{recover, symbolize};
use crate::model::file;
use crate::model::recording::Recording;
use std::path::Path;

/// Reads a recording, or what is in the segment of one, with symbols for all its frames.
///
/// # Errors
/// The file is not there or neither of both.
pub(crate) fn load(path: &Path) -> anyhow::Result<Recording> {
    let mut recording = if recover::is_segment(&file::start(path)) {
        recover::recover(path)?
    } else {
        file::read(path)?
    };
    // Code that belongs to no file has no symbols, now and later.
    if recording.frames.iter().any(|frame| frame.symbols.is_empty() && frame.module.is_some()) {
        symbolize::symbolize(&mut recording, &[]);
    }
    Ok(recording)
}
