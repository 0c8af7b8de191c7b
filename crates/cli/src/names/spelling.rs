//! The name of a symbol that is shown, and all those under which it is found.

use super::demangle::{Language, demangle, language, unversioned, without_clone};
use super::generics::{method_of_type, without_generics};
use super::standard::abbreviated;
use crate::text::visible;
use std::borrow::Cow;

/// What stands for text that was cut out of a name that is too long for its line; more dots may
/// stand beside it.
const GAP: &str = "...";

/// The name to show: demangled, without a Rust hash and without C++ parameters.
pub(crate) fn display(raw: &str) -> String {
    shown(&abbreviated(&plain(raw, false)))
}

/// The name to show where [`display`] gives two functions the same: with C++ parameters and the
/// Rust hash.
pub(crate) fn full(raw: &str) -> String {
    shown(&abbreviated(&plain(raw, true)))
}

/// The name to show where [`full`] gives two functions the same: types of the standard library are
/// spelled out, and so are the versions that they have.
pub(crate) fn exact(raw: &str) -> String {
    shown(&plain(raw, true))
}

fn shown(name: &str) -> String {
    visible(name).into_owned()
}

/// For suggestions: demangled without generics.
pub(crate) fn short(raw: &str) -> String {
    without_generics(&display(raw))
}

fn plain(raw: &str, whole: bool) -> String {
    let raw = unversioned(raw);
    let language = language(raw);
    match demangle(raw, language, whole) {
        // What the compiler split off has no other mark left.
        Some(name) if language == Language::Cpp => name + suffix(raw),
        Some(name) => name,
        None => raw.to_string(),
    }
}

/// The compiler's suffix of a mangled name, with its dot.
fn suffix(raw: &str) -> &str {
    raw.find('.').map_or("", |at| &raw[at..])
}

/// Whether the linker's name is another one than the source's.
pub(crate) fn is_mangled(raw: &str) -> bool {
    language(raw) != Language::C
}

/// Calls `see` with every name by which the function of the symbol `raw` may be asked for: the
/// linker's own; demangled, with and without parameters, hash and generics; all of them as they are
/// printed. Some come twice.
pub(crate) fn each_spelling(raw: &str, mut see: impl FnMut(&str)) {
    let mut see = |name: &str| {
        see(name);
        if let Cow::Owned(shown) = visible(name) {
            see(&shown);
        }
    };
    see(raw);
    let known = unversioned(raw);
    if known.len() != raw.len() {
        see(known);
    }
    let original = without_clone(known);
    if original.len() != known.len() {
        see(original);
    }
    if !is_mangled(known) {
        return;
    }
    for whole in [false, true] {
        for name in forms(known, whole) {
            bare_forms(&name).iter().for_each(|bare| see(bare));
            see(&name);
        }
    }
}

/// The demangled names of a symbol, with parameters and hash if `whole`; none where nothing is
/// mangled.
pub(crate) fn forms(raw: &str, whole: bool) -> Vec<String> {
    let known = unversioned(raw);
    let language = language(known);
    let Some(name) = demangle(known, language, whole) else { return Vec::new() };
    let suffix = if language == Language::Cpp { suffix(known) } else { "" };
    let mut forms = Vec::new();
    if !suffix.is_empty() && without_clone(known).len() != known.len() {
        // The copy is the function, and has a name of its own as well.
        forms.push(name.clone());
    }
    forms.push(name + suffix);
    for at in 0..forms.len() {
        let short = abbreviated(&forms[at]);
        if *short != *forms[at] {
            forms.push(short.into_owned());
        }
    }
    forms
}

/// A demangled name without generics, and without the trait that a method is of.
pub(crate) fn bare_forms(name: &str) -> Vec<String> {
    let bare = without_generics(name);
    let method = method_of_type(&bare);
    std::iter::once(bare).chain(method).collect()
}

/// What is left of a name where some of it was cut out: pieces with any text between them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Parts(Vec<String>);

/// The pieces of a name that has gaps (`std::map<...>::find`); none without a gap.
pub(crate) fn elided(text: &str) -> Option<Parts> {
    let mut parts: Vec<String> =
        text.split(GAP).map(|part| part.trim_matches('.').to_string()).collect();
    // The ends are those of the name.
    if let Some(first) = parts.first_mut() {
        *first = text.split(GAP).next().unwrap_or_default().to_string();
    }
    if let Some(last) = parts.last_mut() {
        *last = text.rsplit(GAP).next().unwrap_or_default().to_string();
    }
    (parts.len() > 1 && parts.iter().any(|part| part.chars().any(char::is_alphanumeric)))
        .then_some(Parts(parts))
}

/// Whether `name` is what the pieces were left of.
pub(crate) fn with_parts(name: &str, Parts(parts): &Parts) -> bool {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    let Some(mut rest) =
        name.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str()))
    else {
        return false;
    };
    parts[1..parts.len() - 1].iter().all(|part| match rest.find(part.as_str()) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}
