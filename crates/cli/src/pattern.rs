//! A pattern of a spec: an exact name, a glob or a regular expression, and a cheap test whether a
//! mangled name can match at all.
//!
//! Globs know `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before a character that means itself or as the
//! escapes of [`crate::text`]. A name is not a path: `*` takes every character, `:` and `/` among
//! them. Braces mean themselves, since Rust has `{{closure}}` in its names.

use crate::exit::{Failure, USAGE};
use crate::names::{self, without_generics};
use crate::text::unescape;
use regex::Regex;
use std::sync::OnceLock;

/// What is written in a spec's object or function part.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: String,
    matcher: Matcher,
    /// Words that stand in every demangled name that matches, and therefore in the mangled one.
    /// Empty: nothing is known. Found when they are first asked for: most patterns are texts that
    /// are looked up.
    words: OnceLock<Vec<String>>,
    /// Generics and parameters count, because the spec has some. In a regular expression, `\(`
    /// stands for parameters.
    pub(crate) generics: bool,
    parameters: bool,
}

#[derive(Debug, Clone)]
enum Matcher {
    Exact,
    Everything,
    Regex(Box<Regex>),
}

/// The characters that make a text a glob.
const SIGNS: [char; 4] = ['*', '?', '[', '\\'];

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
    "stream",
    "streambuf",
    "filebuf",
    "ios",
];

impl Pattern {
    /// `/…/` is a regular expression that may match anywhere in a name; the rest is a glob over the
    /// whole name.
    pub(crate) fn new(text: &str) -> anyhow::Result<Self> {
        let wrong = |error: &regex::Error| {
            let why = error.to_string();
            let why =
                why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
            Failure::error(USAGE, format!("{text} is not a regular expression: {why}"))
        };
        let expression = expression(text);
        let matcher = if let Some(expression) = expression {
            Matcher::Regex(Box::new(Regex::new(expression).map_err(|error| wrong(&error))?))
        } else if !text.is_empty() && text.chars().all(|c| c == '*') {
            Matcher::Everything
        } else if text.contains(SIGNS) {
            Matcher::Regex(Box::new(Regex::new(&of_glob(text)).map_err(|error| wrong(&error))?))
        } else {
            Matcher::Exact
        };
        let written = expression.is_none();
        Ok(Self {
            generics: written && without_generics(text) != text,
            parameters: if written { text.contains('(') } else { text.contains("\\(") },
            words: OnceLock::new(),
            text: text.to_string(),
            matcher,
        })
    }

    /// Whether it matches `name` as it stands.
    pub(crate) fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Everything => true,
            Matcher::Exact => self.text == name,
            Matcher::Regex(regex) => regex.is_match(name),
        }
    }

    /// Whether `raw`, a symbol's name, is what is meant: as it is, or demangled. Generics and
    /// parameters count only where the pattern has some.
    pub(crate) fn means(&self, raw: &str) -> bool {
        if self.everything()
            || self.matches(names::unversioned(raw))
            || self.matches(names::original(raw))
        {
            return true;
        }
        if !names::is_mangled(raw) || !self.may_match_mangled(raw) {
            return false;
        }
        let bare = |name: &str| {
            !self.generics && names::bare_forms(name).iter().any(|name| self.matches(name))
        };
        names::forms(raw, self.parameters).iter().any(|name| self.matches(name) || bare(name))
    }

    /// Whether `name`, a function's in the source with what it is in but without parameters, is
    /// what is meant. Generics count only where the pattern has some.
    pub(crate) fn means_in_source(&self, name: &str) -> bool {
        let bare = || names::bare_forms(name).iter().any(|name| self.matches(name));
        self.matches(name) || !self.generics && bare()
    }

    /// Whether it takes every name.
    pub(crate) fn everything(&self) -> bool {
        matches!(self.matcher, Matcher::Everything)
    }

    /// Whether only one name matches, and that is the text.
    pub(crate) fn exact(&self) -> bool {
        matches!(self.matcher, Matcher::Exact)
    }

    /// Whether it can mean several things, of which some may not be there yet.
    pub(crate) fn several(&self) -> bool {
        !matches!(self.matcher, Matcher::Exact) && !self.everything()
    }

    /// Whether a name that starts with `prefix` could match.
    pub(crate) fn may_start_with(&self, prefix: &str) -> bool {
        if self.exact() {
            return self.text.starts_with(prefix);
        }
        if self.text.starts_with('/') && self.text.ends_with('/') {
            return true;
        }
        let fixed = self.text.split(SIGNS).next().unwrap_or("");
        fixed.starts_with(prefix) || prefix.starts_with(fixed)
    }

    /// False only if no demangling of `mangled` matches.
    fn may_match_mangled(&self, mangled: &str) -> bool {
        self.generics
            || self.parameters
            || self.words().iter().all(|word| mangled.contains(word.as_str()))
    }

    fn words(&self) -> &[String] {
        self.words.get_or_init(|| {
            if expression(&self.text).is_some() || self.text.contains(['[', '\\', '<', '(']) {
                Vec::new()
            } else {
                words(&self.text)
            }
        })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// What stands between the slashes of `/…/`.
fn expression(text: &str) -> Option<&str> {
    text.strip_prefix('/').and_then(|t| t.strip_suffix('/')).filter(|t| !t.is_empty())
}

/// The regular expression that takes what `glob` takes.
fn of_glob(glob: &str) -> String {
    let mut expression = String::from("(?s)^");
    let mut rest = glob;
    while let Some(c) = rest.chars().next() {
        let (piece, used) = match c {
            '*' => (".*".to_string(), 1),
            '?' => (".".to_string(), 1),
            '\\' => {
                let (meant, used) = unescape(rest)
                    .or_else(|| rest[1..].chars().next().map(|c| (c, 1 + c.len_utf8())))
                    .unwrap_or((c, 1));
                (regex::escape(&meant.to_string()), used)
            }
            '[' => class(&rest[1..])
                .map_or_else(|| ("\\[".to_string(), 1), |(class, used)| (class, 1 + used)),
            c => (regex::escape(&c.to_string()), c.len_utf8()),
        };
        expression.push_str(&piece);
        rest = &rest[used..];
    }
    expression.push('$');
    expression
}

/// The class whose `[` was just read, and how much of `text` it takes with its `]`.
fn class(text: &str) -> Option<(String, usize)> {
    let negated = text.starts_with(['!', '^']);
    let start = usize::from(negated);
    // A `]` in front means itself.
    let end = start + text.get(start..)?.char_indices().find(|&(at, c)| c == ']' && at > 0)?.0;
    let chars: Vec<char> = text[start..end].chars().collect();
    let mut members = String::new();
    let mut at = 0;
    while at < chars.len() {
        let (low, high, used) = match chars.get(at + 1..at + 3) {
            Some(&['-', high]) => (chars[at], high, 3),
            _ => (chars[at], chars[at], 1),
        };
        if low <= high {
            members.push_str(&format!("\\x{{{:x}}}-\\x{{{:x}}}", u32::from(low), u32::from(high)));
        }
        at += used;
    }
    let class = match (negated, members.is_empty()) {
        (false, true) => r"[^\s\S]".to_string(),
        (true, true) => ".".to_string(),
        (false, false) => format!("[{members}]"),
        (true, false) => format!("[^{members}]"),
    };
    Some((class, end + 1))
}

/// Identifiers that stand in `text` outside of all brackets. Demanglers keep every identifier in
/// one piece, so that the mangled name has them too; what is in brackets may be an abbreviation
/// there.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut depth = 0_usize;
    for c in text.chars() {
        match c {
            '<' | '(' | '[' | '{' => depth += 1,
            '>' | ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match words.last_mut() {
            Some(word) if depth == 0 && (c.is_ascii_alphanumeric() || c == '_') => word.push(c),
            Some(word) if !word.is_empty() => words.push(String::new()),
            _ => {}
        }
    }
    words.retain(|word| {
        word.len() >= 3
            && !MADE_UP
                .iter()
                .any(|made_up| made_up.contains(word.as_str()) || word.contains(made_up))
    });
    words
}

#[cfg(test)]
mod tests {
    use super::{Pattern, words};

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
        assert!(pattern("*").everything() && pattern("**").everything());
        assert!(
            !pattern("a*").everything()
                && !pattern("/./").everything()
                && !pattern("").everything()
        );
        assert!(Pattern::new("/(/").unwrap_err().to_string().contains("not a regular expression"));
    }

    #[test]
    fn globs() {
        for (glob, name, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything::at/all", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2b3", false),
            ("a*c", "a\nc", true),
            ("process*", "processCommand", true),
            ("?", "", false),
            ("f?o", "foo", true),
            ("f[a-o]o", "foo", true),
            ("f[!a-n]o", "foo", true),
            ("f[^a-n]o", "foo", true),
            ("f[!a-o]o", "foo", false),
            ("f[z-a]o", "foo", false),
            ("f[!z-a]o", "foo", true),
            ("f[]]o", "f]o", true),
            ("f[!]]o", "foo", true),
            ("f[-x]", "f-", true),
            ("f[a^&&b]", "f&", true),
            ("f[o", "f[o", true),
            ("f.o(o)+", "f.o(o)+", true),
            ("f.*", "fxx", false),
            (r"operator\*", "operator*", true),
            (r"operator\*", "operatorx", false),
            (r"a\x1b*", "a\x1b[31m", true),
            (r"a\n?", "a\nb", true),
            (r"\u{202e}*", "\u{202e}gnp", true),
            (r"end\", "end\\", true),
            ("{{closure}}", "{{closure}}", true),
            ("db::*::open", "db::x::y::open", true),
            ("*é*", "café au lait", true),
            ("[é]", "é", true),
        ] {
            assert_eq!(pattern(glob).matches(name), expected, "{glob} on {name}");
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        let name = "a".repeat(5_000);
        assert!(!pattern(&("*a".repeat(40) + "*b")).matches(&name));
    }

    #[test]
    fn what_a_spec_means() {
        const LEGACY: &str = "_ZN7mycrate2db4open17h0123456789abcdefE";
        const LEGACY_DROP: &str = "_ZN68_$LT$mycrate..db..Conn$LT$T$GT$$u20$as$u20$core..ops..drop\
            ..Drop$GT$4drop17h0123456789abcdefE";
        const V0_GENERIC: &str = "_RINvNtC7mycrate2db4sortmE";
        for (text, raw, expected) in [
            ("malloc", "malloc", true),
            ("malloc", "malloc@@GLIBC_2.2.5", true),
            ("malloc", "mallocx", false),
            ("f", "f.constprop.0", true),
            ("f", "f.isra.0.constprop.1", true),
            ("f", "f.part.0", false),
            ("f", "f.cold", false),
            ("f.cold", "f.cold", true),
            ("mycrate::db::open", LEGACY, true),
            ("mycrate::db::*", LEGACY, true),
            ("mycrate::*::open", LEGACY, true),
            ("db::open", LEGACY, false),
            ("*db::open", LEGACY, true),
            ("mycrate::db::Conn::drop", LEGACY_DROP, true),
            ("<mycrate::db::Conn as core::ops::drop::Drop>::drop", LEGACY_DROP, true),
            ("<mycrate::db::Conn<T> as core::ops::drop::Drop>::drop", LEGACY_DROP, true),
            ("mycrate::db::sort", V0_GENERIC, true),
            ("mycrate::db::sort::<u32>", V0_GENERIC, true),
            ("mycrate::db::sort::<u64>", V0_GENERIC, false),
            ("std::vector::push_back", "_ZNSt6vectorIiSaIiEE9push_backERKi", true),
            (
                "std::vector<int, std::allocator<int> >::push_back",
                "_ZNSt6vectorIiSaIiEE9push_backERKi",
                true,
            ),
            ("std::vector<char>::push_back", "_ZNSt6vectorIiSaIiEE9push_backERKi", false),
            (
                "std::string::app*",
                "_ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE6appendEPKc",
                true,
            ),
            (
                "*basic_string*app*",
                "_ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE6appendEPKc",
                true,
            ),
            ("thrower", "_Z7throweri", true),
            ("thrower(int)", "_Z7throweri", true),
            ("thrower(char)", "_Z7throweri", false),
            ("/^app::Box::work\\(long\\)/", "_ZNK3app3Box4workEl", true),
            ("/^app::Box::work\\(long\\)/", "_ZNK3app3Box4workEll", false),
            ("/^app::Box::work$/", "_ZNK3app3Box4workEll", true),
            ("*int*", "_Z7throweri", false),
            ("app::*hidden*", "_ZN3app12_GLOBAL__N_16hiddenEl", true),
            ("V::operator<", "_ZN1VltERKS_", true),
            ("V::operator<<", "_ZN1VlsEi", true),
            ("V::operator+", "_ZN1VplERKS_", true),
            ("/^mycrate/", LEGACY, true),
            ("_ZN7mycrate*", LEGACY, true),
            ("func@0x10", "func@0x10", true),
        ] {
            assert_eq!(pattern(text).means(raw), expected, "{text} on {raw}");
        }
    }

    #[test]
    fn a_mangled_name_is_left_out_only_if_it_cannot_match() {
        assert!(
            pattern("mycrate::db::*").may_match_mangled("_ZN7mycrate2db4open17h0123456789abcdefE")
        );
        assert!(
            !pattern("mycrate::db::*").may_match_mangled("_ZN5other2db4open17h0123456789abcdefE")
        );
        assert!(pattern("std::string::append").may_match_mangled("_ZNSs6appendEPKc"));
        assert!(pattern("foo::op*").may_match_mangled("_ZN3fooplEi"));
        assert!(pattern("/anything/").may_match_mangled("_Z1fv"));
        assert!(pattern("f<int>").may_match_mangled("_Z1fIiEvv"));
        assert_eq!(words("app::(anonymous namespace)::hidden<my::Type>(other)"), ["app", "hidden"]);
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
