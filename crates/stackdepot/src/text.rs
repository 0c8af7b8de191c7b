//! Stacks as text.

use crate::handle::Handle;
use crate::view::{View, any_depth};
use core::fmt;

/// Prints one stack, a line per frame. See [`Depot::display`](crate::Depot::display).
pub struct Display<'m, S> {
    view: View<'m>,
    handle: Handle,
    symbolise: S,
}

impl<'m, S> Display<'m, S>
where
    S: Fn(u64, &mut fmt::Formatter<'_>) -> fmt::Result,
{
    pub(crate) fn new(view: View<'m>, handle: Handle, symbolise: S) -> Self {
        Self { view, handle, symbolise }
    }
}

impl<S> fmt::Display for Display<'_, S>
where
    S: Fn(u64, &mut fmt::Formatter<'_>) -> fmt::Result,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buf = any_depth();
        let frames = match self.view.fetch(self.handle, &mut buf) {
            Ok(frames) => frames,
            Err(e) => return write!(f, "<{e}>"),
        };
        for (i, frame) in frames.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "#{i:<3} {frame:#018x} ")?;
            (self.symbolise)(*frame, f)?;
        }
        Ok(())
    }
}

impl<S> fmt::Debug for Display<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Display").field("handle", &self.handle).finish_non_exhaustive()
    }
}
