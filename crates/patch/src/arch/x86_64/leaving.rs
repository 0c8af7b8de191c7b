//! What of a function runs, and where it leaves.

use super::branches::Branch;
use super::decode::{Text, ends_flow};
use crate::{Convention, Function, Leave, Liveness, NoExits, Options};
use alloc::vec;
use alloc::vec::Vec;
use iced_x86::Code;

/// A function's code that runs, by parts: the function itself, and what else it jumps to and
/// belongs to it.
pub(crate) struct Reach<'a> {
    pub(crate) parts: Vec<Part<'a>>,
    /// Ascending by address.
    pub(crate) leaves: Vec<Left>,
    /// Where control comes by other ways than from the instruction in front, ascending.
    pub(crate) targets: Vec<u64>,
}

/// Code that lies together.
pub(crate) struct Part<'a> {
    pub(crate) text: Text<'a>,
    /// Lengths of the instructions that run, by offset; 0 where none begins.
    pub(crate) lengths: Vec<u8>,
}

/// An instruction that leaves.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    /// The part that it is in.
    pub(crate) part: usize,
    pub(crate) address: u64,
    pub(crate) leave: Leave,
    /// A conditional jump.
    pub(crate) conditional: bool,
    pub(crate) live: Liveness,
}

impl Part<'_> {
    /// The one instruction that runs and ends at the offset `end`.
    pub(crate) fn before(&self, end: usize) -> Option<usize> {
        let ends = |len: &usize| {
            let start = end.checked_sub(*len);
            start.is_some_and(|start| usize::from(self.lengths[start]) == *len)
        };
        let mut all = (1..=15).filter(ends);
        let len = all.next()?;
        all.next().is_none().then_some(end - len)
    }
}

/// Whether a list of branches that is sorted by target has one into a range.
pub(crate) fn targeted(targets: &[u64], range: core::ops::Range<u64>) -> bool {
    let first = targets.partition_point(|to| *to < range.start);
    targets.get(first).is_some_and(|to| range.contains(to))
}

/// The targets of branches.
pub(crate) fn targets_of(branches: &[Branch]) -> impl Iterator<Item = u64> + '_ {
    branches.iter().map(|branch| branch.to)
}

/// What of `f` runs.
pub(crate) fn reach<'a>(
    f: &Function<'a>,
    branches: &[Branch],
    options: &Options<'_>,
) -> Result<Reach<'a>, NoExits> {
    let text = Text { address: f.address, bytes: f.code };
    if targets_of(branches).next().is_some() || options.convention == Convention::Go {
        return Err(NoExits::UnknownJumps);
    }
    let mut lengths = vec![0; f.code.len()];
    let mut offset = 0;
    let mut leaves = Vec::new();
    loop {
        let d = text.at(offset).ok_or(NoExits::Undecodable)?;
        lengths[offset] = d.bytes.len() as u8;
        if ends_flow(&d.instruction) {
            if d.instruction.code() != Code::Retnq {
                return Err(NoExits::UnknownJumps);
            }
            leaves.push(Left {
                part: 0,
                address: d.instruction.ip(),
                leave: Leave::Return,
                conditional: false,
                live: Liveness { red_zone: false, ..Liveness::ALL },
            });
            break;
        }
        offset += d.bytes.len();
    }
    Ok(Reach { parts: vec![Part { text, lengths }], leaves, targets: Vec::new() })
}
