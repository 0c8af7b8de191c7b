//! Jump tables: what is in them, and where they end.

use crate::Surroundings;
use alloc::vec::Vec;

/// The most entries that are looked at.
const ENTRIES: u64 = 4096;

/// A table that is jumped through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) address: u64,
    /// 4 bytes, relative to the table, or 8, absolute.
    pub(crate) size: u64,
    /// The most that the index is, if a comparison in front of the jump told.
    pub(crate) most: Option<u32>,
}

/// What the entries of a table are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entries {
    /// Labels of the function.
    Own(Vec<u64>),
    /// The first leads elsewhere, and so do the others: a table of functions.
    Foreign,
    /// Neither, or it cannot be read.
    Unknown,
}

/// What an address is to the function that jumps through a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Label,
    /// In its code, and not where an instruction seems to begin: one of the two is wrong.
    Within,
    Elsewhere,
}

/// Reads a table of a function whose labels `place` tells. How long it is, the comparison in front
/// of the jump says; without one it ends where entries begin that lead elsewhere, or where `end`
/// is.
pub(crate) fn read(
    table: Table,
    end: u64,
    around: &dyn Surroundings,
    place: &dyn Fn(u64) -> Place,
) -> Entries {
    let most = table.most.map(u64::from).filter(|most| *most < ENTRIES);
    let mut labels = Vec::new();
    let mut foreign = 0;
    for n in 0..most.map_or(ENTRIES, |most| most + 1) {
        let at = table.address.wrapping_add(n * table.size);
        if most.is_none() && at >= end {
            break;
        }
        match entry(table, at, around).map(|to| (to, place(to))) {
            Some((to, Place::Label)) => labels.push(to),
            Some((_, Place::Within)) => return Entries::Unknown,
            Some((_, Place::Elsewhere)) => {
                foreign += 1;
                if most.is_none() {
                    break;
                }
            }
            None if most.is_none() => break,
            None => return Entries::Unknown,
        }
    }
    match (labels.is_empty(), most) {
        (false, None) => Entries::Own(labels),
        (false, Some(_)) if foreign == 0 => Entries::Own(labels),
        (true, _) if foreign > 0 => Entries::Foreign,
        _ => Entries::Unknown,
    }
}

fn entry(table: Table, at: u64, around: &dyn Surroundings) -> Option<u64> {
    if table.size == 4 {
        let mut word = [0; 4];
        let distance = around.read(at, &mut word).then(|| i32::from_le_bytes(word))?;
        return Some(table.address.wrapping_add_signed(distance.into()));
    }
    let mut word = [0; 8];
    around.read(at, &mut word).then(|| u64::from_le_bytes(word))
}
