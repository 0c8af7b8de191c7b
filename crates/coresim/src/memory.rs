//! All lines that were touched, by address.

use crate::line::Line;
use crate::statistics::Sites;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Bytes of a line.
pub(crate) const LINE: usize = 64;

/// A line and what was done to it.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) line: Line,
    pub(crate) sites: Sites,
    /// The number of its address.
    pub(crate) number: usize,
}

/// Lines in the order of their first access: what is printed does not depend on addresses.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    places: HashMap<usize, u32, BuildHasherDefault<Multiply>>,
    entries: Vec<Entry>,
    /// What the program has called a range of addresses: from, to, name.
    names: Vec<(usize, usize, String)>,
}

impl Memory {
    /// The place of the line that contains the address.
    pub(crate) fn place(&mut self, address: usize) -> u32 {
        let number = address / LINE;
        let entries = &mut self.entries;
        *self.places.entry(number).or_insert_with(|| {
            entries.push(Entry { number, ..Entry::default() });
            entries.len() as u32 - 1
        })
    }

    pub(crate) fn at(&mut self, place: u32) -> &mut Entry {
        &mut self.entries[place as usize]
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn forget_counts(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.sites = Sites::default());
    }

    pub(crate) fn name(&mut self, from: usize, len: usize, name: String) {
        self.names.push((from, from + len, name));
    }

    /// What the entry's line is called: by the last name given to something in it, else by its
    /// place.
    pub(crate) fn name_of(&self, place: usize) -> String {
        let start = self.entries[place].number * LINE;
        let found =
            self.names.iter().rev().find(|(from, to, _)| *from < start + LINE && start < *to);
        match found {
            Some((from, _, name)) if start > *from => format!("{name} + {}", start - from),
            Some((_, _, name)) => name.clone(),
            None => format!("line {place}"),
        }
    }
}

/// Line numbers are not chosen by anybody: one multiplication spreads them.
#[derive(Default)]
struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_usize(usize::from(*byte)));
    }

    fn write_usize(&mut self, number: usize) {
        let mixed = (self.0 ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}
