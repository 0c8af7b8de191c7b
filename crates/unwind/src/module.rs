//! Programs and libraries in memory, and where their unwind tables are.

use crate::objects::{ProgramHeader, objects};
use alloc::vec::Vec;
use core::ops::Range;
use sys::mappings::Mapping;

/// A program or library in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Addresses from its first to its last segment.
    pub range: Range<u64>,
    /// What its addresses are above those in its file.
    pub bias: u64,
    /// Address and size of its `.eh_frame_hdr` (the segment `PT_GNU_EH_FRAME`); empty if it has
    /// none.
    pub eh_frame_hdr: Range<u64>,
    /// Address and size of its `.eh_frame`, for one without that: its file's table of sections has
    /// it, which is not loaded. It is searched from its beginning: a microsecond for 20 functions.
    /// Empty: not known.
    pub eh_frame: Range<u64>,
    /// The readable segments.
    pub segments: Vec<Range<u64>>,
    /// What stacks show of an address in it: this, plus the address in its file.
    pub tag: u64,
    /// Whether code of it that has no unwind tables is where the program begins: that of the
    /// dynamic loader is.
    pub begins: bool,
    /// Whether stacks leave its frames out, because it is not the program's own. One that ends a
    /// walk is there all the same.
    pub unseen: bool,
}

impl Module {
    /// An address as stacks show it.
    pub(crate) fn frame(&self, address: u64) -> u64 {
        self.tag.wrapping_add(address.wrapping_sub(self.bias))
    }

    /// The end of the readable segment that an address lies in.
    pub(crate) fn readable_end(&self, address: u64) -> Option<u64> {
        self.segments.iter().find(|s| s.contains(&address)).map(|s| s.end)
    }
}

impl Module {
    /// The module with these program headers, loaded with this bias. `None`: it has no segments.
    /// What they say is loaded is believed to be there.
    pub fn of(bias: u64, headers: &[ProgramHeader], tag: u64) -> Option<Self> {
        let loaded = || headers.iter().filter(|h| h.loads()).map(|h| (h, h.place(bias)));
        let range = loaded().map(|(_, p)| p.start).min()?..loaded().map(|(_, p)| p.end).max()?;
        let segments = loaded().filter(|(h, _)| h.is_readable()).map(|(_, place)| place).collect();
        let eh_frame_hdr = unwind_tables(bias, headers);
        let eh_frame = 0..0;
        let (begins, unseen) = (false, false);
        Some(Self { range, bias, eh_frame_hdr, eh_frame, segments, tag, begins, unseen })
    }

    /// Everything that is loaded in this process, with `tag` of the mapping that begins with the
    /// object's headers. Sorted by address. Empty where there is no `/proc`.
    ///
    /// The kernel's list of mappings says where objects may be, their own headers in memory what
    /// they are; no C library is asked, and no lock taken. So this finds what the dynamic loader
    /// has loaded in any namespace, the program itself, also a static one, the kernel's own object,
    /// and what was loaded in another way; whether its file has another name by now, was deleted or
    /// replaced, or never had a name, makes no difference. It does not find
    /// - objects whose headers are in no mapping (a linker script can leave them out), for which
    ///   the loader keeps a copy of its own;
    /// - objects without executable segments, which are on no stack, and those of which a segment
    ///   was replaced by a mapping of another file;
    /// - what other threads load or unload meanwhile: half an object is none.
    ///
    /// The loader's names of objects and what is in thread-local storage stay unknown.
    ///
    /// # Context
    /// Allocates, a few times. A system call for each page of the list, and one or two for each
    /// mapping that an object may begin with.
    pub fn all(tag: &mut dyn FnMut(&Mapping<'_>) -> u64) -> Vec<Self> {
        let found = objects(&mut |object| {
            let tag = tag(&object.mapping);
            let eh_frame_hdr = unwind_tables(object.bias, object.headers);
            let (range, bias, segments) = (object.range, object.bias, object.readable);
            let (eh_frame, begins, unseen) = (0..0, false, false);
            Self { range, bias, eh_frame_hdr, eh_frame, segments, tag, begins, unseen }
        });
        found.unwrap_or_default()
    }
}

fn unwind_tables(bias: u64, headers: &[ProgramHeader]) -> Range<u64> {
    headers.iter().find(|h| h.p_type == ProgramHeader::GNU_EH_FRAME).map_or(0..0, |h| h.place(bias))
}
