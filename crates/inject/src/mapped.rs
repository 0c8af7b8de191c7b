//! An image in a process.
//!
//! It lies in a memory file that is made in the process and opened from outside through the
//! process's descriptors, so that no file system has to be shared. Code is mapped to be read and
//! executed only; it is written from outside, into the file. So nothing can ever be written and
//! executed at once, and no memory's rights change, which some processes are not allowed
//! (`PR_SET_MDWE`).

use crate::arch::{PAGE, gadget};
use crate::error::Error;
use crate::image::{Image, Part, Rights, Symbol};
use crate::maps;
use crate::proc::{self, Auxiliary, Stat};
use crate::remote::Remote;
use crate::tracer::Tracer;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// The name that the kernel shows of the memory file.
const NAME: &[u8] = b"trapline\0";
/// The same in lists of mappings.
const NAME_IN_MAPS: &str = "/memfd:trapline (deleted)";
/// The numbers that memory has there that is no file's.
const NO_FILE: (u64, u64) = (0, 0);
/// `MFD_NOEXEC_SEAL`: the file is not to be executed as a program, and some systems insist.
const NO_PROGRAM: u64 = 8;
/// The stack on which functions of the image run.
const STACK: u64 = 256 << 10;

/// An image that lies in a process. Dropping this leaves it there.
#[derive(Debug)]
pub struct Mapped {
    pid: i32,
    base: u64,
    /// Bytes of the image.
    image: u64,
    parts: Vec<Part>,
    symbols: HashMap<String, Symbol>,
    /// `None`: found there, in a process whose files may not be opened by its mappings.
    file: Option<File>,
}

/// What [`Tracer::find`] sees.
#[derive(Debug)]
pub enum Found {
    /// No image.
    None,
    /// The image that was looked for, brought by another process or by this one.
    Same(Mapped),
    /// Another one, at this address.
    Other(u64),
}

impl Mapped {
    /// Where the image lies.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// All that was mapped: the image, and behind it what its functions are called with.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.base..self.base + whole(self.image)
    }

    /// Where a symbol of the image is in the process.
    #[must_use]
    pub fn address(&self, symbol: &str) -> Option<u64> {
        self.symbols.get(symbol).map(|symbol| self.base + symbol.offset)
    }

    /// Writes code of the image.
    ///
    /// # Errors
    /// [`Error::Changed`] if that is not all in its code; errors of the system, also for an image
    /// that was found ([`Tracer::find`]) where files may not be opened by mappings.
    ///
    /// # Context
    /// One system call; the process need not stand. It sees the change at once, and may see a half
    /// of it: to be used on code that nothing leads to yet.
    pub fn write_code(&self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        let offset = address.wrapping_sub(self.base);
        let end = offset.checked_add(bytes.len() as u64);
        let inside = |part: &Part| {
            part.rights == Rights::Execute
                && part.range.start <= offset
                && end.is_some_and(|end| end <= part.range.end)
        };
        if !self.parts.iter().any(inside) {
            return Err(Error::Changed { address });
        }
        let what = "writing the image's code";
        let file = self
            .file
            .as_ref()
            .ok_or(Error::Own { what, source: io::ErrorKind::PermissionDenied.into() })?;
        file.write_all_at(bytes, offset).map_err(Error::own(what))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Where functions return to.
    pub(crate) fn returns(&self) -> u64 {
        self.base + self.image
    }

    /// The high end of the stack for functions.
    pub(crate) fn stack_end(&self) -> u64 {
        self.base + whole(self.image)
    }
}

/// The image, the page that functions return to, one that stops a stack that overflows, and the
/// stack.
const fn whole(image: u64) -> u64 {
    image + 2 * PAGE + STACK
}

impl Tracer {
    /// Looks for an image that was put into the process earlier and left there. Nothing is done to
    /// the process. The image is the same only if all its code is, byte for byte. If somebody who
    /// has called a function of it was killed meanwhile, that comes to its end first.
    ///
    /// # Errors
    /// [`Error::TimedOut`]: it does not, see [`Tracer::limit_calls`]; those of
    /// [`Tracer::stop_all`].
    ///
    /// # Context
    /// Reads the process's mappings, and the image's code; stops all threads if it is there.
    pub fn find(&mut self, image: &Image) -> Result<Found, Error> {
        let read = |tid| maps::read(self.pid(), tid);
        let mappings = self.target().of_living("reading the mappings", read)?;
        let mut other = None;
        for first in mappings.iter().filter(|m| m.name == NAME_IN_MAPS && m.offset == 0) {
            let base = first.range.start;
            match self.look_at(base, image) {
                Seen::Same => {
                    let found = self.found(base, image, &mappings);
                    self.await_calls(&(found.stack_end() - STACK..found.stack_end()))?;
                    return Ok(Found::Same(found));
                }
                Seen::Other => other = Some(base),
                Seen::Nothing => {}
            }
        }
        Ok(other.map_or(Found::None, Found::Other))
    }

    /// Waits until no thread has this stack, on which functions of an image run.
    fn await_calls(&mut self, stack: &Range<u64>) -> Result<(), Error> {
        let deadline = Instant::now() + self.call_limit;
        loop {
            let stopped = self.stop_all()?;
            if !stopped.stacks().any(|pointer| stack.contains(&pointer)) {
                return Ok(());
            }
            drop(stopped);
            if Instant::now() >= deadline {
                return Err(Error::TimedOut);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What lies at `base`, where a file of the image's name begins.
    fn look_at(&self, base: u64, image: &Image) -> Seen {
        let read = |offset: u64, length: usize| {
            let mut there = vec![0; length];
            let read = self.memory().read(base.wrapping_add(offset), &mut there);
            read.is_ok().then_some(there)
        };
        // Memory that an image has made has the name, too.
        if read(0, 4).as_deref() != Some(&object::elf::ELFMAG[..]) {
            return Seen::Nothing;
        }
        let bytes = image.relocated(base);
        for part in image.parts().iter().filter(|part| part.rights == Rights::Execute) {
            let range = part.range.start as usize..part.range.end as usize;
            match read(part.range.start, range.len()) {
                Some(there) if there == bytes[range] => {}
                Some(_) => return Seen::Other,
                // One that somebody was killed over, who was bringing it: nothing leads there.
                None => return Seen::Nothing,
            }
        }
        let whole = read(image.size(), gadget::RETURNS.len()).as_deref() == Some(&gadget::RETURNS);
        let stack = read(image.size() + 2 * PAGE, 1).is_some();
        if whole && stack { Seen::Same } else { Seen::Nothing }
    }

    /// The image that lies at `base`.
    fn found(&self, base: u64, image: &Image, mappings: &[maps::Mapping]) -> Mapped {
        let pid = self.pid();
        let inside =
            |m: &&maps::Mapping| m.executable && m.range.start.checked_sub(m.offset) == Some(base);
        let file = mappings.iter().find(inside).and_then(|m| {
            let link = format!("/proc/{pid}/map_files/{:x}-{:x}", m.range.start, m.range.end);
            OpenOptions::new().read(true).write(true).open(link).ok()
        });
        Mapped {
            pid,
            base,
            image: image.size(),
            parts: image.parts().to_vec(),
            symbols: image.symbols().clone(),
            file,
        }
    }
}

/// What lies somewhere.
enum Seen {
    /// The image that was looked for.
    Same,
    /// Another one.
    Other,
    /// No image, or not a whole one.
    Nothing,
}

impl Remote<'_, '_> {
    /// Puts an image into the process, near the program, below it.
    ///
    /// # Errors
    /// [`Error::NoRoom`]; [`Error::Remote`] if the process may not map it; [`Error::Gone`].
    ///
    /// # Context
    /// About ten remote calls. For the time of the first few, the process has a descriptor more: if
    /// other threads run ([`crate::Stopped::is_all`]), they can see that by the numbers they get.
    pub fn map(&mut self, image: &Image) -> Result<Mapped, Error> {
        let descriptor = self.memory_file()?;
        let mapped = self.map_file(image, descriptor);
        let closed = self.call(libc::SYS_close, [descriptor, 0, 0, 0, 0, 0])?;
        let mapped = mapped?;
        if let Err(errno) = closed {
            self.unmap_range(&mapped.range())?;
            return Err(Error::remote("close")(errno));
        }
        Ok(mapped)
    }

    /// Takes an image out of the process. Nothing may lead to it any more.
    ///
    /// # Errors
    /// [`Error::Busy`] if not all threads stand; [`Error::Standing`] if one stands in the image, or
    /// will come back to it from a signal handler; [`Error::Gone`]. The image is then still there.
    pub fn unmap(&mut self, mapped: &Mapped) -> Result<(), Error> {
        if !self.stopped.is_all() || mapped.pid() != self.stopped.tracer.pid() {
            return Err(Error::Busy);
        }
        let inside = |position: &(i32, u64)| mapped.range().contains(&position.1);
        let frames = self.stopped.interrupted()?;
        let later = frames.into_iter().map(|(tid, frame)| (tid, frame.instruction));
        let positions = self.stopped.positions().into_iter();
        if let Some((tid, address)) = positions.chain(later).find(inside) {
            return Err(Error::Standing { tid, address });
        }
        self.unmap_range(&mapped.range())
    }

    fn unmap_range(&mut self, range: &Range<u64>) -> Result<(), Error> {
        let length = range.end - range.start;
        let done = self.call(libc::SYS_munmap, [range.start, length, 0, 0, 0, 0])?;
        done.map(drop).map_err(Error::remote("munmap"))
    }

    /// A new memory file in the process: its descriptor there.
    fn memory_file(&mut self) -> Result<u64, Error> {
        let name = self.scratch(NAME)?;
        let close = u64::from(libc::MFD_CLOEXEC);
        // Kernels before 6.3 do not know the flag.
        let mut made = self.call(libc::SYS_memfd_create, [name, close | NO_PROGRAM, 0, 0, 0, 0])?;
        if made == Err(libc::EINVAL) {
            made = self.call(libc::SYS_memfd_create, [name, close, 0, 0, 0, 0])?;
        }
        made.map_err(Error::remote("memfd_create"))
    }

    fn map_file(&mut self, image: &Image, descriptor: u64) -> Result<Mapped, Error> {
        let pid = self.stopped.tracer.pid();
        let path = proc::path(pid, self.tid(), &format!("fd/{descriptor}"));
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(Error::own("opening the process's memory file"))?;
        let base = self.reserve(descriptor, whole(image.size()))?;
        let mapped = Mapped {
            pid,
            base,
            image: image.size(),
            parts: image.parts().to_vec(),
            symbols: image.symbols().clone(),
            file: Some(file),
        };
        let filled = self.fill(image, &mapped, descriptor);
        if filled.is_err() {
            self.unmap_range(&mapped.range())?;
        }
        filled.map(|()| mapped)
    }

    /// Takes a range of addresses near the program that can do nothing yet. It is the file's from
    /// the first moment on, so that it is found if this process is killed; what one that was killed
    /// has left is taken away.
    fn reserve(&mut self, descriptor: u64, size: u64) -> Result<u64, Error> {
        let (pid, tid) = (self.stopped.tracer.pid(), self.tid());
        let mappings = maps::read(pid, tid).map_err(Error::own("reading the mappings"))?;
        for range in unfinished(&mappings, size) {
            self.unmap_range(&range)?;
        }
        let heap = Stat::read(pid, tid).map_or(0, |stat| stat.heap);
        let auxiliary = Auxiliary::read(pid, tid).map_err(Error::own("reading the vector"))?;
        let entry = auxiliary.get(libc::AT_ENTRY).ok_or(Error::NoRoom)?;
        let at = mappings.iter().position(|m| m.range.contains(&entry)).ok_or(Error::NoRoom)?;
        // The program's first mapping: those of one file follow each other.
        let name = &mappings[at].name;
        let same = mappings[..at].iter().rev().take_while(|m| m.name == *name).count();
        let program = mappings[at - same].range.start;
        for place in maps::places(&mappings, program, heap, size) {
            let source = Source::File { descriptor, offset: 0, place: Place::New };
            let found = self.map_at(place, size, libc::PROT_NONE, source)?;
            match found {
                Ok(address) if address == place => return Ok(place),
                // A kernel before 4.17, which takes the address as a wish.
                Ok(address) => self.unmap_range(&(address..address + size))?,
                // Taken since the mappings were read: other threads run.
                Err(libc::EEXIST) => {}
                Err(errno) => return Err(Error::remote("mmap")(errno)),
            }
        }
        Err(Error::NoRoom)
    }

    fn fill(&mut self, image: &Image, mapped: &Mapped, descriptor: u64) -> Result<(), Error> {
        let code = image.size()..image.size() + PAGE;
        let mut returns = gadget::RETURNS.to_vec();
        returns.resize(PAGE as usize, 0xcc);
        let file = mapped.file.as_ref().ok_or(Error::NoRoom)?;
        let contents = image.relocated(mapped.base);
        let written = file.write_all_at(&contents, 0);
        let written = written.and_then(|()| file.write_all_at(&returns, code.start));
        written.map_err(Error::own("writing the image"))?;
        let returns = Part { range: code, rights: Rights::Execute };
        for part in image.parts().iter().chain([&returns]) {
            // What begins as zeros is no part of the file: each of its pages would be there twice.
            let end = match part.rights {
                Rights::Write => part.range.end.min(contents.len() as u64),
                Rights::Read | Rights::Execute => part.range.end,
            };
            let (at, length) = (mapped.base + part.range.start, end - part.range.start);
            let (rights, shared) = match part.rights {
                Rights::Read => (libc::PROT_READ, false),
                Rights::Write => (libc::PROT_READ | libc::PROT_WRITE, false),
                // Shared: what is written into the file is what is executed.
                Rights::Execute => (libc::PROT_READ | libc::PROT_EXEC, true),
            };
            let place = if shared { Place::Shared } else { Place::Own };
            let source = Source::File { descriptor, offset: part.range.start, place };
            self.map_at(at, length, rights, source)?.map_err(Error::remote("mmap"))?;
            if end < part.range.end {
                let (at, length) = (mapped.base + end, part.range.end - end);
                let done = self.map_at(at, length, rights, Source::Nothing)?;
                done.map_err(Error::remote("mmap"))?;
            }
        }
        let (stack, rights) = (mapped.stack_end() - STACK, libc::PROT_READ | libc::PROT_WRITE);
        let done = self.map_at(stack, STACK, rights, Source::Nothing)?;
        done.map(drop).map_err(Error::remote("mmap"))
    }

    /// `mmap` at an address.
    fn map_at(
        &mut self,
        at: u64,
        length: u64,
        rights: i32,
        source: Source,
    ) -> Result<Result<u64, i32>, Error> {
        let (flags, descriptor, offset) = match source {
            Source::Nothing => {
                (libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, u64::MAX, 0)
            }
            Source::File { descriptor, offset, place } => {
                let kind = match place {
                    Place::New => libc::MAP_FIXED_NOREPLACE | libc::MAP_PRIVATE,
                    Place::Own => libc::MAP_FIXED | libc::MAP_PRIVATE,
                    Place::Shared => libc::MAP_FIXED | libc::MAP_SHARED,
                };
                (kind, descriptor, offset)
            }
        };
        let arguments = [at, length, rights as u64, flags as u64, descriptor, offset];
        self.call(libc::SYS_mmap, arguments)
    }
}

/// What is mapped, in the place of what is there.
enum Source {
    /// Memory of its own.
    Nothing,
    /// A part of a file.
    File { descriptor: u64, offset: u64, place: Place },
}

/// How a part of a file is mapped.
enum Place {
    /// Only where there is nothing.
    New,
    /// What is written there is the process's own.
    Own,
    /// What is written there is written to the file.
    Shared,
}

/// What images of this size were begun to be mapped to by somebody who was killed over it: ranges
/// of one file, with memory that has none among it, whose end is what nobody can use yet, and
/// nothing leads there.
fn unfinished(mappings: &[maps::Mapping], size: u64) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    for first in mappings.iter().filter(|m| m.name == NAME_IN_MAPS && m.offset == 0) {
        let all = first.range.start..first.range.start + size;
        let inside = mappings.iter().filter(|m| all.contains(&m.range.start));
        let (mut end, mut usable) = (all.start, true);
        for mapping in inside.filter(|m| m.file == first.file || m.file == NO_FILE) {
            end = if mapping.range.start == end { mapping.range.end } else { u64::MAX };
            usable = mapping.usable;
        }
        if end == all.end && !usable {
            found.push(all);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{NAME_IN_MAPS, unfinished};
    use crate::maps::Mapping;
    use std::slice;

    #[test]
    fn what_is_half_mapped() {
        let name = NAME_IN_MAPS.to_owned();
        let map = |range: std::ops::Range<u64>, file, usable| Mapping {
            executable: false,
            offset: range.start - 0x1000,
            range,
            name: name.clone(),
            file: (1, file),
            usable,
        };
        let (only, all) = (map(0x1000..0x9000, 7, false), 0x1000..0x9000);
        assert_eq!(unfinished(slice::from_ref(&only), 0x8000), slice::from_ref(&all));
        assert!(unfinished(slice::from_ref(&only), 0x4000).is_empty(), "of another size");
        let begun = [map(0x1000..0x3000, 7, true), map(0x3000..0x9000, 7, false)];
        assert_eq!(unfinished(&begun, 0x8000), slice::from_ref(&all));
        let whole = [map(0x1000..0x3000, 7, true), map(0x3000..0x4000, 7, false)];
        assert!(unfinished(&whole, 0x8000).is_empty(), "the stack is there");
        let memory = |range, usable| Mapping { name: String::new(), ..map(range, 0, usable) };
        let memory = |range, usable| Mapping { file: (0, 0), ..memory(range, usable) };
        let zeros = memory(0x2000..0x3000, true);
        let begun = [map(0x1000..0x2000, 7, true), zeros.clone(), map(0x3000..0x9000, 7, false)];
        assert_eq!(unfinished(&begun, 0x8000), slice::from_ref(&all));
        let [first, _, _] = begun;
        let stack = memory(0x4000..0x9000, true);
        let whole = [first, zeros, map(0x3000..0x4000, 7, false), stack];
        assert!(unfinished(&whole, 0x8000).is_empty(), "the stack is there");
        assert!(unfinished(&[map(0x1000..0x9000, 7, true)], 0x8000).is_empty(), "in use");
        let other = [map(0x1000..0x3000, 7, true), map(0x3000..0x9000, 8, false)];
        assert!(unfinished(&other, 0x8000).is_empty(), "of another file");
    }
}
