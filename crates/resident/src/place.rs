//! Where functions lie.

use core::ops::Range;
use wire::Function;

/// Where a function lies, if all its bytes are code of its object, and how many bytes behind it
/// are. `base` is what is added to addresses of its file, `executable` the object's code in
/// memory. What a table says of other memory is not done.
///
/// # Context
/// Signal-safe.
pub fn place(function: &Function, base: u64, executable: &[Range<u64>]) -> Option<(u64, u32)> {
    let start = base.checked_add(function.address)?;
    let end = start.checked_add(u64::from(function.size))?;
    let part = executable.iter().find(|part| part.contains(&start) && end <= part.end)?;
    let after = u64::from(function.after).min(part.end - end);
    (function.offset < function.size).then_some((start, after as u32))
}
