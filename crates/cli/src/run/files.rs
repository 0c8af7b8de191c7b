//! The files that a segment lies in.

use crate::sys;
use anyhow::Context;
use std::ffi::CStr;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use wire::{Files as Parts, Segment};

/// Bytes that are copied at a time, and the granularity of holes.
const COPIED: usize = 1 << 20;
const PAGE: usize = 4096;

/// Tables and counters.
#[derive(Debug)]
pub(super) enum Files {
    /// In memory, each its own: no file system's limit counts for them, and nothing stays.
    Memory { tables: File, counters: File },
    /// Counters in a file that the user named, behind a copy of the tables. These are in memory all
    /// the same: whoever can write to one part of a file that is mapped can get at the others
    /// (`remap_file_pages`).
    Named { tables: File, file: File },
    /// What stood in such a file.
    Copied { copy: File, of: File },
}

impl Files {
    /// Memory files.
    pub(super) fn in_memory() -> anyhow::Result<Self> {
        Ok(Self::Memory {
            tables: memory_file(c"trapline-tables.segment")?,
            counters: memory_file(c"trapline-counters.segment")?,
        })
    }

    /// A file of the user's. One that is there is replaced: another run may have it mapped.
    pub(super) fn named(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot make the segment {}", path.display());
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(cannot);
            }
            _ => {}
        }
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = file.with_context(cannot)?;
        Ok(Self::Named { tables: memory_file(c"trapline-tables.segment")?, file })
    }

    /// Memory files that another process has, too.
    pub(super) fn of_another(tables: File, counters: File) -> Self {
        Self::Memory { tables, counters }
    }

    /// A copy in memory of one that a run has left, as it is now: whoever cuts it or writes to it
    /// from now on changes nothing here, and kills nobody.
    ///
    /// # Errors
    /// Whatever the system says, and a file that is cut while it is read.
    pub(super) fn left(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let bytes = file.metadata()?.len();
        let copy = sys::growing_memory_file(c"trapline-copy.segment")?;
        sys::with_file_size(|most| {
            anyhow::ensure!(bytes <= most, "longer than files may be here (ulimit -f)");
            copy.set_len(bytes).context("no memory file of its size")
        })?;
        // The header first: of what is no segment no more is read.
        copy_part(&file, &copy, 0..bytes.min(PAGE as u64))?;
        Segment::check(Parts::one(&copy))?;
        for part in sys::data(&file, 0..bytes) {
            copy_part(&file, &copy, part)?;
        }
        Ok(Self::Copied { copy, of: file })
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        match self {
            Self::Memory { tables, counters } => {
                Parts { tables: tables.into(), counters: counters.into(), behind: false }
            }
            Self::Named { tables, file } => {
                Parts { tables: tables.into(), counters: file.into(), behind: true }
            }
            Self::Copied { copy, .. } => Parts::one(copy),
        }
    }

    /// The file of the tables.
    pub(super) fn tables(&self) -> &File {
        match self {
            Self::Memory { tables: file, .. }
            | Self::Named { tables: file, .. }
            | Self::Copied { copy: file, .. } => file,
        }
    }

    /// The file of the counters.
    pub(super) fn counters(&self) -> &File {
        match self {
            Self::Memory { counters: file, .. }
            | Self::Named { file, .. }
            | Self::Copied { copy: file, .. } => file,
        }
    }

    /// Copies parts of the tables to where whoever finds the user's file later looks for them.
    ///
    /// # Errors
    /// Whatever the system says.
    pub(super) fn keep(&self, parts: [Range<u64>; 3]) -> anyhow::Result<()> {
        let Self::Named { tables, file } = self else { return Ok(()) };
        parts.into_iter().try_for_each(|part| {
            let written = sys::data(tables, part);
            written.into_iter().try_for_each(|part| copy_part(tables, file, part))
        })
    }

    /// Whether pages may run out before memory does.
    pub(super) fn scarce(&self) -> bool {
        // Then the kernel refuses pages of memory files, too.
        matches!(self, Self::Named { .. }) || sys::commits_strictly()
    }

    /// From now on nobody changes sizes; and, but for this process's mapping, nobody the tables.
    pub(super) fn seal(&self) -> anyhow::Result<()> {
        let sizes = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
        if let Self::Memory { counters, .. } = self {
            sys::seal(counters, sizes | libc::F_SEAL_SEAL).context("sealing the counters")?;
        }
        if let Self::Memory { tables, .. } | Self::Named { tables, .. } = self {
            // Kernels before 5.1 do not know it; agents get a descriptor that can only be read
            // anyway.
            if sys::seal(tables, sizes | libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SEAL).is_err() {
                sys::seal(tables, sizes | libc::F_SEAL_SEAL).context("sealing the tables")?;
            }
        }
        Ok(())
    }

    /// Memory that both take.
    pub(super) fn bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let blocks = |file: &File| file.metadata().map_or(0, |metadata| metadata.blocks() * 512);
        match self {
            Self::Memory { tables, counters } => blocks(tables) + blocks(counters),
            Self::Named { tables, file } => blocks(tables) + blocks(file),
            Self::Copied { of, .. } => blocks(of),
        }
    }
}

fn memory_file(name: &CStr) -> anyhow::Result<File> {
    sys::growing_memory_file(name).context("no memory file for the counters")
}

/// Copies a part of a file to the same place of another. What is zeros stays a hole there.
fn copy_part(from: &File, to: &File, part: Range<u64>) -> anyhow::Result<()> {
    let mut buffer = vec![0; COPIED];
    let mut at = part.start;
    while at < part.end {
        let most = usize::try_from(part.end - at).unwrap_or(COPIED).min(COPIED);
        let read = from.read_at(&mut buffer[..most], at)?;
        anyhow::ensure!(read > 0, "somebody is cutting it");
        for (index, page) in buffer[..read].chunks(PAGE).enumerate() {
            if page.iter().any(|byte| *byte != 0) {
                to.write_all_at(page, at + (index * PAGE) as u64).context("no memory for it")?;
            }
        }
        at += read as u64;
    }
    Ok(())
}
