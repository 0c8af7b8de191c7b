//! Probe specs: `[!][call:|entry:|ret:][object:]function[+offset]`.
//!
//! A single `:` separates, `::` never does. Prefixes of bpftrace and bcc are understood.
//!
//! Names of functions may have every sign in them that means something here (`operator()[abi:x]`,
//! `operator+`, `!f`, `a:b`). A text is therefore first looked for as a name, in every way in which
//! it can be cut ([`Spec::heads`], against the objects that are there); only where no function has
//! the name, it is read as a pattern ([`Spec::reading`]).

use crate::exit::{Failure, USAGE};
use crate::pattern::Pattern;

/// What is measured of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Calls and their duration.
    Call,
    /// Entries only.
    Entry,
    /// Entries and returns, without a clock.
    Return,
}

/// What is done with the functions of a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measure {
    /// They are taken away from what other specs matched.
    pub(crate) exclude: bool,
    pub(crate) kind: Kind,
    /// The probed instruction, in bytes from the function's start.
    pub(crate) offset: u64,
}

/// One way to cut a text: `rest` is `[object:]function`, letter by letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) measure: Measure,
    pub(crate) rest: String,
}

/// A text as a pattern.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) measure: Measure,
    /// None: the main program, and its libraries when nothing matches there.
    pub(crate) object: Option<Pattern>,
    pub(crate) function: Pattern,
}

/// One spec.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// As it was written.
    pub(crate) text: String,
    /// The ways in which it can be a name, the likeliest first: as a whole.
    pub(crate) heads: Vec<Head>,
    /// It as a pattern, or why it cannot be one.
    reading: Result<Reading, String>,
}

const PREFIXES: &[(&str, Kind)] = &[
    ("call", Kind::Call),
    ("entry", Kind::Entry),
    ("ret", Kind::Return),
    ("return", Kind::Return),
    ("uprobe", Kind::Entry),
    ("u", Kind::Entry),
    ("p", Kind::Entry),
    ("uretprobe", Kind::Return),
    ("ur", Kind::Return),
    ("r", Kind::Return),
];

impl Spec {
    /// Understands `text`. What is wrong with it is said by [`Spec::reading`], when it is known to
    /// be no name.
    pub(crate) fn parse(text: &str) -> Self {
        Self {
            text: text.to_string(),
            heads: heads(text),
            reading: read(text).map_err(|error| error.to_string()),
        }
    }

    /// Every function of the main program: what no SPEC means.
    pub(crate) fn everything() -> Self {
        // As a pattern, whatever functions are called.
        Self { heads: Vec::new(), ..Self::parse("*") }
    }

    /// The spec as a pattern.
    ///
    /// # Errors
    /// It is none: exit code 2.
    pub(crate) fn reading(&self) -> anyhow::Result<&Reading> {
        self.reading.as_ref().map_err(|why| Failure::error(USAGE, why))
    }

    /// The spec as a pattern, where it is one.
    pub(crate) fn pattern(&self) -> Option<&Reading> {
        self.reading.as_ref().ok()
    }

    /// Whether it takes functions away, read as a pattern.
    pub(crate) fn excludes(&self) -> bool {
        self.pattern().is_some_and(|reading| reading.measure.exclude)
    }

    /// Whether it may mean objects that are not there yet.
    pub(crate) fn names_objects(&self) -> bool {
        self.pattern().is_some_and(|reading| !reading.measure.exclude && reading.object.is_some())
    }
}

fn read(text: &str) -> anyhow::Result<Reading> {
    let shown = crate::text::visible(text);
    let wrong = |why: &str| Failure::error(USAGE, format!("spec '{shown}': {why}"));
    let rest = text.trim();
    let (exclude, rest) =
        rest.strip_prefix('!').map_or((false, rest), |rest| (true, rest.trim_start()));
    let (kind, rest) = prefix(rest).map_or((None, rest), |(kind, rest)| (Some(kind), rest));
    let (object, function) = split(rest);
    if object.is_some_and(str::is_empty) {
        return Err(wrong("nothing before the ':'; write OBJECT:FUNCTION, as in libc:malloc"));
    }
    let (function, offset) = match offset(function) {
        Offset::None => (function, 0),
        Offset::Of(function, offset) => (function, offset),
        Offset::OutOfRange => return Err(wrong("the offset after '+' is out of range")),
    };
    if function.is_empty() {
        return Err(wrong("no function; write '*' for all of them"));
    }
    let kind = measured(kind, offset).ok_or_else(|| {
        wrong(
            "an instruction inside a function has no return; write entry: or leave the prefix away",
        )
    })?;
    Ok(Reading {
        measure: Measure { exclude, kind, offset },
        object: object.map(Pattern::new).transpose()?,
        function: Pattern::new(function)?,
    })
}

/// The ways in which `text` can be a name with something around it.
fn heads(text: &str) -> Vec<Head> {
    let mut heads = Vec::new();
    let trimmed = text.trim();
    let wholes = [Some(text), Some(trimmed).filter(|trimmed| trimmed.len() < text.len())];
    for whole in wholes.into_iter().flatten() {
        let excluded = whole.trim_start().strip_prefix('!').map(|rest| (true, rest.trim_start()));
        for (exclude, rest) in std::iter::once((false, whole)).chain(excluded) {
            let prefixed = prefix(rest).map(|(kind, rest)| (Some(kind), rest));
            for (kind, rest) in std::iter::once((None, rest)).chain(prefixed) {
                let inside = if let Offset::Of(rest, offset) = offset(rest) {
                    Some((rest, offset))
                } else {
                    None
                };
                for (rest, offset) in std::iter::once((rest, 0)).chain(inside) {
                    let Some(kind) = measured(kind, offset).filter(|_| !rest.is_empty()) else {
                        continue;
                    };
                    heads.push(Head {
                        measure: Measure { exclude, kind, offset },
                        rest: rest.to_string(),
                    });
                }
            }
        }
    }
    heads
}

/// What a prefix means at an offset; none: only the start of a function has a return.
fn measured(prefix: Option<Kind>, offset: u64) -> Option<Kind> {
    match (prefix, offset) {
        (kind, 0) => Some(kind.unwrap_or(Kind::Call)),
        (None | Some(Kind::Entry), _) => Some(Kind::Entry),
        _ => None,
    }
}

/// The prefix that `text` starts with, and what is behind it.
fn prefix(text: &str) -> Option<(Kind, &str)> {
    PREFIXES.iter().find_map(|(prefix, kind)| {
        let rest = text.strip_prefix(prefix)?.strip_prefix(':')?;
        (!rest.starts_with(':')).then_some((*kind, rest))
    })
}

/// The object and the function part: at the first single `:` that is not inside `/…/` or brackets
/// that are closed.
fn split(text: &str) -> (Option<&str>, &str) {
    // "/…/" alone is a regular expression, unless what is before a ":/" is a path or an expression
    // of its own.
    if text.len() > 2 && text.starts_with('/') && text.ends_with('/') {
        return match text.find(":/").filter(|&at| at + 2 < text.len() && text[1..at].contains('/'))
        {
            Some(at) => (Some(&text[..at]), &text[at + 1..]),
            None => (None, text),
        };
    }
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'[' | b'(' | b'{' | b'<' => at += closed(&bytes[at..]).unwrap_or(0) + 1,
            b':' => {
                let run = bytes[at..].iter().take_while(|&&b| b == b':').count();
                if run % 2 == 1 {
                    return (Some(&text[..at]), &text[at + 1..]);
                }
                at += run;
            }
            _ => at += 1,
        }
    }
    (None, text)
}

/// Where the bracket at the start of `text` is closed; the `>` of `->` closes nothing.
fn closed(text: &[u8]) -> Option<usize> {
    let (open, close) = match text.first()? {
        b'[' => (b'[', b']'),
        b'(' => (b'(', b')'),
        b'{' => (b'{', b'}'),
        _ => (b'<', b'>'),
    };
    let mut depth = 0_usize;
    for (at, &byte) in text.iter().enumerate() {
        if byte == open {
            depth += 1;
        } else if byte == close && !(close == b'>' && at > 0 && text[at - 1] == b'-') {
            depth -= 1;
            if depth == 0 {
                return Some(at);
            }
        }
    }
    None
}

/// What follows the last `+` of a text.
enum Offset<'a> {
    /// No number, or the sign of an operator.
    None,
    /// What is before it, and the number.
    Of(&'a str, u64),
    OutOfRange,
}

fn offset(text: &str) -> Offset<'_> {
    let Some((function, number)) = text.rsplit_once('+') else {
        return Offset::None;
    };
    if function.is_empty() || function.ends_with("operator") || text.ends_with('/') {
        return Offset::None;
    }
    let (digits, radix) = number.strip_prefix("0x").map_or((number, 10), |hex| (hex, 16));
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Offset::None;
    }
    u32::from_str_radix(digits, radix)
        .map_or(Offset::OutOfRange, |value| Offset::Of(function, u64::from(value)))
}

#[cfg(test)]
mod tests {
    use super::{Head, Kind, Measure, Reading, Spec};

    #[test]
    fn table() {
        use Kind::{Call, Entry, Return};
        for (text, exclude, kind, object, function, offset) in [
            ("malloc", false, Call, None, "malloc", 0),
            ("libc:malloc", false, Call, Some("libc"), "malloc", 0),
            ("call:libc:malloc", false, Call, Some("libc"), "malloc", 0),
            ("call:malloc", false, Call, None, "malloc", 0),
            ("redis-server:call", false, Call, Some("redis-server"), "call", 0),
            ("call", false, Call, None, "call", 0),
            ("entry:malloc", false, Entry, None, "malloc", 0),
            ("ret:libc:mal*", false, Return, Some("libc"), "mal*", 0),
            ("!free", true, Call, None, "free", 0),
            ("!libc:free", true, Call, Some("libc"), "free", 0),
            ("! entry:free", true, Entry, None, "free", 0),
            ("mycrate::db::*", false, Call, None, "mycrate::db::*", 0),
            ("prog:mycrate::db::*", false, Call, Some("prog"), "mycrate::db::*", 0),
            ("prog:::global", false, Call, Some("prog"), "::global", 0),
            ("u::v", false, Call, None, "u::v", 0),
            ("call::it", false, Call, None, "call::it", 0),
            ("/SSL_(read|write)/", false, Call, None, "/SSL_(read|write)/", 0),
            ("libssl:/SSL_(read|write)/", false, Call, Some("libssl"), "/SSL_(read|write)/", 0),
            ("libssl:/a:b/", false, Call, Some("libssl"), "/a:b/", 0),
            ("/usr/bin/redis-server:call", false, Call, Some("/usr/bin/redis-server"), "call", 0),
            (
                "/usr/lib/libssl.so.3:/SSL_(read|write)/",
                false,
                Call,
                Some("/usr/lib/libssl.so.3"),
                "/SSL_(read|write)/",
                0,
            ),
            ("/lib(ssl|crypto)/:/x/", false, Call, Some("/lib(ssl|crypto)/"), "/x/", 0),
            ("/lib(ssl|crypto)/:BIO_*", false, Call, Some("/lib(ssl|crypto)/"), "BIO_*", 0),
            ("uprobe:/bin/bash:readline", false, Entry, Some("/bin/bash"), "readline", 0),
            ("u:libc:malloc", false, Entry, Some("libc"), "malloc", 0),
            ("uretprobe:/bin/bash:readline", false, Return, Some("/bin/bash"), "readline", 0),
            ("ur:c:malloc", false, Return, Some("c"), "malloc", 0),
            ("p:c:malloc", false, Entry, Some("c"), "malloc", 0),
            ("r:c:malloc", false, Return, Some("c"), "malloc", 0),
            ("malloc+16", false, Entry, None, "malloc", 16),
            ("libc:malloc+0x1f", false, Entry, Some("libc"), "malloc", 31),
            ("V::operator+", false, Call, None, "V::operator+", 0),
            ("V::operator++", false, Call, None, "V::operator++", 0),
            ("V::operator++4", false, Entry, None, "V::operator+", 4),
            ("func@0x1234", false, Call, None, "func@0x1234", 0),
            ("/a+1/", false, Call, None, "/a+1/", 0),
            ("*[abi:cxx11]*", false, Call, None, "*[abi:cxx11]*", 0),
            ("lib:f[abi:cxx11]*", false, Call, Some("lib"), "f[abi:cxx11]*", 0),
            ("f<a:b>*", false, Call, None, "f<a:b>*", 0),
            ("-[Foo bar:baz:]*", false, Call, None, "-[Foo bar:baz:]*", 0),
            ("V::operator<*:x", false, Call, Some("V::operator<*"), "x", 0),
        ] {
            let spec = Spec::parse(text);
            let Reading { measure, object: place, function: named } = spec.reading().unwrap();
            let found = (
                measure.exclude,
                measure.kind,
                place.as_ref().map(|o| o.text()),
                named.text(),
                measure.offset,
            );
            assert_eq!(found, (exclude, kind, object, function, offset), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("", "no function"),
            ("!", "no function"),
            ("libc:", "no function"),
            (":malloc", "nothing before"),
            ("call:malloc+4", "no return"),
            ("ret:malloc+4", "no return"),
            ("malloc+99999999999", "out of range"),
            ("/(/", "not a regular expression"),
        ] {
            let error = Spec::parse(text).reading().unwrap_err();
            assert!(error.to_string().contains(why), "{text}: {error}");
            assert_eq!(crate::exit::code_of(&error), 2);
        }
    }

    #[test]
    fn ways_to_be_a_name() {
        let rests = |text: &str| -> Vec<(bool, Kind, u64, String)> {
            let heads = Spec::parse(text).heads.into_iter();
            heads
                .map(|Head { measure: Measure { exclude, kind, offset }, rest }| {
                    (exclude, kind, offset, rest)
                })
                .collect()
        };
        use Kind::{Call, Entry, Return};
        let is = |exclude, kind, offset, rest: &str| (exclude, kind, offset, rest.to_string());
        assert_eq!(rests("a:f"), [is(false, Call, 0, "a:f")]);
        assert_eq!(rests("f+4"), [is(false, Call, 0, "f+4"), is(false, Entry, 4, "f")]);
        assert_eq!(
            rests("!ret:f"),
            [is(false, Call, 0, "!ret:f"), is(true, Call, 0, "ret:f"), is(true, Return, 0, "f")]
        );
        assert_eq!(
            rests("ret:f+4"),
            [
                is(false, Call, 0, "ret:f+4"),
                is(false, Entry, 4, "ret:f"),
                is(false, Return, 0, "f+4")
            ]
        );
        assert_eq!(rests(" f"), [is(false, Call, 0, " f"), is(false, Call, 0, "f")]);
        assert_eq!(rests(""), []);
    }
}
