//! Allocations that fail with an error instead of ending the process.

use crate::BuildError;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A slice of `len` values made by `f`.
pub(crate) fn slice<T>(len: usize, f: impl FnMut(usize) -> T) -> Result<Box<[T]>, BuildError> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| BuildError::OutOfMemory)?;
    values.extend((0..len).map(f));
    Ok(values.into_boxed_slice())
}
