//! Files as byte slices.
#![allow(unsafe_code)]

use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// Maps a file for as long as the process lives: names are borrowed from it everywhere, each file is mapped once, and the process is short.
pub(crate) fn map(path: &Path) -> std::io::Result<&'static [u8]> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(&[]);
    }
    // SAFETY: a private mapping of a file that was opened for reading. Programs and libraries are replaced by rename, and the kernel refuses to write to a program
    // that runs (ETXTBSY); whoever truncates a library under its users ends them with SIGBUS, this process too.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Box::leak(Box::new(map)))
}
