//! Probe specs: `[!][call:|entry:|ret:][object:]function[+offset]`.
//!
//! A single `:` separates, `::` never does. Prefixes of bpftrace and bcc are understood.

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

/// One spec, parsed.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// As it was written.
    pub(crate) text: String,
    /// Takes functions away that other specs matched.
    pub(crate) exclude: bool,
    pub(crate) kind: Kind,
    /// None: the main program, and its libraries when nothing matches there.
    pub(crate) object: Option<Pattern>,
    pub(crate) function: Pattern,
    /// The probed instruction, in bytes from the function's start.
    pub(crate) offset: u64,
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
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let wrong = |why: &str| Failure::error(USAGE, format!("spec '{text}': {why}"));
        let mut rest = text.trim();
        let exclude = rest.strip_prefix('!').map(|r| rest = r.trim_start()).is_some();
        let mut kind = None;
        for (prefix, meant) in PREFIXES {
            if let Some(after) = rest.strip_prefix(prefix).and_then(|r| r.strip_prefix(':')).filter(|r| !r.starts_with(':')) {
                kind = Some(*meant);
                rest = after;
                break;
            }
        }
        let (object, function) = split(rest);
        if object.is_some_and(str::is_empty) {
            return Err(wrong("nothing before the ':'; write OBJECT:FUNCTION, as in libc:malloc"));
        }
        let (function, offset) = offset(function).ok_or_else(|| wrong("the offset after '+' is out of range"))?;
        if function.is_empty() {
            return Err(wrong("no function; write '*' for all of them"));
        }
        if offset != 0 && matches!(kind, Some(Kind::Call | Kind::Return)) {
            return Err(wrong("an instruction inside a function has no return; write entry: or leave the prefix away"));
        }
        let kind = kind.unwrap_or(if offset == 0 { Kind::Call } else { Kind::Entry });
        Ok(Self {
            text: text.to_string(),
            exclude,
            kind,
            object: object.map(Pattern::new).transpose()?,
            function: Pattern::new(function)?,
            offset,
        })
    }

    /// Every function of the main program: what no SPEC means.
    pub(crate) fn everything() -> Self {
        Self::parse("*").expect("a constant spec")
    }

    pub(crate) fn parse_all<'a>(texts: impl IntoIterator<Item = &'a String>) -> anyhow::Result<Vec<Self>> {
        let mut specs = texts.into_iter().map(|text| Self::parse(text)).collect::<anyhow::Result<Vec<_>>>()?;
        if specs.iter().all(|spec| spec.exclude) {
            specs.push(Self::everything());
        }
        Ok(specs)
    }
}

/// The object and the function part: at the first single `:` that is not inside `/…/`.
fn split(text: &str) -> (Option<&str>, &str) {
    // "/…/" alone is a regular expression, unless what is before a ":/" is a path or an expression of its own.
    if text.len() > 2 && text.starts_with('/') && text.ends_with('/') {
        return match text.find(":/").filter(|&at| at + 2 < text.len() && text[1..at].contains('/')) {
            Some(at) => (Some(&text[..at]), &text[at + 1..]),
            None => (None, text),
        };
    }
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b':' {
            at += 1;
            continue;
        }
        let run = bytes[at..].iter().take_while(|&&b| b == b':').count();
        if run % 2 == 1 {
            return (Some(&text[..at]), &text[at + 1..]);
        }
        at += run;
    }
    (None, text)
}

/// The function and its `+offset`; `operator+` has none. None: the number does not fit.
fn offset(text: &str) -> Option<(&str, u64)> {
    let Some((function, number)) = text.rsplit_once('+') else {
        return Some((text, 0));
    };
    if function.is_empty() || function.ends_with("operator") || text.ends_with('/') {
        return Some((text, 0));
    }
    let (digits, radix) = number.strip_prefix("0x").map_or((number, 10), |hex| (hex, 16));
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Some((text, 0));
    }
    u32::from_str_radix(digits, radix).ok().map(|value| (function, u64::from(value)))
}

#[cfg(test)]
mod tests {
    use super::{Kind, Spec};

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
            ("/usr/lib/libssl.so.3:/SSL_(read|write)/", false, Call, Some("/usr/lib/libssl.so.3"), "/SSL_(read|write)/", 0),
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
        ] {
            let spec = Spec::parse(text).unwrap();
            let found = (spec.exclude, spec.kind, spec.object.as_ref().map(|o| o.text()), spec.function.text(), spec.offset);
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
            let error = Spec::parse(text).unwrap_err();
            assert!(error.to_string().contains(why), "{text}: {error}");
            assert_eq!(crate::exit::code_of(&error), 2);
        }
    }

    #[test]
    fn no_spec_or_only_exclusions_mean_everything() {
        let parse = |texts: &[&str]| Spec::parse_all(&texts.iter().map(|t| (*t).to_string()).collect::<Vec<_>>()).unwrap();
        assert!(parse(&[]).iter().any(|s| s.function.everything() && !s.exclude));
        assert!(parse(&["!a*"]).iter().any(|s| s.function.everything() && !s.exclude));
        assert_eq!(parse(&["a*", "!ab*"]).len(), 2);
    }
}
