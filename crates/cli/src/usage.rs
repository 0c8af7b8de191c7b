//! What to write instead, where a command line cannot be understood as it is.

use crate::text::visible;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsStr;

/// Advice on the arguments of a command line, its first word aside, that the parser refused; none
/// where its own message is the best. `is_program` says which words are programs.
pub(crate) fn advice(
    error: &clap::Error,
    words: &[&OsStr],
    is_program: impl Fn(&OsStr) -> bool,
) -> Option<String> {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (verb, rest) = words.split_first()?;
    if !matches!(verb.as_str(), "stat" | "record" | "list") || rest.iter().any(|word| word == "--")
    {
        return None;
    }
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) if error.kind() == ErrorKind::UnknownArgument => {
            Some(argument.as_str())
        }
        _ => None,
    };
    if unknown.is_some_and(|argument| matches!(argument, "--attach" | "--attached")) {
        return Some(format!("processes that run are named by -p: trapline {verb} -p PID SPEC"));
    }
    if unknown.is_none() && error.kind() != ErrorKind::MissingRequiredArgument {
        return None;
    }
    let at = rest.iter().position(|word| !word.starts_with('-') && is_program(OsStr::new(word)));
    let quoted = |words: &[String]| {
        words.iter().map(|word| format!(" {}", shell_word(word))).collect::<String>()
    };
    match at {
        Some(at) => Some(format!(
            "the program to run stands behind `--`; write: trapline {verb}{} --{}",
            quoted(&rest[..at]),
            quoted(&rest[at..])
        )),
        None if unknown.is_none() && rest.iter().any(|word| !word.starts_with('-')) => {
            Some(format!(
                "no program to run; write it behind `--`: trapline {verb}{} -- CMD (or -p PID, for \
                    a process that runs)",
                quoted(rest)
            ))
        }
        None => None,
    }
}

/// The word as a shell takes it.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=./:,@%".contains(c);
    let shown = visible(word);
    if !word.is_empty() && word.chars().all(plain) {
        shown.into_owned()
    } else {
        format!("'{}'", shown.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::advice;
    use crate::args::Cli;
    use clap::Parser;
    use std::ffi::OsStr;

    fn on(line: &str) -> String {
        let words: Vec<&OsStr> = line.split(' ').map(OsStr::new).collect();
        let error = Cli::try_parse_from(
            std::iter::once(OsStr::new("trapline")).chain(words.iter().copied()),
        )
        .expect_err(line);
        advice(&error, &words, |word| word == "ls").unwrap_or_default()
    }

    #[test]
    fn what_to_write() {
        for (line, expected) in [
            ("stat ls", "write: trapline stat -- ls"),
            ("stat ls -l", "write: trapline stat -- ls -l"),
            ("stat libc:malloc ls /tmp", "write: trapline stat libc:malloc -- ls /tmp"),
            ("stat libc:*alloc ls", "write: trapline stat 'libc:*alloc' -- ls"),
            ("record -o x.svg ls", "write: trapline record -o x.svg -- ls"),
            ("stat malloc", "trapline stat malloc -- CMD"),
            ("stat --attach 1 malloc", "trapline stat -p PID SPEC"),
        ] {
            assert!(on(line).contains(expected), "{line}: {:?}", on(line));
        }
        for line in [
            "stat",
            "stat --nosuch -- ls",
            "stat -p 1 -- ls",
            "stat -p x",
            "nosuch ls",
            "doctor -x",
        ] {
            assert_eq!(on(line), "", "{line}");
        }
    }
}
