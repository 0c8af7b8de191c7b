//! Programs and libraries that the command line knows.
//!
//! The command line fills an entry and then raises the number of entries; agents only read.

use crate::error::Error;
use crate::layout::head;
use crate::segment::Segment;
use std::ops::Range;
use std::sync::atomic::Ordering;

const DEV: usize = 0;
const INO: usize = 8;
const FIRST: usize = 16;
const LEN: usize = 24;
const BUILD_ID_LEN: usize = 32;
const BUILD_ID: usize = 40;
/// Longest build-id that is kept, in bytes.
pub const BUILD_ID_ROOM: usize = 32;
const PATH: usize = 128;
const PATH_ROOM: usize = 896;

/// What tells one file from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Device number of the file, as `stat(2)` gives it.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Build-id, or empty.
    pub build_id: Vec<u8>,
    /// Path, for people.
    pub path: Vec<u8>,
}

impl Segment {
    /// Adds an object whose functions are `functions` (indices, added before).
    ///
    /// # Errors
    /// [`Error::Full`].
    pub fn add_object(&self, identity: &Identity, functions: Range<usize>) -> Result<usize, Error> {
        let index = self.objects_len();
        let at = self.layout.object(index).ok_or(Error::Full("objects"))?;
        self.write_identity(at, identity);
        self.memory.store64(at + FIRST, functions.start as u64);
        self.memory.store64(at + LEN, functions.len() as u64);
        if let Some(len) = self.memory.u64(head::OBJECTS_LEN) {
            // Release pairs with the Acquire in `objects_len`.
            len.store(index as u64 + 1, Ordering::Release);
        }
        Ok(index)
    }

    /// Objects known.
    pub fn objects_len(&self) -> usize {
        // Acquire pairs with the Release in `add_object`.
        let len = self.memory.u64(head::OBJECTS_LEN).map_or(0, |w| w.load(Ordering::Acquire));
        usize::try_from(len).unwrap_or(usize::MAX).min(self.layout.shape.objects)
    }

    /// The object at `index`. Allocates.
    pub fn object(&self, index: usize) -> Option<Identity> {
        (index < self.objects_len()).then_some(())?;
        Some(self.read_identity(self.layout.object(index)?))
    }

    /// Index of the object that is this file: the same device and inode, or the same non-empty build-id. Does not allocate.
    pub fn find_object(&self, dev: u64, ino: u64, build_id: &[u8]) -> Option<usize> {
        (0..self.objects_len()).find(|i| {
            self.layout.object(*i).is_some_and(|at| {
                let same_file = ino != 0 && self.memory.load64(at + INO) == ino && self.memory.load64(at + DEV) == dev;
                same_file || self.has_build_id(at, build_id)
            })
        })
    }

    /// Indices of an object's functions.
    pub fn functions_of(&self, object: usize) -> Range<usize> {
        let Some(at) = self.layout.object(object) else { return 0..0 };
        let known = self.functions_len() as u64;
        let first = self.memory.load64(at + FIRST).min(known);
        let end = first.saturating_add(self.memory.load64(at + LEN)).min(known);
        first as usize..end as usize
    }

    /// Whether an entry is this file.
    pub(crate) fn is_same(&self, at: usize, identity: &Identity) -> bool {
        let same_file = identity.ino != 0 && self.memory.load64(at + INO) == identity.ino && self.memory.load64(at + DEV) == identity.dev;
        let nameless = identity.ino == 0 && identity.build_id.is_empty();
        same_file || self.has_build_id(at, &identity.build_id) || (nameless && self.has_path(at, &identity.path))
    }

    fn has_path(&self, at: usize, path: &[u8]) -> bool {
        let theirs = self.memory.slice(at + PATH, PATH_ROOM).unwrap_or_default();
        let path = path.get(..PATH_ROOM - 1).unwrap_or(path);
        theirs.get(path.len()).is_some_and(|end| end.load(Ordering::Relaxed) == 0)
            && theirs.iter().zip(path).all(|(a, b)| a.load(Ordering::Relaxed) == *b)
    }

    fn has_build_id(&self, at: usize, build_id: &[u8]) -> bool {
        let mut theirs = [0; BUILD_ID_ROOM];
        let len = self.memory.load32(at + BUILD_ID_LEN) as usize;
        self.memory.read_exact(at + BUILD_ID, &mut theirs);
        !build_id.is_empty() && theirs.get(..len) == Some(build_id)
    }

    pub(crate) fn write_identity(&self, at: usize, identity: &Identity) {
        let build_id = identity.build_id.get(..BUILD_ID_ROOM).unwrap_or(&identity.build_id);
        self.memory.store64(at + DEV, identity.dev);
        self.memory.store64(at + INO, identity.ino);
        self.memory.store32(at + BUILD_ID_LEN, build_id.len() as u32);
        self.memory.put_bytes(at + BUILD_ID, BUILD_ID_ROOM, build_id);
        self.memory.put_bytes(at + PATH, PATH_ROOM, identity.path.get(..PATH_ROOM - 1).unwrap_or(&identity.path));
    }

    pub(crate) fn read_identity(&self, at: usize) -> Identity {
        let mut build_id = vec![0; (self.memory.load32(at + BUILD_ID_LEN) as usize).min(BUILD_ID_ROOM)];
        self.memory.read_exact(at + BUILD_ID, &mut build_id);
        Identity {
            dev: self.memory.load64(at + DEV),
            ino: self.memory.load64(at + INO),
            build_id,
            path: self.memory.get_bytes(at + PATH, PATH_ROOM),
        }
    }
}

const _: () = assert!(PATH + PATH_ROOM <= crate::layout::OBJECT_BYTES, "an object's path fits its entry");
