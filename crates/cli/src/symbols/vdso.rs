//! The library that the kernel maps into every process, `[vdso]`, which lies in no file.

use super::elf::Elf;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// A larger one is something else.
const LARGEST: u64 = 1 << 20;

/// That of this process, which is that of every 64-bit process under this kernel.
pub(crate) fn vdso() -> Option<Elf<'static>> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let range = maps.lines().find(|line| line.ends_with("[vdso]"))?.split(' ').next()?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let size = end.checked_sub(start).filter(|&size| size <= LARGEST)?;
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, start).ok()?;
    // Lives as long as the names that are read from it: as long as the process.
    Elf::parse(bytes.leak()).ok()
}

#[cfg(test)]
mod tests {
    use super::vdso;
    use crate::symbols::table::Table;

    #[test]
    fn it_has_the_functions_of_the_kernel() {
        // A kernel can be told to map none.
        let Some(elf) = vdso() else { return };
        let table = Table::new(elf, &[]);
        let names: Vec<&str> = table.sites().flatten().map(|symbol| symbol.name).collect();
        assert!(names.contains(&"__vdso_clock_gettime"), "{names:?}");
    }
}
