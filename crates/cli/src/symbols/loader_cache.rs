//! `/etc/ld.so.cache`: where the loader finds libraries by name (format of glibc 2.2 and later,
//! "glibc-ld.so.cache1.1").

use super::elf::{string_at, u32_at};
use super::object::forms;
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// ELF of libc 6, for x86-64.
const FLAGS: u32 = 0x0303;

/// The cache, read once.
#[derive(Debug, Default)]
pub(crate) struct LoaderCache {
    data: Vec<u8>,
}

impl LoaderCache {
    /// Reads the file; one that is not there or of an unknown format is empty.
    pub(crate) fn read(path: &Path) -> Self {
        let mut data = std::fs::read(path).unwrap_or_default();
        // Behind the format of before 2.2, where both are present.
        match data.windows(MAGIC.len()).position(|window| window == MAGIC) {
            Some(at) => drop(data.drain(..at)),
            None => data.clear(),
        }
        Self { data }
    }

    /// The library that every x86-64 machine takes; builds for newer processors are chosen by the
    /// loader at run time and reported by the agent.
    pub(crate) fn find(&self, soname: &str) -> Option<PathBuf> {
        self.entries().find(|(name, _)| *name == soname).map(|(_, path)| PathBuf::from(path))
    }

    /// The library that a person means: `libc.so.6`, `libc.so`, `libc` or `c`.
    pub(crate) fn like(&self, name: &str) -> Option<PathBuf> {
        self.entries()
            .find(|(soname, _)| forms(soname).any(|form| form == name))
            .map(|(_, path)| PathBuf::from(path))
    }

    fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        let count = u32_at(&self.data, 20).unwrap_or(0) as usize;
        let entries = count
            .checked_mul(ENTRY)
            .and_then(|size| self.data.get(HEADER..HEADER.checked_add(size)?))
            .unwrap_or(&[]);
        entries.chunks_exact(ENTRY).filter_map(|entry| {
            let baseline =
                u32_at(entry, 0)? == FLAGS && entry[16..24].iter().all(|&byte| byte == 0);
            let name = string_at(&self.data, u32_at(entry, 4)? as usize)?;
            let path = string_at(&self.data, u32_at(entry, 8)? as usize)?;
            baseline.then_some((name, path))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::LoaderCache;
    use std::path::Path;

    #[test]
    fn the_systems_own_cache_knows_libc() {
        let cache = LoaderCache::read(Path::new("/etc/ld.so.cache"));
        if !cache.data.is_empty() {
            assert!(cache.find("libc.so.6").is_some_and(|path| path.exists()));
        }
        assert_eq!(cache.find("libnosuch.so.1"), None);
    }

    #[test]
    fn a_broken_cache_is_empty() {
        let whole = LoaderCache::read(Path::new("/etc/ld.so.cache")).data;
        for cut in [0, 10, 20, 24, 47, 48, 60, whole.len() / 2] {
            let cache = LoaderCache { data: whole[..cut.min(whole.len())].to_vec() };
            let _ = cache.find("libc.so.6");
        }
        assert_eq!(LoaderCache::read(Path::new("/nosuch")).find("libc.so.6"), None);
    }
}
