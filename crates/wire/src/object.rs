//! Programs and libraries that the command line knows.
//!
//! The command line fills an entry and then raises the number of entries; agents only read.
//!
//! # Which entry is which file
//! An agent patches what an entry says, so a wrong match is a patch in the middle of something.
//! Device and inode alone are no proof: a file can be rewritten in place, and numbers of files
//! that are gone are used again. Together with the time of the last change of status, which nobody
//! can set, they are. A build-id can be copied into any file: it is believed of entries that the
//! command line made before the program started, and of files whose time of change is not known.

use crate::error::Error;
use crate::hook;
use crate::layout::{OBJECT_BYTES, head};
use crate::memory::Memory;
use crate::segment::Segment;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;

const DEV: usize = 0;
const INO: usize = 8;
const FIRST: usize = 16;
const LEN: usize = 24;
const BUILD_ID_LEN: usize = 32;
const BUILD_ID: usize = 40;
/// Longest build-id that is kept, in bytes.
pub const BUILD_ID_ROOM: usize = 32;
const CHANGED: usize = 80;
const PLANS: usize = 88;
const PLANS_LEN: usize = 96;
const UNWIND: usize = 104;
const UNWIND_LEN: usize = 112;
const HOOKS: usize = 120;
const PATH: usize = HOOKS + 8 * hook::ALL.len();
const PATH_ROOM: usize = OBJECT_BYTES - PATH;

/// What tells one file from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Device number of the file, as `stat(2)` gives it.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// When its status last changed (`st_ctime`), in nanoseconds since 1970; 0: not known.
    pub changed: u64,
    /// Build-id, or empty.
    pub build_id: Vec<u8>,
    /// Path, for people.
    pub path: Vec<u8>,
}

impl Segment {
    /// Adds an object whose functions are `functions` (indices, added before), and the bytes that
    /// say how they are probed. Those are left out where there is no room for them.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn add_object(
        &self,
        identity: &Identity,
        functions: Range<usize>,
        plans: &[u8],
    ) -> Result<usize, Error> {
        let index = self.objects_len();
        let at = self.layout.object(index).ok_or(Error::Full("objects"))?;
        if !self.fill_entry(&self.tables, at, OBJECT_BYTES) {
            return Err(Error::Full("objects"));
        }
        write_identity(&self.tables, at, identity);
        self.tables.store64(at + FIRST, functions.start as u64);
        self.tables.store64(at + LEN, functions.len() as u64);
        if let Some(place) = self.add_plans(plans) {
            self.tables.store64(at + PLANS, place as u64);
            self.tables.store64(at + PLANS_LEN, plans.len() as u64);
        }
        if let Some(len) = self.tables.u64(head::OBJECTS_LEN) {
            // Release pairs with the Acquire in `objects_len`.
            len.store(index as u64 + 1, Ordering::Release);
        }
        Ok(index)
    }

    /// Writes plans behind those that there are, and gives their place.
    fn add_plans(&self, plans: &[u8]) -> Option<usize> {
        let place = usize::try_from(self.tables.load64(head::PLANS_LEN)).ok()?;
        let end = place.checked_add(plans.len()).filter(|end| *end <= self.layout.plans_bytes)?;
        if plans.is_empty() || !self.fill_entry(&self.plans, place, plans.len()) {
            return None;
        }
        self.plans.put_bytes(place, plans.len(), plans);
        self.tables.store64(head::PLANS_LEN, end as u64);
        Some(place)
    }

    /// The bytes that say how an object's functions are probed; empty if there are none. Allocates.
    ///
    /// # Context
    /// System calls where they were not mapped yet.
    pub fn plans_of(&self, object: usize) -> Vec<u8> {
        let Some(at) = (object < self.objects_len()).then(|| self.layout.object(object)).flatten()
        else {
            return Vec::new();
        };
        let place = |field| usize::try_from(self.tables.load64(at + field)).unwrap_or(usize::MAX);
        let (start, len) = (place(PLANS), place(PLANS_LEN));
        let end = start.saturating_add(len);
        // What is mapped is inside of the file.
        if end > self.layout.plans_bytes || !self.plans.reach(end) {
            return Vec::new();
        }
        let mut plans = vec![0; len];
        self.plans.read_exact(start, &mut plans);
        plans
    }

    /// For the command line: where the object's `.eh_frame` is, by the addresses in its file, if
    /// nothing that is loaded says so. For one that was added, before the process looks for it.
    pub fn set_unwind_tables(&self, object: usize, place: Range<u64>) {
        if let Some(at) = self.layout.object(object).filter(|_| object < self.objects_len()) {
            self.tables.store64(at + UNWIND, place.start);
            self.tables.store64(at + UNWIND_LEN, place.end.saturating_sub(place.start));
        }
    }

    /// What [`Segment::set_unwind_tables`] was told; empty: nothing.
    pub fn unwind_tables(&self, object: usize) -> Range<u64> {
        let Some(at) = self.layout.object(object) else { return 0..0 };
        let start = self.tables.load64(at + UNWIND);
        start..start.saturating_add(self.tables.load64(at + UNWIND_LEN))
    }

    /// For the command line: where the functions of [`hook::ALL`] are, by the addresses in the
    /// object's file; 0: nowhere. For one that was added, before the process looks for it.
    pub fn set_hooks(&self, object: usize, places: [u64; hook::ALL.len()]) {
        if let Some(at) = self.layout.object(object).filter(|_| object < self.objects_len()) {
            for (n, place) in places.into_iter().enumerate() {
                self.tables.store64(at + HOOKS + 8 * n, place);
            }
        }
    }

    /// What [`Segment::set_hooks`] was told.
    pub fn hooks(&self, object: usize) -> [u64; hook::ALL.len()] {
        let at = self.layout.object(object);
        core::array::from_fn(|n| at.map_or(0, |at| self.tables.load64(at + HOOKS + 8 * n)))
    }

    /// Objects known.
    pub fn objects_len(&self) -> usize {
        // Acquire pairs with the Release in `add_object`.
        let len = self.tables.u64(head::OBJECTS_LEN).map_or(0, |w| w.load(Ordering::Acquire));
        usize::try_from(len).unwrap_or(usize::MAX).min(self.layout.shape.objects)
    }

    /// The object at `index`. Allocates.
    pub fn object(&self, index: usize) -> Option<Identity> {
        (index < self.objects_len()).then_some(())?;
        Some(read_identity(&self.tables, self.layout.object(index)?))
    }

    /// For the command line, before the program starts: what was added until now comes from files
    /// that nobody in the run has had a hand in.
    pub fn seal_start(&self) {
        self.tables.store64(head::OBJECTS_AT_START, self.objects_len() as u64);
    }

    /// For the command line: the file of an object has other contents by now. Nobody who asks by
    /// the file's numbers finds the object from now on; who counts in it goes on.
    pub fn retire_object(&self, object: usize) {
        if let Some(at) = self.layout.object(object).filter(|_| object < self.objects_len()) {
            self.tables.store64(at + INO, 0);
        }
    }

    /// Index of the object that is this file; see the module's page. Does not allocate.
    pub fn find_object(&self, file: &Identity) -> Option<usize> {
        let at_start = self.tables.load64(head::OBJECTS_AT_START);
        (0..self.objects_len()).find(|index| {
            let at = self.layout.object(*index);
            at.is_some_and(|at| is_file(&self.tables, at, file, (*index as u64) < at_start))
        })
    }

    /// Indices of an object's functions.
    pub fn functions_of(&self, object: usize) -> Range<usize> {
        let Some(at) = self.layout.object(object) else { return 0..0 };
        let known = self.functions_len() as u64;
        let first = self.tables.load64(at + FIRST).min(known);
        let end = first.saturating_add(self.tables.load64(at + LEN)).min(known);
        first as usize..end as usize
    }
}

fn is_file(memory: &Memory, at: usize, file: &Identity, at_start: bool) -> bool {
    let has = memory.load32(at + BUILD_ID_LEN) != 0 && !file.build_id.is_empty();
    let same_build = has && has_build_id(memory, at, &file.build_id);
    if has && !same_build {
        return false;
    }
    let changed = memory.load64(at + CHANGED);
    let same_change = file.changed == changed || (same_build && file.changed == 0);
    (has_numbers(memory, at, file) && same_change) || (same_build && at_start)
}

fn has_numbers(memory: &Memory, at: usize, file: &Identity) -> bool {
    file.ino != 0 && memory.load64(at + INO) == file.ino && memory.load64(at + DEV) == file.dev
}

/// The build-id in the contents of a segment of notes (`PT_NOTE`), of which nothing is believed.
///
/// # Context
/// Signal-safe.
pub fn build_id_in(mut notes: &[u8]) -> Option<&[u8]> {
    const BUILD_ID: u32 = 3;
    loop {
        let word = |at: usize| Some(u32::from_ne_bytes(notes.get(at..at + 4)?.try_into().ok()?));
        let (name_size, size, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let from = 12_usize.checked_add(name_size.checked_next_multiple_of(4)?)?;
        let end = from.checked_add(size)?;
        if kind == BUILD_ID && notes.get(12..16) == Some(b"GNU\0") {
            return notes.get(from..end);
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
}

/// Whether an entry is this file.
pub(crate) fn is_same(memory: &Memory, at: usize, identity: &Identity) -> bool {
    let nameless = identity.ino == 0 && identity.build_id.is_empty();
    has_numbers(memory, at, identity)
        || has_build_id(memory, at, &identity.build_id)
        || (nameless && has_path(memory, at, &identity.path))
}

fn has_path(memory: &Memory, at: usize, path: &[u8]) -> bool {
    let theirs = memory.slice(at + PATH, PATH_ROOM).unwrap_or_default();
    let path = path.get(..PATH_ROOM - 1).unwrap_or(path);
    theirs.get(path.len()).is_some_and(|end| end.load(Ordering::Relaxed) == 0)
        && theirs.iter().zip(path).all(|(a, b)| a.load(Ordering::Relaxed) == *b)
}

fn has_build_id(memory: &Memory, at: usize, build_id: &[u8]) -> bool {
    let mut theirs = [0; BUILD_ID_ROOM];
    let len = memory.load32(at + BUILD_ID_LEN) as usize;
    memory.read_exact(at + BUILD_ID, &mut theirs);
    !build_id.is_empty() && theirs.get(..len) == Some(build_id)
}

pub(crate) fn write_identity(memory: &Memory, at: usize, identity: &Identity) {
    let build_id = identity.build_id.get(..BUILD_ID_ROOM).unwrap_or(&identity.build_id);
    memory.store64(at + DEV, identity.dev);
    memory.store64(at + INO, identity.ino);
    memory.store64(at + CHANGED, identity.changed);
    memory.store32(at + BUILD_ID_LEN, build_id.len() as u32);
    memory.put_bytes(at + BUILD_ID, BUILD_ID_ROOM, build_id);
    memory.put_bytes(
        at + PATH,
        PATH_ROOM,
        identity.path.get(..PATH_ROOM - 1).unwrap_or(&identity.path),
    );
}

pub(crate) fn read_identity(memory: &Memory, at: usize) -> Identity {
    let mut build_id = vec![0; (memory.load32(at + BUILD_ID_LEN) as usize).min(BUILD_ID_ROOM)];
    memory.read_exact(at + BUILD_ID, &mut build_id);
    Identity {
        dev: memory.load64(at + DEV),
        ino: memory.load64(at + INO),
        changed: memory.load64(at + CHANGED),
        build_id,
        path: memory.get_bytes(at + PATH, PATH_ROOM),
    }
}

const _: () = assert!(PATH_ROOM > 512, "an object's path fits its entry");

#[cfg(test)]
mod tests {
    use super::build_id_in;
    use alloc::vec::Vec;

    #[test]
    fn notes_that_lie_are_no_build_id() {
        let note = |name: u32, size: u32, kind: u32, rest: &[u8]| {
            [&name.to_ne_bytes(), &size.to_ne_bytes(), &kind.to_ne_bytes(), rest].concat()
        };
        let id = note(4, 3, 3, b"GNU\0abc\0");
        assert_eq!(build_id_in(&id), Some(&b"abc"[..]));
        let before = note(4, 4, 1, b"GNU\0wxyz");
        assert_eq!(build_id_in(&[before, id].concat()), Some(&b"abc"[..]));
        for bad in [
            note(4, u32::MAX, 3, b"GNU\0abc\0"),
            note(u32::MAX, 3, 3, b"GNU\0abc\0"),
            note(4, 9, 3, b"GNU\0abc\0"),
            note(0, 0, 0, b""),
            Vec::new(),
        ] {
            assert_eq!(build_id_in(&bad), None);
        }
    }
}
