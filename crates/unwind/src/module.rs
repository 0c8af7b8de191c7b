//! Programs and libraries in memory, and where their unwind tables are.

use core::ops::Range;

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
    pub fn of(bias: u64, headers: &[libc::Elf64_Phdr], tag: u64) -> Option<Self> {
        let place = |h: &libc::Elf64_Phdr| {
            bias.wrapping_add(h.p_vaddr)..bias.wrapping_add(h.p_vaddr).saturating_add(h.p_memsz)
        };
        let loaded = || headers.iter().filter(|h| h.p_type == libc::PT_LOAD);
        let range =
            loaded().map(|h| place(h).start).min()?..loaded().map(|h| place(h).end).max()?;
        let segments = loaded().filter(|h| h.p_flags & libc::PF_R != 0).map(place).collect();
        let eh_frame_hdr =
            headers.iter().find(|h| h.p_type == libc::PT_GNU_EH_FRAME).map_or(0..0, place);
        Some(Self { range, bias, eh_frame_hdr, segments, tag, begins: false, unseen: false })
    }

    /// Everything that is loaded in this process, with `tag` of name and program headers.
    ///
    /// # Context
    /// Allocates, and takes the dynamic loader's lock.
    #[allow(unsafe_code)]
    pub fn all(tag: &mut dyn FnMut(&core::ffi::CStr) -> u64) -> Vec<Self> {
        struct Found<'a> {
            tag: &'a mut dyn FnMut(&core::ffi::CStr) -> u64,
            modules: Vec<Module>,
        }
        unsafe extern "C" fn add(
            info: *mut libc::dl_phdr_info,
            _: usize,
            found: *mut core::ffi::c_void,
        ) -> core::ffi::c_int {
            // SAFETY: the structure that `all` passes.
            let found = unsafe { &mut *found.cast::<Found<'_>>() };
            // SAFETY: the loader passes a valid description.
            let info = unsafe { &*info };
            // SAFETY: its names are strings.
            let name = unsafe { core::ffi::CStr::from_ptr(info.dlpi_name) };
            // SAFETY: its program headers.
            let headers = unsafe {
                core::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum))
            };
            found.modules.extend(Module::of(info.dlpi_addr, headers, (found.tag)(name)));
            0
        }
        let mut found = Found { tag, modules: Vec::new() };
        // SAFETY: the callback gets the structure back, which lives through the call.
        unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut found).cast()) };
        found.modules
    }
}
