//! What is run under the tracers, and with which probes.

use crate::programs::binary;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program with its arguments, and the functions that are probed in it.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) spec: &'static str,
}

/// Programs that a shell executes one after the other: what each costs that is followed.
const PROGRAMS: usize = 50;

/// JSON of a dictionary, there and back, five times.
const PYTHON: &str = "import json\n\
    d = {str(i): [i, str(i)] for i in range(2000)}\n\
    for _ in range(5): json.loads(json.dumps(d))";

/// All subjects; files that they need are written into `dir`. What is not installed comes second,
/// in words.
pub(super) fn all(dir: &Path, quick: bool) -> (Vec<Subject>, Vec<String>) {
    let (mut subjects, mut missing) = (Vec::new(), Vec::new());
    match binary("true") {
        Some(program) => {
            for (what, spec) in [("one function", "libc.so.6:exit"), ("all of libc", "libc.so.6:*")]
            {
                subjects.push(Subject {
                    name: format!("true, {what}"),
                    program: program.clone(),
                    arguments: Vec::new(),
                    spec,
                });
            }
        }
        None => missing.push("no program `true`".to_owned()),
    }
    match (binary("sh"), binary("true")) {
        (Some(shell), Some(program)) => {
            let script = format!(
                "i=0; while [ $i -lt {PROGRAMS} ]; do {}; i=$((i+1)); done",
                program.display()
            );
            for (what, spec) in [("one function", "libc.so.6:exit"), ("all of libc", "libc.so.6:*")]
            {
                subjects.push(Subject {
                    name: format!("{PROGRAMS} programs, {what}"),
                    program: shell.clone(),
                    arguments: vec!["-c".to_owned(), script.clone()],
                    spec,
                });
            }
        }
        _ => missing.push("no `sh` or no `true`".to_owned()),
    }
    match compiler(dir, quick) {
        Ok((program, arguments)) => subjects.push(Subject {
            name: "cc1plus -O1, all entries".to_owned(),
            program,
            arguments,
            spec: "entry:*:*",
        }),
        Err(why) => missing.push(why),
    }
    match binary("python3") {
        Some(program) => subjects.push(Subject {
            name: "python3, PyObject_Malloc".to_owned(),
            program,
            arguments: vec!["-c".to_owned(), PYTHON.to_owned()],
            spec: "PyObject_Malloc",
        }),
        None => missing.push("python3 is not installed".to_owned()),
    }
    (subjects, missing)
}

/// The compiler proper, as `g++ -O1 -c` starts it, and its arguments for a file of some hundred
/// lines and the headers that it includes.
fn compiler(dir: &Path, quick: bool) -> Result<(PathBuf, Vec<String>), String> {
    let answer = Command::new("g++")
        .arg("-print-prog-name=cc1plus")
        .stdin(Stdio::null())
        .output()
        .map_err(|_| "g++ is not installed".to_owned())?;
    let program = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    if !program.is_file() {
        return Err("g++ has no cc1plus".to_owned());
    }
    let file = dir.join("source.cpp");
    std::fs::write(&file, source(if quick { 2 } else { 40 }))
        .map_err(|e| format!("{}: {e}", file.display()))?;
    // The driver alone knows where the headers are.
    let whole = dir.join("source.ii");
    let status = Command::new("g++")
        .arg("-E")
        .arg(&file)
        .arg("-o")
        .arg(&whole)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        return Err("g++ -E fails".to_owned());
    }
    let whole = whole.display().to_string();
    let arguments = ["-quiet", "-fpreprocessed", "-O1", &whole, "-o", "/dev/null"];
    Ok((program, arguments.map(str::to_owned).to_vec()))
}

/// A C++ file of ten lines a class, with containers of the standard library.
fn source(classes: usize) -> String {
    let head = "#include <algorithm>\n#include <map>\n#include <string>\n#include <vector>\n";
    let class = |n: usize| {
        let sides = n % 7 + 2;
        format!(
            "struct shape{n} {{\n  std::map<std::string, long> names;\n  std::vector<long> \
             sides;\n  virtual ~shape{n}() {{}}\n  virtual long area(long scale) {{\n    long sum \
             = names[\"shape{n}\"];\n    for (int i = 0; i < {sides}; i++)\n      sum += \
             sides[i] * scale + i % 3;\n    std::sort(sides.begin(), sides.end());\n    return \
             sum;\n  }}\n}};\nlong use{n}(shape{n} &s, long k) {{ return s.area(k + {n}); }}\n\n"
        )
    };
    std::iter::once(head.to_owned()).chain((0..classes).map(class)).collect()
}
