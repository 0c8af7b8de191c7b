//! Folded stacks.
use crate::recording::Recording;

pub(crate) fn render(_recording: &Recording) -> String {
    todo!()
}
