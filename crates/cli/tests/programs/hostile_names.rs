//! Names of functions with commands to the terminal, marks of direction, newlines and separators.

use crate::common::{Target, process};
use std::fs;
use std::path::{Path, PathBuf};

/// In the place of names that are longer.
const NAMES: &[&[u8]] = &[
    b"\x1b[31mred\x1b[0m\x1b]0;pwned\x07",
    b"\xe2\x80\xaegnp.exe",
    b"\xc2\x9b31mC1",
    b"new\nline 12",
    b"\r\rcr",
    b"tab\there",
    b"a;b;c 42",
    b"\"quote\"",
    b"# comment",
    b"bad\xff\xfeutf8\x80",
    b"</script><script>alert(1)</script>",
    b"zero\xe2\x80\x8bwidth\x7f",
];

/// What they are shown as.
const SHOWN: &[&str] = &[
    r"\x1b[31mred\x1b[0m\x1b]0;pwned\x07",
    r"\u{202e}gnp.exe",
    r"\u{9b}31mC1",
    r"new\nline 12",
    r"\r\rcr",
    r"tab\there",
    "a;b;c 42",
    "\"quote\"",
    "# comment",
    r"bad\xff\xfeutf8\x80",
    "</script><script>alert(1)</script>",
    r"zero\u{200b}width\x7f",
];

/// A program that calls a function of each name once.
fn program(directory: &Path) -> PathBuf {
    let place = |at: usize| format!("{}_{at:04}", "x".repeat(40));
    let mut source = String::new();
    let mut calls = String::new();
    for at in 0..NAMES.len() {
        source += &format!(
            "__attribute__((noinline, noipa)) static int {}(int n) {{ return n + {at}; }}\n",
            place(at)
        );
        calls += &format!("n += {}(n);", place(at));
    }
    source += &format!("int main(void) {{ volatile int n = 0; {calls} return 0; }}\n");
    let path = directory.join("hostile.c");
    fs::write(&path, source).expect("a file");
    // Without debug information, whose names are others.
    let mut file = fs::read(Target::from_path(&path).flags(&["-g0"]).build()).expect("a program");
    for (at, name) in NAMES.iter().enumerate() {
        let place = place(at);
        let start = file
            .windows(place.len())
            .position(|window| window == place.as_bytes())
            .expect("in .strtab");
        file[start..start + name.len()].copy_from_slice(name);
        file[start + name.len()] = 0;
    }
    let program = directory.join("hos\x1btile");
    fs::write(&program, file).expect("a file");
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("its mode");
    program
}

/// What a terminal would take for a command, or a reader for another text.
fn unseen(text: &str) -> Vec<char> {
    let marks = ['\u{200b}', '\u{200e}', '\u{202e}', '\u{2066}'];
    text.chars().filter(|c| (c.is_control() && *c != '\n') || marks.contains(c)).collect()
}

#[test]
fn names_reach_no_output_raw() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = program(directory.path());
    let recording = directory.path().join("r.tlp");
    let run = |arguments: &[&str], traced: bool| {
        let mut command = process::trapline();
        command.args(arguments).current_dir(directory.path());
        if traced {
            command.arg("--").arg(&program);
        }
        let done = process::run(&mut command, b"");
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
        format!("{}{}", done.stdout, done.stderr)
    };
    let file = recording.to_str().expect("UTF-8");
    for (arguments, traced) in [
        (&["list"][..], true),
        (&["list", "-v"], true),
        (&["stat", "-v"], true),
        (&["stat", "-x", ";"], true),
        (&["stat", "-j"], true),
        (&["record", "-o", file], true),
        (&["report", file], false),
        (&["report", "--tree", "--min-percent", "0", file], false),
        (&["report", "-j", file], false),
        (&["report", "-f", "folded", file], false),
        (&["report", "-f", "firefox", file], false),
    ] {
        let text = run(arguments, traced);
        assert_eq!(unseen(&text), [], "{arguments:?}: {text:?}");
        for shown in SHOWN.iter().filter(|_| !arguments.contains(&"record")) {
            let json = serde_json::to_string(shown).expect("a string");
            let quoted = shown.replace('"', "\"\"");
            // As `folded` writes what is a separator, a second weight or a comment there.
            let in_stack = shown
                .replace(';', ":")
                .replace(" 12", "_12")
                .replace(" 42", "_42")
                .replace('#', "_");
            let forms = [*shown, json.trim_matches('"'), &quoted, &in_stack];
            assert!(
                forms.iter().any(|form| text.contains(form)),
                "{arguments:?}: {shown} in {text}"
            );
        }
    }
    // Lines and fields are what they are without such names.
    let tabs = run(&["stat", "-x", "\t", "--all"], true);
    let rows: Vec<&str> = tabs.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(rows.len() > NAMES.len());
    assert!(
        rows.iter().all(|row| row.split('\t').count() == rows[0].split('\t').count()),
        "{tabs}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&run(&["stat", "-j"], true)).expect("one JSON object");
    let names: Vec<&str> = json["functions"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["name"].as_str())
        .collect();
    assert!(SHOWN.iter().all(|shown| names.contains(shown)), "{names:?}");
    // What is shown is taken back.
    for shown in SHOWN {
        assert_eq!(run(&["list", shown], true).trim_end(), format!("hos\\x1btile:{shown}"));
        assert_eq!(
            run(&["list", &format!("hos\\x1btile:{shown}")], true).trim_end(),
            format!("hos\\x1btile:{shown}")
        );
    }
}
