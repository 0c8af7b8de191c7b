//! Objects and their functions, read from files: nothing here touches a process.

#[cfg(test)]
mod built_tests;
pub(crate) mod debug_entries;
pub(crate) mod debug_files;
pub(crate) mod elf;
pub(crate) mod go;
pub(crate) mod inlined;
pub(crate) mod libraries;
mod loader_cache;
mod mapped;
pub(crate) mod object;
mod parts;
pub(crate) mod runtimes;
pub(crate) mod table;
#[cfg(test)]
mod tests;
pub(crate) mod unwind;
pub(crate) mod vdso;
pub(crate) mod versions;
