//! What went wrong, in the segment: never on the program's own streams.

use crate::segment;

/// Adds a line to the segment's log. Without a segment there is nobody to tell.
pub(crate) fn line(text: &str) {
    if let Some(segment) = segment::get() {
        segment.log(format!("{}: {text}", segment::pid()).as_bytes());
    }
}
