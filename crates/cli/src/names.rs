//! Names of functions as people write them: demangled C++ and Rust, without the compiler's additions.

use crate::pattern::Pattern;
use cpp_demangle::{BorrowedSymbol, DemangleOptions, ParseOptions, Symbol};

/// Nesting at which a demangler gives up: hostile names must not use up the stack.
const DEPTH: u32 = 96;
/// A longer mangled name is shown as it is.
const LONGEST: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    C,
    Cpp,
    Rust,
}

/// Whether `raw`, a symbol's name, is what `pattern` means.
pub(crate) fn matches(pattern: &Pattern, raw: &str) -> bool {
    if pattern.everything() {
        return true;
    }
    let raw = unversioned(raw);
    if pattern.matches(raw) {
        return true;
    }
    let plain = without_clone(raw);
    let language = language(raw);
    if language == Language::C {
        return plain.len() != raw.len() && pattern.matches(plain);
    }
    if !pattern.may_match_mangled(raw) {
        return false;
    }
    let Some(full) = demangle(raw, language, pattern.parameters) else {
        return false;
    };
    if pattern.matches(&full) {
        return true;
    }
    if pattern.generics {
        return false;
    }
    let stripped = without_generics(&full);
    pattern.matches(&stripped) || method_of_type(&stripped).is_some_and(|name| pattern.matches(&name))
}

/// The name to show: demangled, without a Rust hash and without C++ parameters.
pub(crate) fn display(raw: &str) -> String {
    shown(raw, false)
}

/// The name to show where [`display`] gives two functions the same: with C++ parameters and the Rust hash.
pub(crate) fn display_full(raw: &str) -> String {
    let raw = unversioned(raw);
    match language(raw) {
        Language::Rust => rustc_demangle::try_demangle(raw).map_or_else(|_| raw.to_string(), |name| name.to_string()),
        _ => shown(raw, true),
    }
}

fn shown(raw: &str, parameters: bool) -> String {
    let raw = unversioned(raw);
    let language = language(raw);
    let mut name = demangle(raw, language, parameters).unwrap_or_else(|| raw.to_string());
    if language == Language::Cpp && name != raw {
        // What the compiler split off has no other mark left.
        if let Some(at) = raw.find('.') {
            name.push_str(&raw[at..]);
        }
    }
    name
}

/// For suggestions: demangled without generics.
pub(crate) fn short(raw: &str) -> String {
    without_generics(&display(raw))
}

/// `malloc@@GLIBC_2.2.5` is `malloc`; `func@0x1234` is our own name for a function that has none.
fn unversioned(raw: &str) -> &str {
    match raw.split_once('@') {
        Some(("func", _)) => raw,
        Some((name, _)) if !name.is_empty() => name,
        _ => raw,
    }
}

/// The compiler's whole copies of a function (`f.constprop.0`, `f.isra.1`, `f.lto_priv.2`, `f.llvm.3`) are the function; parts of it (`f.part.0`, `f.cold`) are not.
fn without_clone(raw: &str) -> &str {
    let Some(at) = raw.find('.').filter(|&at| at > 0) else {
        return raw;
    };
    let whole = raw[at + 1..]
        .split('.')
        .all(|piece| matches!(piece, "constprop" | "isra" | "lto_priv" | "llvm") || piece.bytes().all(|b| b.is_ascii_digit()));
    if whole { &raw[..at] } else { raw }
}

/// Whether a symbol is a part that the compiler split off and that is only jumped to.
pub(crate) fn is_cold_part(raw: &str) -> bool {
    raw.ends_with(".cold") || raw.contains(".cold.")
}

fn language(raw: &str) -> Language {
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
    raw[end..].starts_with('E') && hash.strip_prefix("17h").is_some_and(|h| h.len() == 16 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn demangle(raw: &str, language: Language, parameters: bool) -> Option<String> {
    match language {
        Language::C => None,
        Language::Rust => rustc_demangle::try_demangle(raw).ok().map(|name| format!("{name:#}")),
        Language::Cpp => {
            let mangled = raw.split('.').next().unwrap_or(raw);
            let options = ParseOptions::default().recursion_limit(DEPTH);
            let (symbol, _): (BorrowedSymbol<'_>, _) = Symbol::with_tail_and_options(mangled.as_bytes(), &options).ok()?;
            let options = DemangleOptions::default().recursion_limit(DEPTH).no_return_type();
            let options = if parameters { options } else { options.no_params() };
            symbol.demangle_with_options(&options).ok()
        }
    }
}

/// Without `<…>` behind a name or a `::`. The `<` of a Rust path (`<T as Trait>::method`) and of operators stays.
pub(crate) fn without_generics(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut chars = name.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '<' || !takes_generics(&out) {
            out.push(c);
            continue;
        }
        let Some(end) = closing(&name[at..]) else {
            out.push(c);
            continue;
        };
        let end = at + end;
        while chars.peek().is_some_and(|&(next, _)| next <= end) {
            chars.next();
        }
        if out.ends_with("::") {
            // The turbofish: `f::<T>` is `f`, `f::<T>::g` is `f::g`.
            out.truncate(out.len() - 2);
        }
    }
    out
}

/// Whether a `<` behind `out` opens generics.
fn takes_generics(out: &str) -> bool {
    let operator = out.trim_end_matches(['<', '=', '>', '-']);
    if operator.ends_with("operator") {
        return false;
    }
    out.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '}') || (out.ends_with("::") && out.len() > 2)
}

/// Where the `<` at the start of `text` is closed; the `>` of `->` does not count.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if before != '-' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        before = c;
    }
    None
}

/// `<path::Type as Trait>::method` is also `path::Type::method`.
fn method_of_type(name: &str) -> Option<String> {
    if !name.starts_with('<') {
        return None;
    }
    let end = closing(name)?;
    let inside = &name[1..end];
    let this = inside.split(" as ").next().unwrap_or(inside);
    let this = this.trim_start_matches(['&', '*']).trim_start_matches("mut ").trim_start_matches("const ");
    Some(format!("{this}{}", &name[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::{display, display_full, matches, short};
    use crate::pattern::Pattern;

    const LEGACY: &str = "_ZN7mycrate2db4open17h0123456789abcdefE";
    const LEGACY_DROP: &str = "_ZN68_$LT$mycrate..db..Conn$LT$T$GT$$u20$as$u20$core..ops..drop..Drop$GT$4drop17h0123456789abcdefE";
    const V0_GENERIC: &str = "_RINvNtC7mycrate2db4sortmE";

    #[test]
    fn what_a_spec_means() {
        for (pattern, raw, expected) in [
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
            ("std::vector<int, std::allocator<int> >::push_back", "_ZNSt6vectorIiSaIiEE9push_backERKi", true),
            ("std::vector<char>::push_back", "_ZNSt6vectorIiSaIiEE9push_backERKi", false),
            ("thrower", "_Z7throweri", true),
            ("thrower(int)", "_Z7throweri", true),
            ("thrower(char)", "_Z7throweri", false),
            ("/^app::Box::work\\(long\\)/", "_ZNK3app3Box4workEl", true),
            ("/^app::Box::work\\(long\\)/", "_ZNK3app3Box4workEll", false),
            ("/^app::Box::work$/", "_ZNK3app3Box4workEll", true),
            ("app::*hidden*", "_ZN3app12_GLOBAL__N_16hiddenEl", true),
            ("V::operator<", "_ZN1VltERKS_", true),
            ("V::operator<<", "_ZN1VlsEi", true),
            ("V::operator+", "_ZN1VplERKS_", true),
            ("/^mycrate/", LEGACY, true),
            ("_ZN7mycrate*", LEGACY, true),
            ("func@0x10", "func@0x10", true),
        ] {
            assert_eq!(matches(&Pattern::new(pattern).unwrap(), raw), expected, "{pattern} on {raw}");
        }
    }

    #[test]
    fn what_is_shown() {
        for (raw, shown, full) in [
            ("malloc@@GLIBC_2.2.5", "malloc", "malloc"),
            ("func@0x10", "func@0x10", "func@0x10"),
            (LEGACY, "mycrate::db::open", "mycrate::db::open::h0123456789abcdef"),
            ("_Z7throweri", "thrower", "thrower(int)"),
            ("_Z7throweri.cold", "thrower.cold", "thrower(int).cold"),
            ("_Zbroken", "_Zbroken", "_Zbroken"),
            ("f.part.0", "f.part.0", "f.part.0"),
        ] {
            assert_eq!((display(raw).as_str(), display_full(raw).as_str()), (shown, full), "{raw}");
        }
        assert_eq!(short("_ZNSt6vectorIiSaIiEE9push_backERKi"), "std::vector::push_back");
    }

    #[test]
    fn hostile_names_are_survived() {
        for raw in [
            "_Z".to_string() + &"N".repeat(100_000),
            "_ZN".to_string() + &"1a".repeat(3_000) + "E",
            "_R".to_string() + &"N".repeat(5_000),
            "_ZNé17hE".into(),
            "_ZN17h".into(),
        ] {
            let _ = (display(&raw), display_full(&raw), matches(&Pattern::new("/x/").unwrap(), &raw));
        }
    }
}
