//! Symbols of programs built here: separate debug files, packed tables, libraries beside the
//! program. Without a C compiler there is nothing to test.

use super::debug_files::separate;
use super::elf::Elf;
use super::go;
use super::libraries::{Environment, closure};
use super::object::Object;
use super::table::SymbolKind;
use super::tests::random;
use lzma_rust2::{XzOptions, XzWriter};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SOURCE: &str = "
__attribute__((noinline)) static int hidden_worker(int n) { return n * 3; }
__attribute__((noinline)) int visible(int n) { return hidden_worker(n) + 1; }
int main(int argc, char **argv) { return visible(argc) == 0; }
";

fn run(directory: &Path, program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// A program with symbols, and the directory that it lies in.
fn built() -> Option<(tempfile::TempDir, PathBuf)> {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("source.c"), SOURCE).expect("a file");
    let program = directory.path().join("program");
    (run(directory.path(), "cc", &["-O1", "-g", "-Wl,--build-id", "-o", "program", "source.c"])
        && run(directory.path(), "objcopy", &["--version"]))
    .then_some((directory, program))
}

fn functions(path: &Path) -> Vec<String> {
    let object = Object::open(path).expect("a file").expect("an ELF file");
    let sites = object.table().sites().filter(|site| site[0].kind == SymbolKind::Function);
    sites.map(|site| site[0].name.to_string()).collect()
}

fn has(names: &[String], name: &str) -> bool {
    names.iter().any(|known| known == name)
}

#[test]
fn a_file_beside_the_program_has_its_symbols() {
    let Some((directory, program)) = built() else { return };
    let directory = directory.path();
    assert!(has(&functions(&program), "hidden_worker"));
    assert!(run(directory, "objcopy", &["--only-keep-debug", "program", "program.debug"]));
    assert!(run(directory, "strip", &["program"]));
    assert!(!has(&functions(&program), "hidden_worker"));
    assert!(run(directory, "objcopy", &["--add-gnu-debuglink=program.debug", "program"]));
    assert!(has(&functions(&program), "hidden_worker"));
    fs::create_dir(directory.join(".debug")).expect("a directory");
    fs::rename(directory.join("program.debug"), directory.join(".debug/program.debug"))
        .expect("a move");
    let object = Object::open(&program).expect("a file").expect("an ELF file");
    assert_eq!(
        separate(&object.elf, &program).expect("found").0,
        directory.join(".debug/program.debug")
    );
}

#[test]
fn a_file_of_another_build_is_not_taken() {
    let Some((directory, program)) = built() else { return };
    let directory = directory.path();
    fs::write(directory.join("other.c"), SOURCE.replace("n * 3", "n * 5 + 2")).expect("a file");
    assert!(run(directory, "cc", &["-O1", "-g", "-Wl,--build-id", "-o", "other", "other.c"]));
    assert!(run(directory, "objcopy", &["--only-keep-debug", "other", "program.debug"]));
    assert!(run(directory, "strip", &["program"]));
    assert!(run(directory, "objcopy", &["--add-gnu-debuglink=program.debug", "program"]));
    assert!(!has(&functions(&program), "hidden_worker"));
}

#[test]
fn a_packed_table_is_read() {
    let Some((directory, program)) = built() else { return };
    let directory = directory.path();
    assert!(run(directory, "objcopy", &["-S", "--keep-symbol=hidden_worker", "program", "small"]));
    let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(6)).expect("options");
    writer.write_all(&fs::read(directory.join("small")).expect("a file")).expect("compression");
    let mut packed = writer.finish().expect("compression");
    fs::write(directory.join("packed.xz"), &packed).expect("a file");
    assert!(run(directory, "strip", &["program"]));
    assert!(run(directory, "objcopy", &["--add-section", ".gnu_debugdata=packed.xz", "program"]));
    assert!(has(&functions(&program), "hidden_worker"));
    // Damaged, it is left alone.
    packed.truncate(packed.len() / 2);
    fs::write(directory.join("packed.xz"), &packed).expect("a file");
    assert!(run(
        directory,
        "objcopy",
        &["--update-section", ".gnu_debugdata=packed.xz", "program"]
    ));
    assert!(!has(&functions(&program), "hidden_worker"));
}

#[test]
fn stripped_functions_have_the_bounds_that_symbols_had() {
    let Some((directory, program)) = built() else { return };
    let object = Object::open(&program).expect("a file").expect("an ELF file");
    let table = object.table();
    let site = table.sites().find(|site| site[0].name == "hidden_worker").expect("a symbol");
    let (start, end) = (site[0].address, site[0].address + table.size(site));
    assert!(run(directory.path(), "strip", &["program"]));
    let stripped = Object::open(&program).expect("a file").expect("an ELF file");
    assert!(
        stripped.table().unnamed().iter().any(|frame| (frame.start, frame.end) == (start, end))
    );
}

#[test]
fn an_address_belongs_to_the_innermost_function() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let source = "
    .text
    .globl main, outer, sizeless, last
    .type outer, @function
    .type inner, @function
    .type sizeless, @function
    .type last, @function
    .type main, @function
outer: .fill 8, 1, 0x90
inner: .fill 4, 1, 0x90
    .size inner, 4
label: .fill 8, 1, 0x90
    .size outer, 20
    .fill 4, 1, 0x90
sizeless: .fill 8, 1, 0x90
last: .fill 4, 1, 0x90
    .size last, 4
    .fill 4, 1, 0x90
main: ret
    .size main, 1
    .section .note.GNU-stack
";
    fs::write(directory.join("a.s"), source).expect("a file");
    if !run(directory, "cc", &["-o", "a", "a.s"]) {
        return;
    }
    let object = Object::open(&directory.join("a")).expect("a file").expect("an ELF file");
    let table = object.table();
    let start = table.sites().find(|site| site[0].name == "outer").expect("a symbol")[0].address;
    let expected = [
        ("outer", 8),
        ("inner", 4),
        ("outer", 8),
        ("", 4),
        ("sizeless", 8),
        ("last", 4),
        ("", 4),
        ("main", 1),
    ];
    let expected = expected.iter().flat_map(|&(name, bytes)| std::iter::repeat_n(name, bytes));
    for (at, name) in (start..).zip(expected) {
        assert_eq!(table.name_at(at).unwrap_or_default(), name, "at {}", at - start);
    }
}

#[test]
fn libraries_beside_the_program_are_found_by_origin() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    fs::create_dir(directory.join("lib")).expect("a directory");
    fs::write(directory.join("inner.c"), "int inner(void) { return 0; }").expect("a file");
    fs::write(directory.join("outer.c"), "int inner(void); int outer(void) { return inner(); }")
        .expect("a file");
    fs::write(directory.join("main.c"), "int outer(void); int main(void) { return outer(); }")
        .expect("a file");
    let compiled = run(directory, "cc", &["-shared", "-fPIC", "-o", "lib/libinner.so", "inner.c"])
        && run(
            directory,
            "cc",
            &[
                "-shared",
                "-fPIC",
                "-o",
                "lib/libouter.so",
                "outer.c",
                "-Llib",
                "-linner",
                "-Wl,-rpath,$ORIGIN",
            ],
        )
        && run(
            directory,
            "cc",
            &[
                "-o",
                "program",
                "main.c",
                "-Llib",
                "-louter",
                "-Wl,-rpath,$ORIGIN/lib",
                "-Wl,-rpath-link,lib",
            ],
        );
    if !compiled {
        return;
    }
    let main = Object::open(&directory.join("program")).expect("a file").expect("an ELF file");
    let names: Vec<String> = closure(&main, &Environment::default())
        .iter()
        .map(|object| object.name().to_string())
        .collect();
    assert!(has(&names, "libouter.so") && has(&names, "libinner.so"), "{names:?}");
    // LD_LIBRARY_PATH comes before RUNPATH.
    fs::create_dir(directory.join("other")).expect("a directory");
    fs::copy(directory.join("lib/libouter.so"), directory.join("other/libouter.so"))
        .expect("a copy");
    let environment =
        Environment { library_path: Some(directory.join("other").into()), preload: None };
    let found = closure(&main, &environment);
    let outer = found.iter().find(|object| object.name() == "libouter.so").expect("found");
    assert_eq!(outer.path, directory.join("other/libouter.so").canonicalize().expect("a path"));
}

/// What the loader binds by is there, however a file was stripped.
#[test]
fn without_section_headers_the_dynamic_symbols_are_found() {
    for style in ["gnu", "sysv"] {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path();
        fs::write(
            directory.join("a.c"),
            "int one(void) { return 1; } int two(void) { return one() + 1; }",
        )
        .expect("a file");
        if !run(
            directory,
            "cc",
            &["-shared", "-fPIC", "-o", "a.so", "a.c", &format!("-Wl,--hash-style={style}")],
        ) {
            return;
        }
        let mut file = fs::read(directory.join("a.so")).expect("a file");
        let table =
            usize::try_from(u64::from_le_bytes(file[40..48].try_into().expect("eight bytes")))
                .expect("a place");
        file.truncate(table);
        file[40..48].fill(0);
        file[58..64].fill(0);
        fs::write(directory.join("b.so"), &file).expect("a file");
        let names = functions(&directory.join("b.so"));
        assert!(has(&names, "one") && has(&names, "two"), "{style}: {names:?}");
    }
}

const GO: &str = "package main

type pair struct{ a, b int }

//go:noinline
func (p *pair) sum() int { return p.a + p.b }

//go:noinline
func largest[T int | float64](a, b T) T {
\tif a > b {
\t\treturn a
\t}
\treturn b
}

func main() { println((&pair{1, 2}).sum(), largest(1, 2), largest(1.5, 2.5)) }
";

/// A directory with that program's source; nothing without Go.
fn go_source() -> Option<tempfile::TempDir> {
    let directory = tempfile::tempdir().expect("a directory");
    if !run(directory.path(), "go", &["version"]) {
        crate::missing::missing("go");
        return None;
    }
    fs::write(directory.path().join("a.go"), GO).expect("a file");
    Some(directory)
}

fn build_go(directory: &Path, arguments: &[&str]) {
    let cache = format!("GOCACHE={}", directory.join("cache").display());
    let go = [&*cache, "GO111MODULE=off", "CGO_ENABLED=0", "go", "build"];
    assert!(run(directory, "env", &[&go[..], arguments, &["a.go"]].concat()), "{arguments:?}");
}

/// Where each function of a program lies that `main` has, by name.
fn of_main(path: &Path) -> Vec<(String, u64)> {
    let object = Object::open(path).expect("a file").expect("an ELF file");
    let sites = object.table().sites().filter(|site| site[0].kind == SymbolKind::Function);
    let mut found: Vec<(String, u64)> = sites
        .filter(|site| site[0].name.starts_with("main."))
        // What stands between brackets is in the symbols alone: the table has `[...]`.
        .map(|site| (site[0].name.split('[').next().unwrap_or("").to_string(), site[0].address))
        .collect();
    found.sort();
    found
}

#[test]
fn a_stripped_go_program_has_the_names_of_its_own_table() {
    let Some(directory) = go_source() else { return };
    let directory = directory.path();
    for mode in ["-buildmode=exe", "-buildmode=pie"] {
        build_go(directory, &[mode, "-o", "whole"]);
        build_go(directory, &[mode, "-ldflags=-s -w", "-o", "stripped"]);
        let whole = of_main(&directory.join("whole"));
        let stripped = of_main(&directory.join("stripped"));
        let names: Vec<&str> = whole.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["main.main", "main.(*pair).sum", "main.largest"] {
            assert!(names.contains(&name), "{mode}: {names:?}");
        }
        assert_eq!(whole, stripped, "{mode}");
        let stripped = directory.join("stripped");
        let object = Object::open(&stripped).expect("a file").expect("an ELF file");
        let sites: Vec<_> = object.table().sites().collect();
        assert!(sites.len() > 1000, "{mode}: {}", sites.len());
        // No two of them share a byte, and each name leads back from its code.
        for pair in sites.windows(2) {
            let end = pair[0][0].address + object.table().size(pair[0]);
            assert!(
                end <= pair[1][0].address,
                "{mode}: {} and {}",
                pair[0][0].name,
                pair[1][0].name
            );
            assert_eq!(object.table().name_at(end - 1), Some(pair[0][0].name));
        }
    }
}

/// Whatever stands in Go's table, reading it ends, and what it gives is code.
#[test]
fn a_go_table_that_lies_is_survived() {
    let Some(directory) = go_source() else { return };
    let directory = directory.path();
    build_go(directory, &["-o", "a"]);
    let whole = fs::read(directory.join("a")).expect("a file");
    let elf = Elf::parse(&whole).expect("an ELF file");
    let table = elf.section(".gopclntab").expect("Go has one").data.as_ptr();
    let table = table as usize - whole.as_ptr() as usize;
    let count = go::functions(&elf).len();
    assert!(count > 1000, "{count}");
    let mut state = 11;
    for round in 0..400 {
        let mut changed = whole.clone();
        // Its header, then the pairs behind it, then anywhere in it.
        let area = [80, 1 << 13, 1 << 18][round % 3];
        for _ in 0..1 + random(&mut state) % 4 {
            let at = table + random(&mut state) as usize % area;
            changed[at] = match random(&mut state) % 3 {
                0 => 0xff,
                1 => 0,
                _ => random(&mut state) as u8,
            };
        }
        let elf = Elf::parse(&changed).expect("its headers are whole");
        for function in go::functions(&elf) {
            assert!(elf.executable(function.address) && function.size > 0, "{function:?}");
            assert!(elf.bytes_from(function.address).len() as u64 >= function.size);
        }
    }
    for cut in 0..200 {
        let elf = Elf::parse(&whole[..table + cut * 7]).expect("its headers are whole");
        assert!(go::functions(&elf).len() <= count);
    }
}
