//! Symbol versions (Drepper, "How To Write Shared Libraries", and the LSB's "Symbol Versioning"):
//! whether libraries define those that an object needs. Where one does not, the loader ends the
//! program before its first instruction, with its own words on the program's standard error.

use super::object::Object;
use object::LittleEndian as LE;
use object::elf::FileHeader64;
use object::read::elf::FileHeader as _;
use std::collections::HashSet;

/// A version that a library does not define.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The library's name, as the object asks for it.
    pub(crate) library: String,
    pub(crate) version: String,
}

/// The first version that `image` needs of one of `libraries` and that is not there. A library that
/// is not among them, or that says nothing of versions, misses none.
pub(crate) fn missing(image: &[u8], libraries: &[Object]) -> Option<Missing> {
    needed(image)?.into_iter().find_map(|(name, versions)| {
        let library = libraries.iter().find(|l| l.names.contains(&name))?;
        let defined = defined(library.elf.data)?;
        let version = versions.into_iter().find(|version| !defined.contains(version))?;
        Some(Missing { library: name, version })
    })
}

/// Libraries and the versions that are needed of each. None: the image says nothing of versions.
fn needed(image: &[u8]) -> Option<Vec<(String, Vec<String>)>> {
    let header = FileHeader64::<LE>::parse(image).ok()?;
    let sections = header.sections(LE, image).ok()?;
    let (mut libraries, link) = sections.gnu_verneed(LE, image).ok()??;
    let strings = sections.strings(LE, image, link).ok()?;
    let text = |at| strings.get(at).ok().map(|s| String::from_utf8_lossy(s).into_owned());
    let mut found = Vec::new();
    while let Ok(Some((library, mut versions))) = libraries.next() {
        let mut names = Vec::new();
        while let Ok(Some(version)) = versions.next() {
            names.extend(text(version.vna_name.get(LE)));
        }
        found.extend(text(library.vn_file.get(LE)).map(|library| (library, names)));
    }
    Some(found)
}

/// The versions that an object defines.
fn defined(image: &[u8]) -> Option<HashSet<String>> {
    let header = FileHeader64::<LE>::parse(image).ok()?;
    let sections = header.sections(LE, image).ok()?;
    let (mut definitions, link) = sections.gnu_verdef(LE, image).ok()??;
    let strings = sections.strings(LE, image, link).ok()?;
    let mut found = HashSet::new();
    while let Ok(Some((_, mut names))) = definitions.next() {
        // The first name is the version's own; those behind it are its predecessors.
        if let Ok(Some(name)) = names.next()
            && let Ok(text) = strings.get(name.vda_name.get(LE))
        {
            found.insert(String::from_utf8_lossy(text).into_owned());
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::{defined, missing, needed};
    use crate::symbols::libraries::{Environment, closure};
    use crate::symbols::object::Object;
    use std::path::Path;

    fn program() -> (Object, Vec<Object>) {
        let program = Object::open(Path::new("/bin/ls")).expect("it is there").expect("it is ELF");
        let libraries = closure(&program, &Environment::default());
        (program, libraries)
    }

    #[test]
    fn what_runs_here_misses_nothing() {
        let (program, libraries) = program();
        assert!(!needed(program.elf.data).expect("it is dynamically linked").is_empty());
        assert_eq!(missing(program.elf.data, &libraries), None);
    }

    /// A C library of before: this machine's with the newest of the needed versions renamed.
    #[test]
    fn a_version_that_is_not_there_is_named() {
        let (program, mut libraries) = program();
        let at = libraries.iter().position(|l| l.names.iter().any(|n| n == "libc.so.6"));
        let library = &mut libraries[at.expect("it needs the C library")];
        let all = needed(program.elf.data).expect("it is dynamically linked");
        let (name, versions) = all.iter().find(|(name, _)| name == "libc.so.6").expect("so it is");
        let (version, from) = (versions[0].as_bytes(), library.elf.data);
        assert!(defined(from).expect("glibc has versions").contains(&versions[0]));
        let mut old = from.to_vec();
        for at in 0..old.len() - version.len() - 1 {
            if old[at..].starts_with(version) && old[at + version.len()] == 0 {
                old[at] = b'X';
            }
        }
        library.elf.data = Vec::leak(old);
        let found = missing(program.elf.data, &libraries).expect("it is not there");
        assert_eq!((&found.library, &found.version), (name, &versions[0]));
    }

    #[test]
    fn damaged_images_need_nothing_known() {
        let (program, libraries) = program();
        let whole = program.elf.data;
        for len in (0..whole.len()).step_by(997) {
            missing(&whole[..len], &libraries);
        }
        for at in (0..whole.len()).step_by(331) {
            let mut damaged = whole.to_vec();
            damaged[at..].iter_mut().take(8).for_each(|b| *b = 0xff);
            missing(&damaged, &libraries);
        }
    }
}
