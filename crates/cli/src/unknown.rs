//! Specs whose object is not there: what was meant, where that can be told before the program runs.

use crate::pattern::Pattern;
use crate::spec::{Reading, Spec};
use crate::suggest::Nearest;
use crate::symbols::libraries::{self, Environment};
use crate::symbols::object::{Object, forms};
use crate::text::visible;

/// How alike the names of objects must be for a slip of the pen; a library that is opened later may
/// have any name.
const NEAR: f64 = 0.75;

/// Endings of files with source code.
const SOURCES: [&str; 16] = [
    ".c", ".cc", ".cpp", ".cxx", ".c++", ".h", ".hh", ".hpp", ".rs", ".go", ".s", ".S", ".f90",
    ".zig", ".m", ".d",
];

/// What probes of other tools are, and what to write for them.
const FOREIGN: &[(&[&str], &str)] = &[
    (
        &["usdt", "U"],
        "static probes (USDT) are not there yet; probe the function that has the probe in it: \
            OBJECT:FUNCTION",
    ),
    (
        &["k", "kr", "kprobe", "kretprobe", "kfunc", "kretfunc", "f", "fr", "fentry", "fexit"],
        "a function of the kernel, and trapline probes programs; the system call's wrapper is \
            one: libc:read",
    ),
    (
        &["t", "rt", "tracepoint", "rawtracepoint", "raw_tracepoint"],
        "a tracepoint of the kernel, and trapline probes programs; the system call's wrapper is \
            one: libc:openat",
    ),
    (
        &["syscall", "sys"],
        "a system call, and trapline probes functions; the wrapper of the C library is one: \
            libc:read",
    ),
    (
        &[
            "profile",
            "interval",
            "i",
            "hardware",
            "software",
            "h",
            "s",
            "watchpoint",
            "w",
            "iter",
            "begin",
            "BEGIN",
            "END",
        ],
        "no function; write OBJECT:FUNCTION, and -i 1 for a report each second",
    ),
];

/// Why a spec cannot mean anything, though an object may appear later; none if it may.
pub(crate) fn refusal(spec: &Spec, objects: &[Object]) -> Option<String> {
    let Reading { object: Some(object), function, .. } = spec.pattern()? else { return None };
    if objects.iter().any(|known| known.is(object)) {
        return None;
    }
    let later = || {
        if may_come(object) { None } else { foreign(object).or_else(|| mistyped(object, objects)) }
    };
    let why = source_line(object, function).or_else(later)?;
    Some(format!("'{}': {why}", visible(&spec.text)))
}

/// Whether what is called so may be opened later: what has signs in it is meant for that, a file
/// may be made while the program runs, a library may lie anywhere, and what is installed can be
/// opened.
fn may_come(object: &Pattern) -> bool {
    let text = object.text();
    let is_library = text.ends_with(".so") || text.contains(".so.");
    let is_file = is_library || text.contains('/') || text.contains("memfd");
    !object.exact()
        || is_file
        || libraries::find(text).is_some()
        || libraries::in_library_path(text, &Environment::current())
}

/// `file.c:8` is a line.
fn source_line(file: &Pattern, line: &Pattern) -> Option<String> {
    let is_line = !line.text().is_empty() && line.text().bytes().all(|byte| byte.is_ascii_digit());
    let is_source = SOURCES.iter().any(|ending| file.text().ends_with(ending));
    if !is_line || !(is_source || file.exact()) {
        return None;
    }
    Some(format!(
        "a line of {} cannot be probed; write the function that it is in, and +OFFSET for an \
            instruction of it (FUNCTION+0x1c)",
        visible(file.text())
    ))
}

fn foreign(prefix: &Pattern) -> Option<String> {
    let (_, what) = FOREIGN.iter().find(|(prefixes, _)| prefixes.contains(&prefix.text()))?;
    Some((*what).to_string())
}

/// An object that is nowhere, while one of nearly the same name is there.
fn mistyped(object: &Pattern, objects: &[Object]) -> Option<String> {
    let hint = nearest(object, objects).hint()?;
    let name = visible(object.text());
    Some(format!(
        "no such object{hint}; to wait for one that is opened later, write its path or '{name}*'"
    ))
}

/// The loaded objects that `object`, which is not there yet, may have been meant for; the end of a
/// message, which is empty where it has signs in it or nothing is near.
pub(crate) fn hint(object: &Pattern, objects: &[Object]) -> String {
    let nearest = object.exact().then(|| nearest(object, objects).hint());
    nearest.flatten().unwrap_or_default()
}

fn nearest(object: &Pattern, objects: &[Object]) -> Nearest {
    let text = object.text();
    let mut nearest = Nearest::within(text, NEAR);
    for known in objects {
        if text.contains('/') {
            let path = known.path.display().to_string();
            nearest.offer(&path, || path.clone());
        } else {
            forms(known.name()).for_each(|form| nearest.offer(form, || known.name().to_string()));
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::{hint, refusal};
    use crate::spec::Spec;
    use crate::symbols::libraries::{Environment, closure};
    use crate::symbols::object::Object;
    use std::path::Path;

    #[test]
    fn what_is_refused_before_the_program_runs() {
        let main = Object::open(Path::new("/bin/sh")).unwrap().unwrap();
        let mut objects = closure(&main, &Environment::default());
        objects.insert(0, main);
        for (text, what) in [
            ("libcc:malloc", "did you mean libc.so.6?"),
            ("lbc:malloc", "did you mean libc.so.6?"),
            ("LIBC:malloc", "did you mean libc.so.6?"),
            ("entry:libx:malloc", "did you mean libc.so.6?"),
            ("usdt:libc:setjmp", "USDT"),
            ("usdt:/bin/sh:provider:probe", "USDT"),
            ("k:vfs_read", "libc:read"),
            ("kprobe:vfs_read", "libc:read"),
            ("tracepoint:syscalls:sys_enter_openat", "libc:openat"),
            ("interval:s:1", "-i 1"),
            ("file.c:8", "a line of file.c"),
            ("src/main.rs:108", "a line of src/main.rs"),
            ("main:8", "a line of main"),
        ] {
            let refused = refusal(&Spec::parse(text), &objects).unwrap_or_default();
            assert!(
                refused.contains(what) && refused.starts_with(&format!("'{text}': ")),
                "{text}: {refused:?}"
            );
        }
        // Libraries and files may come, however near to what is there their names are.
        let files = [
            "libp.so:f",
            "entry:libx.so.6:f",
            "libc.so:f",
            "d/libp.so:f",
            "./lib:f",
            "/lib/x86_64-linux-gnu/libx.so.6:malloc",
            "/tmp/made/later.so:f",
            "memfd:f",
        ];
        let others = ["malloc", "libc:malloc", "plugin:f", "libx*:f", "/lib.*x/:f", "!libcc*:x"];
        for text in files.into_iter().chain(others) {
            assert_eq!(refusal(&Spec::parse(text), &objects), None, "{text}");
        }
        let near =
            |text| hint(Spec::parse(text).pattern().unwrap().object.as_ref().unwrap(), &objects);
        assert_eq!(near("libx.so.6:f"), "; did you mean libc.so.6?");
        assert!(near("/lib/x86_64-linux-gnu/libx.so.6:f").contains("/libc.so.6"));
        assert_eq!(
            (near("libquitedifferent.so:f"), near("libx*:f")),
            (String::new(), String::new())
        );
    }
}
