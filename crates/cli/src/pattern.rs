//! A pattern of a spec: an exact name, a glob or a regular expression, and a cheap test whether a mangled name can match at all.

use crate::exit::{Failure, USAGE};
use crate::glob::Glob;
use crate::names::without_generics;
use regex::Regex;

/// What is written in a spec's object or function part.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: String,
    matcher: Matcher,
    /// Words that stand in every demangled name that matches, and therefore in the mangled one. Empty: nothing is known.
    words: Vec<String>,
    /// Generics and parameters count, because the spec has some. In a regular expression, `\(` stands for parameters.
    pub(crate) generics: bool,
    pub(crate) parameters: bool,
}

#[derive(Debug, Clone)]
enum Matcher {
    Exact,
    Glob(Glob),
    Regex(Box<Regex>),
}

/// Words that a demangler makes up from abbreviations: they need not stand in the mangled name.
const MADE_UP: &[&str] = &[
    "operator",
    "new",
    "delete",
    "std",
    "basic_string",
    "string",
    "allocator",
    "char_traits",
    "basic_istream",
    "basic_ostream",
    "basic_iostream",
    "unsigned",
    "signed",
    "short",
    "int",
    "long",
    "char",
    "wchar_t",
    "char8_t",
    "char16_t",
    "char32_t",
    "bool",
    "float",
    "double",
    "void",
    "const",
    "volatile",
    "__int128",
    "nullptr_t",
    "closure",
    "lambda",
    "unnamed",
    "shim",
    "vtable",
    "impl",
    "dyn",
    "isize",
    "usize",
    "i128",
    "u128",
    "i16",
    "i32",
    "i64",
    "u16",
    "u32",
    "u64",
    "f32",
    "f64",
    "str",
    "extern",
    "unsafe",
    "mut",
    "for",
    "auto",
    "decltype",
    "virtual",
    "thunk",
    "covariant",
    "return",
    "guard",
    "variable",
    "initializer",
    "anonymous",
    "namespace",
];

impl Pattern {
    /// `/…/` is a regular expression that may match anywhere in a name; the rest is a glob over the whole name.
    pub(crate) fn new(text: &str) -> anyhow::Result<Self> {
        let (matcher, words) = match text.strip_prefix('/').and_then(|t| t.strip_suffix('/')) {
            Some(expression) if !expression.is_empty() => {
                let regex = Regex::new(expression)
                    .map_err(|e| Failure::error(USAGE, format!("{text} is not a regular expression: {}", last_line(&e.to_string()))))?;
                (Matcher::Regex(Box::new(regex)), Vec::new())
            }
            _ if text.contains(['*', '?', '[', '\\']) => (Matcher::Glob(Glob::new(text)), words(text)),
            _ => (Matcher::Exact, words(text)),
        };
        let written = !matches!(matcher, Matcher::Regex(_));
        Ok(Self {
            generics: written && without_generics(text) != text,
            parameters: if written { text.contains('(') } else { text.contains("\\(") },
            text: text.to_string(),
            matcher,
            words,
        })
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Exact => self.text == name,
            Matcher::Glob(glob) => glob.matches(name),
            Matcher::Regex(regex) => regex.is_match(name),
        }
    }

    /// Whether it takes every name.
    pub(crate) fn everything(&self) -> bool {
        matches!(&self.matcher, Matcher::Glob(glob) if glob.everything())
    }

    /// Whether a name that starts with `prefix` could match.
    pub(crate) fn may_start_with(&self, prefix: &str) -> bool {
        match &self.matcher {
            Matcher::Regex(_) => true,
            Matcher::Exact => self.text.starts_with(prefix),
            Matcher::Glob(_) => {
                let fixed = self.text.split(['*', '?', '[', '\\']).next().unwrap_or("");
                fixed.starts_with(prefix) || prefix.starts_with(fixed)
            }
        }
    }

    /// False only if no demangling of `mangled` matches: demanglers keep every identifier in one piece.
    pub(crate) fn may_match_mangled(&self, mangled: &str) -> bool {
        self.generics || self.parameters || self.words.iter().all(|word| mangled.contains(word.as_str()))
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

fn words(text: &str) -> Vec<String> {
    if text.contains(['[', '\\', '<', '(']) {
        return Vec::new();
    }
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.len() >= 3 && !MADE_UP.iter().any(|made_up| made_up.contains(word) || word.contains(made_up)))
        .map(str::to_string)
        .collect()
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or(text).trim_start_matches("error: ")
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    #[test]
    fn three_kinds() {
        assert!(pattern("malloc").matches("malloc"));
        assert!(!pattern("malloc").matches("mallocx"));
        assert!(pattern("mal*").matches("mallocx"));
        assert!(pattern("/SSL_(read|write)/").matches("SSL_read_ex"));
        assert!(!pattern("/^SSL_(read|write)$/").matches("SSL_read_ex"));
        assert!(pattern("*").everything() && !pattern("a*").everything() && !pattern("/./").everything());
        assert!(Pattern::new("/(/").unwrap_err().to_string().contains("not a regular expression"));
    }

    #[test]
    fn a_mangled_name_is_left_out_only_if_it_cannot_match() {
        assert!(pattern("mycrate::db::*").may_match_mangled("_ZN7mycrate2db4open17h0123456789abcdefE"));
        assert!(!pattern("mycrate::db::*").may_match_mangled("_ZN5other2db4open17h0123456789abcdefE"));
        assert!(pattern("std::string::append").may_match_mangled("_ZNSs6appendEPKc"));
        assert!(pattern("foo::op*").may_match_mangled("_ZN3fooplEi"));
        assert!(pattern("/anything/").may_match_mangled("_Z1fv"));
        assert!(pattern("f<int>").may_match_mangled("_Z1fIiEvv"));
    }

    #[test]
    fn beginnings() {
        assert!(pattern("func@0x10").may_start_with("func@"));
        assert!(pattern("*").may_start_with("func@"));
        assert!(pattern("fu*").may_start_with("func@"));
        assert!(pattern("/x/").may_start_with("func@"));
        assert!(!pattern("malloc").may_start_with("func@"));
        assert!(!pattern("mal*").may_start_with("func@"));
    }
}
