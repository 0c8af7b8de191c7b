//! pprof.
use crate::recording::Recording;

pub(crate) fn render(_recording: &Recording) -> anyhow::Result<Vec<u8>> {
    todo!()
}
