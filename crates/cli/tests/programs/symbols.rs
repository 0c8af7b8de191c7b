//! Where names come from: stripped programs, debug files, demangled names.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::process::{program, run, trapline};
use crate::common::{Case, Target, process};

fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(
        output.status.success(),
        "{name} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A copy of a compiled target in a fresh directory.
fn copy(program: &Path) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join(program.file_name().expect("a name"));
    std::fs::copy(program, &path).expect("a copy");
    (directory, path)
}

#[test]
fn dynamic_symbols_of_a_stripped_program() {
    let (_directory, program) = copy(&Target::new("threads.c").flags(&["-rdynamic"]).build());
    tool("strip", &[program.to_str().expect("in UTF-8")]);
    Case::new(&program).check();
}

/// Without any symbol, the functions are those of the unwind tables, under addresses for names.
#[test]
fn a_stripped_program_without_symbols() {
    let (_directory, program) = copy(&Target::new("mutual_recursion.c").build());
    tool("strip", &[program.to_str().expect("in UTF-8")]);
    let bare = process::run(&mut process::program(&program), b"");
    let (probed, report) = Case::new(&program).probed(&[]);
    assert_eq!((probed.code, &probed.stdout, &probed.stderr), (0, &bare.stdout, &bare.stderr));
    let report = report.expect("a report");
    let mut counted: Vec<u64> =
        report.functions().iter().map(crate::common::report::calls).collect();
    counted.sort_unstable();
    for expected in [57_313, 7_625, 1_002] {
        assert!(counted.contains(&expected), "{expected} calls of some function: {counted:?}");
    }
    assert!(report.lost().is_empty());
}

#[test]
fn a_debug_file_beside_the_program() {
    let (_directory, program) = copy(&Target::new("mutual_recursion.c").build());
    let path = program.to_str().expect("in UTF-8");
    let debug = format!("{path}.debug");
    tool("objcopy", &["--only-keep-debug", path, &debug]);
    tool("strip", &[path]);
    tool("objcopy", &[&format!("--add-gnu-debuglink={debug}"), path]);
    Case::new(&program).check();
}

/// Debian's `.gnu_debugdata`-less default: a program with compressed debug sections keeps its
/// symbol table.
#[test]
fn compressed_debug_sections() {
    Target::new("mutual_recursion.c").flags(&["-gz"]).check();
}

#[test]
fn cpp_names() {
    let target = Target::new("names.cpp");
    let bare = process::run(&mut program(target.build()), b"");
    for (spec, expected) in [
        ("app::Box::work", 200),
        ("app::Box::work*", 200),
        ("app::twice*", 200),
        ("app::*hidden*", 100),
        ("app::Box::operator+*", 100),
        ("local_one*", 100),
        ("/^app::Box::work\\(long\\)/", 100),
    ] {
        let (probed, report) = target.case().probed(&[spec.to_owned()]);
        assert_eq!(
            (probed.code, &probed.stdout, probed.stderr.as_str()),
            (0, &bare.stdout, ""),
            "{spec}"
        );
        assert_eq!(report.expect("a report").sum(|_| true), expected, "{spec}");
    }
}

/// Each name of a program with all that C++ has, as `list` prints it, is a spec for `list` and for
/// `stat`. Thousands of names of other programs are given back in `resolve`'s own tests.
#[test]
fn listed_names_are_specs() {
    let program = Target::new("spellings.cpp").build();
    let list = |specs: &[&str]| {
        let output =
            process::run(process::trapline().arg("list").args(specs).arg("--").arg(&program), b"");
        assert_eq!(output.code, 0, "{specs:?}: {}", output.stderr);
        output.stdout
    };
    let all = list(&[]);
    let lines: Vec<&str> = all.lines().collect();
    for name in [
        "(anonymous namespace)::helper",
        "app::V::operator()",
        "app::V::tagged[abi:cxx11]",
        "operator\"\" _x",
        "app::V::~V",
    ] {
        assert!(lines.iter().any(|line| line.contains(name)), "{name} in {all}");
    }
    assert_eq!(list(&lines), all);
    for line in lines.iter().step_by(7) {
        assert!(list(&[line]).lines().any(|found| found == *line), "{line}");
    }
    let specs: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let bare = process::run(&mut process::program(&program), b"");
    let (probed, report) = Case::new(&program).probed(&specs);
    assert_eq!((probed.code, &probed.stdout, probed.stderr.as_str()), (0, &bare.stdout, ""));
    assert!(report.expect("a report").sum(|name| name.contains("helper")) > 0);
}

#[test]
fn rust_names() {
    let target = Target::new("names.rs");
    let bare = process::run(&mut program(target.build()), b"");
    for (spec, expected) in [
        ("names::app::db::Table::insert", 100),
        ("names::app::db::generic", 200),
        ("*::app::db::*", 400),
        ("names::app::db::generic*", 200),
        ("*Query*::query", 100),
    ] {
        let (probed, report) = target.case().probed(&[spec.to_owned()]);
        assert_eq!(
            (probed.code, &probed.stdout, probed.stderr.as_str()),
            (0, &bare.stdout, ""),
            "{spec}"
        );
        assert_eq!(report.expect("a report").sum(|_| true), expected, "{spec}");
    }
}

/// The line that refuses `spec` of `program`, the same for `list` and for `stat`.
fn refusal(spec: &str, program: &Path) -> String {
    let [list, stat] = ["list", "stat"].map(|verb| {
        let output = process::run(process::trapline().args([verb, spec, "--"]).arg(program), b"");
        assert_eq!((output.code, output.stdout.len()), (2, 0), "{verb} {spec}: {}", output.stderr);
        output.stderr
    });
    assert_eq!(list, stat, "{spec}");
    list
}

/// A function that is nowhere but in others is not one that does not exist.
#[test]
fn functions_that_are_only_inlined() {
    let expected = "only_inlined is inlined at 3 places in t_once, t_twice";
    for flags in [&[][..], &["-gdwarf-4"], &["-gz"], &["-flto"], &["-O1"], &["-O0"]] {
        let program = Target::new("inlined.c").flags(flags).build();
        let line = refusal("only_inlined", &program);
        assert!(line.trim_end().ends_with(expected), "{flags:?}: {line}");
    }
    let program = Target::new("inlined.c").build();
    for spec in ["inlined:only_inlined", "entry:only_inlined", "only_inl*ed"] {
        let line = refusal(spec, &program);
        assert!(line.trim_end().ends_with(expected), "{spec}: {line}");
    }
    assert!(!refusal("never_inlined", &program).contains("is inlined"));
    let (_directory, program) = copy(&program);
    let path = program.to_str().expect("in UTF-8");
    let debug = format!("{path}.debug");
    tool("objcopy", &["--only-keep-debug", path, &debug]);
    tool("strip", &["--strip-debug", path]);
    assert!(!refusal("only_inlined", &program).contains("is inlined"), "its information is gone");
    tool("objcopy", &[&format!("--add-gnu-debuglink={debug}"), path]);
    assert!(refusal("only_inlined", &program).trim_end().ends_with(expected));
}

/// A function that is called and inlined: the report says that it does not have all of it, where it
/// is asked for by name, in `stat` and `record` and in files.
#[test]
fn functions_that_are_also_inlined() {
    let expected = "t_both is inlined at 3 places in t_here, t_there: those are not counted";
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (json, recorded) = (directory.path().join("a.json"), directory.path().join("a.tlp"));
    let of = |program: &Path, words: &[&str], specs: &[&str]| {
        let mut command = trapline();
        command.args(words).args(specs).arg("--").arg(program);
        let finished = run(&mut command, b"");
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        finished.stdout + &finished.stderr
    };
    let [json_words, record_words] = [("stat", &json), ("record", &recorded)]
        .map(|(verb, file)| [verb, "-o", file.to_str().expect("UTF-8")]);
    let says = |text: &str| text.lines().any(|line| line.ends_with(expected));
    for flags in [&[][..], &["-gz=zlib"], &["-gdwarf-4"], &["-O0", "-no-pie"]] {
        let program = Target::new("inlined.c").flags(flags).build();
        for spec in ["t_both", "inlined:t_both", "entry:t_both"] {
            let text = of(&program, &["stat"], &[spec]);
            assert!(says(&text), "{flags:?} {spec}: {text}");
        }
        let text = of(&program, &record_words, &["t_both"]);
        assert!(says(&text), "{flags:?}: {text}");
    }
    let shown = run(trapline().arg("report").arg(&recorded), b"").stdout;
    assert!(says(&shown), "{shown}");
    let program = Target::new("inlined.c").build();
    of(&program, &[&json_words[..], &["-j"]].concat(), &["t_both", "t_here"]);
    let report = crate::common::Report::read(&json).expect("a report");
    let inlined = serde_json::json!([{ "object": "inlined", "name": "t_both", "places": 3,
        "within": ["t_here", "t_there"] }]);
    assert_eq!((report.calls("t_both"), &report.0["also_inlined"]), (2, &inlined));
    // Nothing of functions that are asked for together, that are not inlined, or that nobody asked
    // for; nothing without the information.
    for specs in [&["t_*"][..], &["t_here"], &["t_*", "!t_both"], &["/^t_both$/", "t_once"]] {
        let text = of(&program, &["stat"], specs);
        assert!(!text.contains("is inlined"), "{specs:?}: {text}");
    }
    let bare = Target::new("inlined.c").flags(&["-g0"]).build();
    assert!(!of(&bare, &["stat"], &["t_both"]).contains("is inlined"));
}

#[test]
fn inlined_functions_of_other_languages() {
    let cpp = Target::new("inlined.cpp").build();
    let rust = Target::new("inlined.rs").named("inlined-rust").flags(&["-g"]).build();
    let nameless = "app::(anonymous namespace)::";
    for (program, spec, expected) in [
        (&cpp, "app::Box::open", "app::Box::open is inlined at 2 places in t_all"),
        (&cpp, "app::Box::open(long) const", "app::Box::open is inlined at 1 place in t_all"),
        (&cpp, "app::Box::Box", "app::Box::Box is inlined at 1 place in t_all"),
        (&cpp, "app::doubled", "app::doubled<long> is inlined at 1 place in t_all"),
        // What has no symbol's name: it is made of what it is in.
        (&cpp, "app::*::hidden", &format!("{nameless}hidden is inlined at 2 places in t_all")),
        (&cpp, &format!("{nameless}hidden"), "hidden is inlined at 2 places in t_all"),
        (&cpp, "*::doubly_hidden", &format!("{nameless}doubly_hidden<long int> is inlined at 1")),
        (&cpp, "*::Secret::get", &format!("{nameless}Secret::get is inlined at 1 place in t_all")),
        (&cpp, "*deep", &format!("{nameless}Secret::Inner::deep is inlined at 1 place in t_all")),
        (&cpp, "app::fixed", &format!("app::fixed is inlined at 2 places in {nameless}t_hidden,")),
        (&cpp, "for_c", ": for_c is inlined at 1 place in t_all"),
        (&rust, "*::app::Counter::bump", "bump is inlined at 2 places in"),
    ] {
        let line = refusal(spec, program);
        assert!(line.contains(expected), "{spec}: {line}");
    }
    for spec in ["hidden", "fixed", "app::for_c", "app::Secret::get"] {
        assert!(!refusal(spec, &cpp).contains("is inlined"), "{spec} is no name of any");
    }
}

/// Any of a function's names finds it, and it is counted once.
#[test]
fn aliases() {
    let target = Target::new("aliases.c");
    for name in ["t_first_name", "t_second_name", "t_third_name"] {
        let report = target.case().specs(&[name]).check_output_only();
        assert_eq!(report.calls(name), 300, "{name}");
    }
    assert_eq!(target.case().specs(&["t_*"]).check_output_only().sum(|_| true), 400);
}

/// And where a function goes on in another one.
#[test]
fn where_time_ends_at_a_jump() {
    let listed = run(trapline().args(["list", "-v", "libc:_setjmp", "libc:getenv"]), b"");
    let line = |name: &str| {
        let is_its = |line: &&str| line.contains(&format!("libc.so.6:{name}  ("));
        listed.stdout.lines().find(is_its).unwrap_or_else(|| panic!("{}", listed.stdout))
    };
    assert!(line("_setjmp").contains("its time ends at a jump to another function"));
    assert!(!line("getenv").contains("its time ends"));
}

/// `list -v` says of each function whose returns are wanted how they are seen.
#[test]
fn how_returns_are_seen() {
    let list = |returns: &[&str]| {
        let listed = run(
            trapline().args(["list", "-v", "libc:strdup", "entry:libc:getenv"]).args(returns),
            b"",
        );
        assert_eq!(listed.code, 0, "{}", listed.stderr);
        listed.stdout
    };
    for (returns, how, all) in [
        (&[][..], "libc.so.6:strdup  (exits (", "returns: 1 by exits ("),
        (&["--returns", "exits"], "libc.so.6:strdup  (exits (", "returns: 1 by exits ("),
        (
            &["--returns", "instances"],
            "libc.so.6:strdup  (instance)",
            "returns: 0 by exits (0 sites), 1 by",
        ),
    ] {
        let listed = list(returns);
        assert!(listed.contains(how) && listed.contains(all), "{returns:?}: {listed}");
        assert!(!listed.contains("getenv  ("), "only its entries are wanted: {listed}");
    }
}
