//! Every name that is printed is a spec for the function that has it.

use super::{Meaning, Resolution, meanings};
use crate::literal;
use crate::names::fit;
use crate::spec::Spec;
use crate::symbols::object::Object;
use crate::text::visible;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn open(path: &Path) -> Object {
    Object::open(path).unwrap().unwrap()
}

fn parsed(texts: &[String]) -> Vec<Spec> {
    texts.iter().map(|text| Spec::parse(text)).collect()
}

/// Everything in the program at `path`.
fn everything(path: &Path) -> Resolution {
    Resolution::new(vec![open(path)], vec![Spec::everything()]).unwrap()
}

/// The addresses of all functions of a program, with the names that `list` and reports give them.
fn listed(all: &Resolution) -> Vec<(u64, String)> {
    let functions = all.selections[0].functions.iter();
    functions.map(|function| (function.address, visible(&function.name).into_owned())).collect()
}

/// Gives all names of the program at `path` back, with its name and without, and each way in which
/// `shorten` writes them; returns how many there are.
fn give_back(path: &Path, shorten: &dyn Fn(&str) -> Vec<String>) -> usize {
    give_back_every(1, path, shorten)
}

/// [`give_back`] of one name in so many.
fn give_back_every(step: usize, path: &Path, shorten: &dyn Fn(&str) -> Vec<String>) -> usize {
    let all = everything(path);
    let object = visible(all.objects[0].name()).into_owned();
    let mut texts = Vec::new();
    let mut addresses = Vec::new();
    for (address, name) in listed(&all).into_iter().step_by(step) {
        for written in std::iter::once(name.clone()).chain(shorten(&name)) {
            texts.extend([format!("{object}:{written}"), written]);
            addresses.extend([address; 2]);
        }
    }
    let specs = parsed(&texts);
    let hits = [literal::find(&specs, &all.objects[0], true)];
    let meanings = meanings(&specs, &hits);
    let named: HashSet<(usize, u64)> = hits[0]
        .iter()
        .filter(|hit| meanings[hit.spec] == Meaning::Name(hit.rank))
        .map(|hit| (hit.spec, hit.address))
        .collect();
    for (index, (text, address)) in texts.iter().zip(&addresses).enumerate() {
        assert!(
            named.contains(&(index, *address)),
            "{}: {text} does not mean the function at {address:#x}",
            path.display()
        );
    }
    addresses.len() / 2
}

/// The name as terminals of two widths show it.
fn cut(name: &str) -> Vec<String> {
    [24, 50].into_iter().map(|room| fit(name, room)).filter(|cut| cut != name).collect()
}

/// Not cut: for thousands of names, each would be compared with each.
fn whole(_: &str) -> Vec<String> {
    Vec::new()
}

/// A file of the system's; none where it is not installed.
fn installed(candidates: &[&str]) -> Option<PathBuf> {
    candidates.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// Compiles a program; none without the compiler.
fn built(directory: &Path, compiler: &str, arguments: &[&str]) -> Option<PathBuf> {
    let mut command = Command::new(compiler);
    command.args(arguments).args(["-o", "built"]).current_dir(directory).stdin(Stdio::null());
    let status = command.status().ok()?;
    assert!(status.success(), "{command:?}");
    Some(directory.join("built"))
}

fn target(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/targets").join(name).display().to_string()
}

#[test]
fn names_of_the_systems_programs() {
    let compiler = Command::new("g++").arg("-print-prog-name=cc1plus").output();
    let compiler = compiler
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string())
        .unwrap_or_default();
    let mut names = 0;
    for candidates in [
        &["/usr/lib/x86_64-linux-gnu/libstdc++.so.6"][..],
        &["/usr/bin/redis-server"],
        &["/usr/bin/python3"],
        &["/usr/bin/gdb"],
        &["/usr/lib/x86_64-linux-gnu/libcrypto.so.3"],
        &["/usr/lib/x86_64-linux-gnu/libc.so.6"],
        &["/usr/bin/perl"],
        &["/usr/bin/["],
        &[compiler.as_str()],
    ] {
        if let Some(path) = installed(candidates) {
            names += give_back(&path, &whole);
        }
    }
    assert!(names > 1000, "libc alone has more than {names}");
}

/// Of programs with 100,000 names, all would take a minute and more in a debug build.
const SOME: usize = 20;

/// This program: the tests' own executable has all of the tool and its libraries in it.
#[test]
fn names_of_trapline_itself() {
    let names = give_back_every(SOME, &std::env::current_exe().unwrap(), &whole);
    assert!(names > 1_000, "it has more functions than {names}");
}

/// One of the largest programs of C++ that systems come with.
#[test]
fn names_of_node() {
    let candidates = ["/usr/bin/node", "/usr/bin/nodejs", "/usr/local/bin/node"];
    let Some(path) = installed(&candidates) else {
        eprintln!("SKIPPED: node is missing");
        return;
    };
    assert!(give_back_every(SOME, &path, &whole) > 1_000);
}

#[test]
fn names_of_a_rust_program() {
    // With all of the standard library that is linked to it.
    let directory = tempfile::tempdir().unwrap();
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let source = target("names.rs");
    for options in [&[][..], &["-O", "-C", "symbol-mangling-version=v0"]] {
        let arguments = [&["--edition", "2024", source.as_str()], options].concat();
        let Some(program) = built(directory.path(), &compiler, &arguments) else { return };
        assert!(give_back(&program, &cut) > 300);
    }
}

#[test]
fn names_of_a_cpp_program() {
    let directory = tempfile::tempdir().unwrap();
    for options in
        [&["-O0"][..], &["-O2", "-g"], &["-O1", "-rdynamic", "-D_GLIBCXX_USE_CXX11_ABI=0"]]
    {
        let source = target("spellings.cpp");
        let arguments = [&["-std=c++17", "-w", source.as_str()], options].concat();
        let Some(program) = built(directory.path(), "g++", &arguments) else { return };
        assert!(give_back(&program, &cut) > 40);
    }
}

/// Names that no compiler makes, of `.strtab`, each in the place of a longer one.
const STRANGE: &[&[u8]] = &[
    b"star*",
    b"*",
    b"a?b",
    b"[",
    b"[a-z]",
    b"!f",
    b"! f",
    b"/",
    b"/x/",
    b"/(/",
    b"a/b",
    b"a:b",
    b":",
    b"a:",
    b":a",
    b"::",
    b"a:::b",
    b"entry:f",
    b"ret:f+4",
    b"call:",
    b"f+4",
    b"+4",
    b"f+0x10",
    b"f+99999999999",
    b"f@0x10",
    b"func@0x10",
    b"func@0x",
    b"@",
    b"f@@V1",
    b"f@V1",
    b"f@V2",
    b" f",
    b"f ",
    b" ",
    b"a b",
    b"usdt:x:y",
    b"k:f",
    b"file.c:8",
    b"-p",
    b"--",
    b"...",
    b"a...b",
    b"<...>",
    b"f<int",
    b"f>",
    b"operator",
    b"operator+",
    b"\\",
    b"\\n",
    b"\\x1b",
    b"new\nline",
    b"tab\there",
    b"\x1b[31mred\x1b[0m",
    b"\x1b]0;title\x07",
    b"\xe2\x80\xaegnp.exe",
    b"bad\xff\xfeutf8\x80",
    b"\x01",
    b"\x7f",
    b"\xc2\x9b31m",
    b"a;b;c 42",
    b"\"quote\"",
    b"'",
    b"$(id)",
    b"a,b",
    b"_ZN",
    b"_Z1fv.cold",
    b"_R",
    b".part.0",
    b"f.constprop.0",
    b"same",
    b"same",
];

#[test]
fn names_that_mean_something_else() {
    let directory = tempfile::tempdir().unwrap();
    let place = |at: usize| format!("{}_{at:04}", "x".repeat(40));
    let functions: String = (0..STRANGE.len())
        .map(|at| {
            format!(
                "__attribute__((noinline, noipa, used)) static int {}(int n) {{ return \
            n + {at}; }}\n",
                place(at)
            )
        })
        .collect();
    fs::write(directory.path().join("a.c"), functions + "int main(void) { return 0; }\n").unwrap();
    let Some(program) = built(directory.path(), "cc", &["-O1", "a.c"]) else { return };
    let mut file = fs::read(&program).unwrap();
    for (at, name) in STRANGE.iter().enumerate() {
        let place = place(at);
        let start = file
            .windows(place.len())
            .position(|window| window == place.as_bytes())
            .expect("in .strtab");
        file[start..start + name.len()].copy_from_slice(name);
        file[start + name.len()] = 0;
    }
    // The program's own name as well.
    for name in ["program", "entry", "a*b", "[", "a:b", "u", "new\nline"] {
        let path = directory.path().join(name);
        fs::write(&path, &file).unwrap();
        let all: Vec<String> =
            listed(&everything(&path)).into_iter().map(|(_, name)| name).collect();
        for shown in ["\\x1b[31mred\\x1b[0m", "bad\\xff\\xfeutf8\\x80", "new\\nline"] {
            assert!(all.iter().any(|name| name == shown), "{shown} in {all:?}");
        }
        assert!(all.iter().all(|name| !name.contains(crate::text::is_unseen)), "{all:?}");
        assert!(give_back(&path, &cut) >= STRANGE.len());
        let resolution = Resolution::new(vec![open(&path)], parsed(&all))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(resolution.matched.iter().all(|matched| *matched > 0));
    }
}
