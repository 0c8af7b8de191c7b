//! One program or library: its identity, the names under which it is known, and its functions, read
//! when they are first asked for.

use super::debug_files::{packed, separate};
use super::elf::{DT_SONAME, Elf, Unreadable};
use super::mapped::read;
use super::table::Table;
use crate::pattern::Pattern;
use crate::text::visible;
use anyhow::Context;
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// A program or library on disk.
#[derive(Debug)]
pub(crate) struct Object {
    /// Without symbolic links.
    pub(crate) path: PathBuf,
    /// Full names under which it was asked for: symbolic links, the name in argv, the soname.
    pub(crate) names: Vec<String>,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// When its status last changed, in nanoseconds since 1970.
    pub(crate) changed: u64,
    pub(crate) elf: Elf<'static>,
    table: OnceCell<Table<'static>>,
    debug_file: OnceCell<Option<PathBuf>>,
}

impl Object {
    /// Reads the file and its headers.
    pub(crate) fn open(asked: &Path) -> anyhow::Result<Result<Self, Unreadable>> {
        let path = asked.canonicalize().with_context(|| asked.display().to_string())?;
        Self::open_through(asked, path.clone(), &path)
    }

    /// Reads `file`, which is what somebody else sees at `path`. Nothing is resolved here: links of
    /// `/proc/PID/root` lead where they do only as long as they are followed by the kernel.
    pub(crate) fn open_elsewhere(
        path: &Path,
        file: &Path,
    ) -> anyhow::Result<Result<Self, Unreadable>> {
        Self::open_through(path, path.to_path_buf(), file)
    }

    fn open_through(
        asked: &Path,
        path: PathBuf,
        file: &Path,
    ) -> anyhow::Result<Result<Self, Unreadable>> {
        let content = read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let elf = match Elf::parse(content.data).and_then(|elf| elf.check_loadable().map(|()| elf))
        {
            Ok(elf) => elf,
            Err(unreadable) => return Ok(Err(unreadable)),
        };
        let mut object = Self {
            path,
            names: Vec::new(),
            device: content.device,
            inode: content.inode,
            changed: content.changed,
            elf,
            table: OnceCell::new(),
            debug_file: OnceCell::new(),
        };
        object.called(&asked.to_string_lossy());
        if let Some(soname) = object.soname() {
            object.called(soname);
        }
        Ok(Ok(object))
    }

    /// Whether it holds the same program, wherever the file lies.
    pub(crate) fn same_content(&self, other: &Self) -> bool {
        self.elf.data == other.elf.data
    }

    /// Adds a name under which it is asked for.
    pub(crate) fn called(&mut self, name: &str) {
        if !name.is_empty() && !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_string());
        }
    }

    /// Makes `name` the one to show.
    pub(crate) fn mainly_called(&mut self, name: &str) {
        self.names.retain(|known| known != name);
        self.names.insert(0, name.to_string());
    }

    /// The name to show: the file name of the first name under which it was asked for.
    pub(crate) fn name(&self) -> &str {
        let asked = self.names.first().map_or("", String::as_str);
        file_name(asked)
    }

    /// Whether an object pattern means it: by full path, file name, or library name without `lib`
    /// and `.so`.
    pub(crate) fn is(&self, pattern: &Pattern) -> bool {
        let path = self.path.to_string_lossy();
        std::iter::once(&*path).chain(self.names.iter().map(String::as_str)).any(|name| {
            let file = file_name(name);
            pattern.matches(name) || forms(file).any(|form| pattern.matches(form))
        })
    }

    /// All names that mean it, also as they are printed.
    pub(crate) fn spellings(&self) -> Vec<String> {
        let path = self.path.to_string_lossy();
        let mut all: Vec<String> = Vec::new();
        for name in std::iter::once(&*path).chain(self.names.iter().map(String::as_str)) {
            all.push(name.to_string());
            all.extend(forms(file_name(name)).map(str::to_string));
        }
        let shown: Vec<String> = all.iter().map(|name| visible(name).into_owned()).collect();
        all.extend(shown);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Its functions.
    pub(crate) fn table(&self) -> &Table<'static> {
        self.table.get_or_init(|| {
            let mut more = Vec::new();
            let separate = separate(&self.elf, &self.path);
            if let Some((_, debug)) = &separate {
                more.push(debug.clone());
            } else if let Some(packed) = packed(&self.elf) {
                more.push(packed);
            }
            let _ = self.debug_file.set(separate.map(|(path, _)| path));
            Table::new(self.elf.clone(), &more)
        })
    }

    /// The separate file its symbols came from.
    pub(crate) fn debug_file(&self) -> Option<&Path> {
        self.table();
        self.debug_file.get()?.as_deref()
    }

    fn soname(&self) -> Option<&'static str> {
        let dynamic = self.elf.dynamic();
        let &(_, at) = dynamic.iter().find(|&&(tag, _)| tag == DT_SONAME)?;
        super::elf::string_at(self.elf.dynamic_strings(&dynamic), usize::try_from(at).ok()?)
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `libc.so.6` is also `libc.so`, `libc` and `c`; `libfoo-1.2.so` is also `libfoo-1.2`, `foo-1.2`
/// and `foo`; `ld-linux-x86-64.so.2` is also `ld`.
pub(crate) fn forms(file: &str) -> impl Iterator<Item = &str> {
    let stem = file
        .find(".so")
        .filter(|&at| file[at + 3..].is_empty() || file[at + 3..].starts_with('.'))
        .map(|at| &file[..at]);
    let with_so = stem.map(|stem| &file[..stem.len() + 3]);
    let bare = stem.map(|stem| stem.strip_prefix("lib").unwrap_or(stem));
    let unversioned = stem.and_then(|stem| {
        stem.split_once("-")
            .filter(|(_, v)| v.starts_with(|c: char| c.is_ascii_digit()))
            .map(|(name, _)| name)
    });
    let bare_unversioned = unversioned.map(|name| name.strip_prefix("lib").unwrap_or(name));
    let loader = file.starts_with("ld-linux").then_some("ld");
    [Some(file), with_so, stem, bare, unversioned, bare_unversioned, loader].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::forms;

    #[test]
    fn names_of_libraries() {
        for (file, name, expected) in [
            ("libc.so.6", "libc", true),
            ("libc.so.6", "c", true),
            ("libc.so.6", "libc.so", true),
            ("libc.so.6", "libc.so.6", true),
            ("libc.so.6", "lib", false),
            ("libcrypto.so.3", "c", false),
            ("libfoo-1.2.so", "foo", true),
            ("libfoo-1.2.so", "libfoo-1.2", true),
            ("redis-server", "redis-server", true),
            ("redis-server", "redis", false),
            ("x.sort", "x", false),
            ("ld-linux-x86-64.so.2", "ld", true),
        ] {
            assert_eq!(forms(file).any(|form| form == name), expected, "{file} as {name}");
        }
    }
}
