//! Names for frames: functions, and with debug information also source lines and inlined functions.

use super::code::Code;
use crate::model::recording::{Frame, Recording};
use crate::symbols::object::Object;

/// Gives symbols to all frames that have none, from the files of their modules, or else from those
/// that are `open`. What is not found keeps none. Probed functions keep the name that they were
/// asked for by, and get file and line.
pub(crate) fn symbolize(recording: &mut Recording, open: &[Object]) {
    for (index, module) in recording.modules.iter().enumerate() {
        let of_module = |frame: &&mut Frame| {
            (frame.symbols.is_empty() || has_no_place(frame))
                && frame.module.is_some_and(|at| at as usize == index)
        };
        let mut frames = recording.frames.iter_mut().filter(of_module).peekable();
        if frames.peek().is_none() {
            continue;
        }
        let Some(mut code) = Code::of(module, open) else { continue };
        for frame in frames {
            let mut found = code.at(frame.place());
            match frame.symbols.first_mut() {
                None => frame.symbols = found,
                // The outermost is the function itself: what is inlined into its first line is none
                // of it.
                Some(probed) => {
                    if let Some(function) = found.pop() {
                        (probed.file, probed.line) = (function.file, function.line);
                    }
                }
            }
        }
    }
}

/// Whether it is the start of a function whose name is all that is known.
fn has_no_place(frame: &Frame) -> bool {
    !frame.returns && matches!(&frame.symbols[..], [only] if only.file.is_none())
}

#[cfg(test)]
mod tests {
    use super::symbolize;
    use crate::model::recording::{Frame, Module, Recording, Symbol};
    use crate::symbols::object::Object;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    const C: &str = "\
int sink;
static inline __attribute__((always_inline)) int inner(int n) { sink += n;
  return n * 3; }
static inline __attribute__((always_inline)) int middle(int n) { return inner(n) + 1; }
__attribute__((noinline)) static int outer(int n) {
  return middle(n) ^ 5; }
int main(int argc, char **argv) { return outer(argc); }
";

    const CPP: &str = "\
namespace app {
volatile int sink;
struct Box {
  __attribute__((always_inline)) inline int twice(int n) { sink = n; return n * 2; }
  __attribute__((noinline, noipa)) int work(int n) { return twice(n) ^ 7; }
};
}
int main(int argc, char **) { return app::Box().work(argc); }
";

    /// A directory with a program `a` that was built there; none without a compiler.
    struct Built(tempfile::TempDir);

    impl Built {
        fn new(compiler: &str, source: &str, options: &[&str]) -> Option<Self> {
            let built = Self(tempfile::tempdir().unwrap());
            let name = if compiler == "cc" { "a.c" } else { "a.cc" };
            fs::write(built.0.path().join(name), source).unwrap();
            (built.run(
                compiler,
                &[&["-g", "-O2", "-Wl,--build-id", "-o", "a", name], options].concat(),
            ) && built.run("objcopy", &["--version"]))
            .then_some(built)
        }

        fn run(&self, program: &str, arguments: &[&str]) -> bool {
            let mut command = Command::new(program);
            command
                .args(arguments)
                .current_dir(self.0.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("a")
        }

        /// Where the function `raw` begins and ends.
        fn range(&self, raw: &str) -> (u64, u64) {
            let object = open(&self.path());
            let table = object.table();
            let site = table.sites().find(|site| site[0].name == raw).unwrap();
            (site[0].address, site[0].address + table.size(site))
        }

        /// What is found at each address of a range.
        fn all(&self, (start, end): (u64, u64)) -> Vec<Vec<Symbol>> {
            look_up(&self.path(), (start..end).map(|address| (address, false)))
        }
    }

    fn open(path: &Path) -> Object {
        Object::open(path).unwrap().unwrap()
    }

    fn build_id(path: &Path) -> String {
        open(path).elf.build_id().unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn look_up(path: &Path, addresses: impl IntoIterator<Item = (u64, bool)>) -> Vec<Vec<Symbol>> {
        let module = Module {
            path: path.display().to_string(),
            build_id: build_id(path),
            ..Module::default()
        };
        found(module, addresses)
    }

    fn found(module: Module, addresses: impl IntoIterator<Item = (u64, bool)>) -> Vec<Vec<Symbol>> {
        let frames = addresses
            .into_iter()
            .map(|(address, returns)| Frame { module: Some(0), address, returns, symbols: vec![] })
            .collect();
        let mut recording = Recording { modules: vec![module], frames, ..Recording::default() };
        symbolize(&mut recording, &[]);
        recording.frames.into_iter().map(|frame| frame.symbols).collect()
    }

    /// Names and lines, as `name:line name:line`.
    fn text(symbols: &[Symbol]) -> String {
        let each =
            symbols.iter().map(|symbol| format!("{}:{}", symbol.name, symbol.line.unwrap_or(0)));
        each.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn inlined_functions_and_lines_are_found() {
        let Some(built) = Built::new("cc", C, &[]) else { return };
        let range = built.range("outer");
        let all = built.all(range);
        assert!(all.iter().any(|symbols| text(symbols) == "inner:2 middle:4 outer:6"), "{all:?}");
        assert!(
            all.iter().all(|symbols| symbols.last().is_some_and(|outer| outer.name == "outer")),
            "{all:?}"
        );
        assert_eq!(text(&built.all(built.range("main"))[0]), "main:7");
        let file = all[0][0].file.as_deref().unwrap();
        assert!(file.ends_with("/a.c") && file.starts_with('/'), "{file}");
        // A return address belongs to the call in front of it: behind the end too, where the next
        // function begins.
        let returned =
            look_up(&built.path(), (range.0 + 1..=range.1).map(|address| (address, true)));
        assert_eq!(returned, all);
    }

    #[test]
    fn names_are_demangled() {
        let Some(built) = Built::new("c++", CPP, &[]) else { return };
        let all = built.all(built.range("_ZN3app3Box4workEi"));
        assert!(
            all.iter().any(|symbols| text(symbols) == "app::Box::twice:4 app::Box::work:5"),
            "{all:?}"
        );
    }

    #[test]
    fn separate_and_compressed_debug_information_is_read() {
        let Some(built) = Built::new("cc", C, &["-gz=zlib"]) else { return };
        let range = built.range("outer");
        let all = built.all(range);
        assert!(all.iter().any(|symbols| text(symbols) == "inner:2 middle:4 outer:6"), "{all:?}");
        assert!(
            built.run("objcopy", &["--only-keep-debug", "a", "a.debug"])
                && built.run("strip", &["a"])
        );
        assert!(built.run("objcopy", &["--add-gnu-debuglink=a.debug", "a"]));
        assert_eq!(built.all(range), all);
    }

    #[test]
    fn what_two_files_share_is_read_from_the_third() {
        let Some(built) = Built::new("cc", C, &[]) else { return };
        if !built.run("dwz", &["--version"]) {
            return crate::missing::missing("dwz");
        }
        let range = built.range("outer");
        let all = built.all(range);
        fs::copy(built.path(), built.0.path().join("b")).unwrap();
        assert!(built.run("dwz", &["-m", "shared.debug", "-M", "shared.debug", "a", "b"]));
        assert_eq!(built.all(range), all);
        fs::remove_file(built.0.path().join("shared.debug")).unwrap();
        assert!(
            built
                .all(range)
                .iter()
                .all(|symbols| symbols.last().is_some_and(|symbol| symbol.name == "outer"))
        );
    }

    #[test]
    fn without_symbols_the_unwind_table_names_functions() {
        let Some(built) = Built::new("cc", C, &[]) else { return };
        let (start, end) = built.range("outer");
        assert!(built.run("strip", &["a"]));
        for symbols in built.all((start, end)) {
            assert_eq!(text(&symbols), format!("func@{start:#x}:0"));
        }
        // Neither are the stubs that lead to other libraries functions, nor what lies outside of
        // the file.
        let object = open(&built.path());
        let stubs: Vec<(u64, u64)> = object
            .elf
            .sections
            .iter()
            .filter(|s| s.name.starts_with(".plt"))
            .map(|s| (s.address, s.address + s.size))
            .collect();
        assert!(
            !stubs.is_empty()
                && stubs
                    .into_iter()
                    .flat_map(|stub| built.all(stub))
                    .all(|symbols| symbols.is_empty())
        );
        assert_eq!(
            look_up(&built.path(), [(0, true), (0, false), (8, false), (u64::MAX, true)]),
            vec![vec![]; 4]
        );
    }

    #[test]
    fn without_debug_information_symbols_are_left() {
        let Some(built) = Built::new("cc", C, &["-g0"]) else { return };
        assert!(built.all(built.range("outer")).iter().all(|symbols| text(symbols) == "outer:0"));
    }

    #[test]
    fn only_the_file_that_was_recorded_is_read() {
        let Some(built) = Built::new("cc", C, &[]) else { return };
        let (path, outer) = (built.path(), (built.range("outer").0, false));
        let object = open(&path);
        let module = |build_id: &str, inode| Module {
            path: path.display().to_string(),
            build_id: build_id.to_string(),
            device: object.device,
            inode,
            ..Module::default()
        };
        for same in [module(&build_id(&path), 0), module("", object.inode)] {
            assert_eq!(found(same, [outer])[0].last().map(|symbol| &*symbol.name), Some("outer"));
        }
        for other in [
            module("abcd", object.inode),
            module("abc", object.inode),
            module("é!", object.inode),
            module("", object.inode + 1),
        ] {
            assert_eq!(found(other, [outer]), [vec![]]);
        }
        for path in ["/", "/dev/null", "", "[heap]", "/nowhere"] {
            assert_eq!(
                found(Module { path: path.to_string(), ..module("abcd", 0) }, [outer]),
                [vec![]]
            );
        }
        // What has symbols keeps them.
        let frame = Frame {
            module: Some(0),
            address: outer.0,
            symbols: vec![Symbol {
                name: "known".to_string(),
                file: Some("x.c".to_string()),
                line: None,
            }],
            returns: false,
        };
        let mut recording = Recording {
            modules: vec![module("", object.inode)],
            frames: vec![frame.clone()],
            ..Recording::default()
        };
        symbolize(&mut recording, &[]);
        assert_eq!(recording.frames, std::slice::from_ref(&frame));
        // A probed function keeps its name, and gets a place if its file is the one that was
        // recorded.
        recording.frames[0].symbols[0].file = None;
        recording.modules = vec![module("", object.inode)];
        symbolize(&mut recording, &[]);
        let symbol = &recording.frames[0].symbols[0];
        assert_eq!(symbol.name, "known");
        assert!(
            symbol.file.as_ref().is_some_and(|file| file.ends_with("a.c"))
                && matches!(symbol.line, Some(5 | 6)),
            "{symbol:?}"
        );
        assert_eq!(recording.frames[0].symbols.len(), 1);
    }

    #[test]
    fn the_kernels_library_is_read_from_memory() {
        let Some(elf) = crate::symbols::vdso::vdso() else { return };
        let id = elf.build_id().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        let table = crate::symbols::table::Table::new(elf, &[]);
        let address = table
            .sites()
            .find(|site| site.iter().any(|symbol| symbol.name == "__vdso_gettimeofday"))
            .unwrap()[0]
            .address;
        let module =
            |build_id| Module { path: "[vdso]".to_string(), build_id, ..Module::default() };
        let name = |build_id| text(&found(module(build_id), [(address + 1, true)])[0]);
        assert_eq!(name(id), "gettimeofday:0");
        assert_eq!(name("abcd".to_string()), "");
    }

    #[test]
    fn damaged_files_are_survived() {
        let Some(built) = Built::new("cc", C, &[]) else { return };
        let range = built.range("outer");
        let whole = fs::read(built.path()).unwrap();
        let path = built.0.path().join("damaged");
        let attempt = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let metadata = path.metadata().unwrap();
            let (device, inode) = (
                std::os::unix::fs::MetadataExt::dev(&metadata),
                std::os::unix::fs::MetadataExt::ino(&metadata),
            );
            let module = Module {
                path: path.display().to_string(),
                build_id: String::new(),
                device,
                inode,
                ..Module::default()
            };
            found(module, (range.0..range.1).map(|address| (address, true)))
                .iter()
                .filter(|symbols| symbols.len() > 1)
                .count()
        };
        assert!(attempt(&whole) > 0);
        for end in (0..whole.len()).step_by(whole.len() / 64) {
            attempt(&whole[..end]);
        }
        // Each part of the file is overwritten once, each time with something else, the debug
        // information included.
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..256 {
            let mut bytes = whole.clone();
            for _ in 0..1 + round % 32 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let at = random as usize % (bytes.len() - 8);
                bytes[at] = (random >> 40) as u8;
                if round % 4 == 0 {
                    bytes[at..at + 8].fill((random >> 48) as u8);
                }
            }
            attempt(&bytes);
        }
    }
}
