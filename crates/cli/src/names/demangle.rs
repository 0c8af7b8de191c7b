//! Symbol names as linkers have them: which language, which version, which copy; and demangled.

use cpp_demangle::{BorrowedSymbol, DemangleOptions, ParseOptions, Symbol};

/// Nesting at which a demangler gives up: hostile names must not use up the stack.
const DEPTH: u32 = 96;
/// A longer mangled name is shown as it is.
const LONGEST: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    C,
    Cpp,
    Rust,
}

/// `malloc@@GLIBC_2.2.5` is `malloc`; `func@0x1234` is our own name for a function that has none.
pub(crate) fn unversioned(raw: &str) -> &str {
    match raw.split_once('@') {
        Some(("func", _)) => raw,
        Some((name, _)) if !name.is_empty() => name,
        _ => raw,
    }
}

/// The compiler's whole copies of a function (`f.constprop.0`, `f.isra.1`, `f.lto_priv.2`,
/// `f.llvm.3`) are the function; parts of it (`f.part.0`, `f.cold`) are not.
pub(super) fn without_clone(raw: &str) -> &str {
    let Some(at) = raw.find('.').filter(|&at| at > 0) else {
        return raw;
    };
    let whole = raw[at + 1..].split('.').all(|piece| {
        matches!(piece, "constprop" | "isra" | "lto_priv" | "llvm")
            || piece.bytes().all(|b| b.is_ascii_digit())
    });
    if whole { &raw[..at] } else { raw }
}

/// The source's name of a symbol of C: without version and without the mark of a copy.
pub(crate) fn original(raw: &str) -> &str {
    without_clone(unversioned(raw))
}

/// Whether a symbol is a part that the compiler split off and that is only jumped to.
pub(crate) fn is_cold_part(raw: &str) -> bool {
    raw.ends_with(".cold") || raw.contains(".cold.")
}

pub(super) fn language(raw: &str) -> Language {
    if raw.len() > LONGEST {
        Language::C
    } else if raw.starts_with("_R") || (raw.starts_with("_ZN") && has_rust_hash(raw)) {
        Language::Rust
    } else if raw.starts_with("_Z") || raw.starts_with("__Z") {
        Language::Cpp
    } else {
        Language::C
    }
}

/// Legacy Rust names end in `17h`, sixteen hexadecimal digits, `E`.
fn has_rust_hash(raw: &str) -> bool {
    let end = raw.rfind("E.").unwrap_or(raw.len().saturating_sub(1));
    let Some(hash) = raw.get(end.saturating_sub(19)..end) else {
        return false;
    };
    raw[end..].starts_with('E')
        && hash
            .strip_prefix("17h")
            .is_some_and(|h| h.len() == 16 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The name without the compiler's suffix, with parameters (C++) or the hash (Rust) if `whole`.
/// None: nothing that can be demangled.
pub(super) fn demangle(raw: &str, language: Language, whole: bool) -> Option<String> {
    match language {
        Language::C => None,
        Language::Rust => {
            let name = rustc_demangle::try_demangle(raw).ok()?;
            Some(if whole { name.to_string() } else { format!("{name:#}") })
        }
        Language::Cpp => {
            let mangled = raw.split('.').next().unwrap_or(raw);
            let options = ParseOptions::default().recursion_limit(DEPTH);
            let (symbol, _): (BorrowedSymbol<'_>, _) =
                Symbol::with_tail_and_options(mangled.as_bytes(), &options).ok()?;
            let options = DemangleOptions::default().recursion_limit(DEPTH).no_return_type();
            let options = if whole { options } else { options.no_params() };
            symbol.demangle_with_options(&options).ok().map(literal_operators)
        }
    }
}

/// `operator"" _x` as it is written: cpp_demangle has `operator_x::operator ""` for it.
fn literal_operators(name: String) -> String {
    const MADE_UP: &str = "::operator \"\"";
    let Some(at) = name.find(MADE_UP) else { return name };
    let before = name[..at].char_indices().rev().find(|(_, c)| !c.is_alphanumeric() && *c != '_');
    let start = before.map_or(0, |(at, c)| at + c.len_utf8());
    match name[start..at].strip_prefix("operator") {
        Some(suffix) => {
            let rest = literal_operators(name[at + MADE_UP.len()..].to_string());
            format!("{}operator\"\" {suffix}{rest}", &name[..start])
        }
        None => name,
    }
}
