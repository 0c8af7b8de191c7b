//! The libraries that the loader will map for a program, found as the loader finds them (ld.so(8)),
//! without running it.

use super::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, string_at};
use super::loader_cache::LoaderCache;
use super::object::{Object, forms};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const DEFAULT: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// The search as the program's environment sets it.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// LD_LIBRARY_PATH.
    pub(crate) library_path: Option<std::ffi::OsString>,
    /// LD_PRELOAD, the user's own.
    pub(crate) preload: Option<std::ffi::OsString>,
}

impl Environment {
    pub(crate) fn current() -> Self {
        Self {
            library_path: std::env::var_os("LD_LIBRARY_PATH"),
            preload: std::env::var_os("LD_PRELOAD"),
        }
    }

    /// The directories of LD_LIBRARY_PATH.
    fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let list = self.library_path.as_deref().map(OsStr::as_bytes);
        let all = list.into_iter().flat_map(|list| list.split(|&b| b == b':' || b == b';'));
        all.map(|d| PathBuf::from(OsStr::from_bytes(if d.is_empty() { b"." } else { d })))
    }
}

/// Everything that `main` needs, directly or not, in the loader's order, with the loader itself.
/// What is not found is left out: the loader will say so.
pub(crate) fn closure(main: &Object, environment: &Environment) -> Vec<Object> {
    let cache = LoaderCache::read(Path::new("/etc/ld.so.cache"));
    let mut found: Vec<Object> = Vec::new();
    if let Some(preload) = &environment.preload {
        for name in preload
            .as_bytes()
            .split(|&byte| byte == b':' || byte == b' ')
            .filter(|name| !name.is_empty())
        {
            let name = Path::new(OsStr::from_bytes(name)).to_path_buf();
            let path = if name.as_os_str().as_bytes().contains(&b'/') {
                Some(name)
            } else {
                default_search(&name.to_string_lossy(), &cache)
            };
            path.into_iter().for_each(|path| add(&path, main, &mut found));
        }
    }
    let main_rpath = paths(main, DT_RPATH);
    let mut next = 0;
    loop {
        let needed = {
            let object = if next == 0 {
                main
            } else if let Some(object) = found.get(next - 1) {
                object
            } else {
                break;
            };
            let runpath = paths(object, DT_RUNPATH);
            let mut before = Vec::new();
            if runpath.is_empty() {
                before.extend(paths(object, DT_RPATH));
                before.extend(main_rpath.iter().cloned());
            }
            before.extend(environment.directories());
            before.extend(runpath);
            names(object).into_iter().map(|name| (name, before.clone())).collect::<Vec<_>>()
        };
        for (name, before) in needed {
            if let Some(known) =
                found.iter_mut().find(|object| object.names.iter().any(|n| n == name))
            {
                known.called(name);
                continue;
            }
            let path = if name.contains('/') {
                Some(PathBuf::from(name))
            } else {
                before
                    .iter()
                    .map(|directory| directory.join(name))
                    .find(|path| path.is_file())
                    .or_else(|| default_search(name, &cache))
            };
            if let Some(path) = path {
                add(&path, main, &mut found);
            }
        }
        next += 1;
    }
    if let Some(interpreter) = main.elf.interpreter() {
        add(Path::new(interpreter), main, &mut found);
    }
    found
}

fn default_search(name: &str, cache: &LoaderCache) -> Option<PathBuf> {
    cache
        .find(name)
        .filter(|path| path.is_file())
        .or_else(|| DEFAULT.iter().map(|d| Path::new(d).join(name)).find(|path| path.is_file()))
}

fn add(path: &Path, main: &Object, found: &mut Vec<Object>) {
    let Ok(Ok(object)) = Object::open(path) else { return };
    let same = |other: &Object| (other.device, other.inode) == (object.device, object.inode);
    if same(main) {
        return;
    }
    match found.iter_mut().find(|known| same(known)) {
        Some(known) => object.names.iter().for_each(|name| known.called(name)),
        None => found.push(object),
    }
}

/// Whether nothing can be preloaded into a program though its loader would do it.
pub(crate) fn takes_no_preload(program: &Object) -> bool {
    wants_a_sanitizer(program) || answers_for_libc(program)
}

/// Whether the program wants a library that insists on being the first to be loaded: the shared
/// runtime of a sanitizer.
fn wants_a_sanitizer(program: &Object) -> bool {
    const RUNTIMES: [&str; 6] =
        ["libasan.", "libtsan.", "libhwasan.", "liblsan.", "libubsan.", "libclang_rt."];
    names(program).iter().any(|name| RUNTIMES.iter().any(|begin| name.starts_with(begin)))
}

/// Whether a sanitizer's runtime is in the program, shared or not: it divides up all addresses
/// before the program begins, and ends the program where something is in its way.
pub(crate) fn divides_up_addresses(program: &Object) -> bool {
    const STARTS: [&str; 4] = ["__asan_init", "__tsan_init", "__msan_init", "__hwasan_init"];
    let defines = |table| {
        let mut symbols = program.elf.symbols(table);
        symbols.any(|symbol| symbol.section != SHN_UNDEF && STARTS.contains(&symbol.name))
    };
    wants_a_sanitizer(program) || defines(SHT_DYNSYM) || defines(SHT_SYMTAB)
}

/// Whether the program has functions of its own in the place of those by which what is preloaded
/// asks the system: they would be called before the program is ready for it.
fn answers_for_libc(program: &Object) -> bool {
    const CALLS: [&str; 22] = [
        "access", "close", "connect", "fcntl", "fstat", "fstat64", "lseek64", "mmap", "mmap64",
        "mprotect", "munmap", "open", "open64", "pread64", "read", "readlink", "recvmsg", "socket",
        "stat64", "statx", "write", "writev",
    ];
    let mut symbols = program.elf.symbols(SHT_DYNSYM);
    symbols.any(|symbol| symbol.section != SHN_UNDEF && CALLS.contains(&symbol.name))
}

/// The names in DT_NEEDED.
fn names(object: &Object) -> Vec<&'static str> {
    strings(object, DT_NEEDED)
}

fn strings(object: &Object, wanted: u64) -> Vec<&'static str> {
    let dynamic = object.elf.dynamic();
    let strings = object.elf.dynamic_strings(&dynamic);
    let at = dynamic
        .iter()
        .filter(|&&(tag, _)| tag == wanted)
        .filter_map(|&(_, at)| usize::try_from(at).ok());
    at.filter_map(|at| string_at(strings, at)).filter(|name| !name.is_empty()).collect()
}

/// The directories of DT_RPATH or DT_RUNPATH.
fn paths(object: &Object, tag: u64) -> Vec<PathBuf> {
    let origin = object.path.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let expand = |directory: &str| {
        let mut directory = directory.to_string();
        for (token, value) in
            [("ORIGIN", origin.as_str()), ("LIB", "lib/x86_64-linux-gnu"), ("PLATFORM", "x86_64")]
        {
            directory = directory
                .replace(&format!("${{{token}}}"), value)
                .replace(&format!("${token}"), value);
        }
        PathBuf::from(directory)
    };
    strings(object, tag)
        .iter()
        .flat_map(|list| list.split(':'))
        .filter(|d| !d.is_empty())
        .map(expand)
        .collect()
}

/// The file that a name means where no program is given: a path, a command in PATH, or a library
/// that the loader knows.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    if name.contains('/') {
        return path.is_file().then(|| path.to_path_buf());
    }
    let in_path = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    in_path.or_else(|| LoaderCache::read(Path::new("/etc/ld.so.cache")).like(name))
}

/// Whether a directory of LD_LIBRARY_PATH has a library that is called so, in any of its forms.
pub(crate) fn in_library_path(name: &str, environment: &Environment) -> bool {
    let entries = environment.directories().filter_map(|directory| directory.read_dir().ok());
    entries
        .flatten()
        .flatten()
        .any(|entry| forms(&entry.file_name().to_string_lossy()).any(|form| form == name))
}
