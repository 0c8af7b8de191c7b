//! Names of all languages: what is shown, and that all that is shown is a spelling.

use super::{display, each_spelling, elided, exact, full, short, with_parts};

const LEGACY: &str = "_ZN7mycrate2db4open17h0123456789abcdefE";
const APPEND: &str = "_ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE6appendEPKc";

fn spellings(raw: &str) -> Vec<String> {
    let mut all = Vec::new();
    each_spelling(raw, |name| all.push(name.to_string()));
    all
}

#[test]
fn what_is_shown() {
    for (raw, shown, with_parameters) in [
        ("malloc@@GLIBC_2.2.5", "malloc", "malloc"),
        ("func@0x10", "func@0x10", "func@0x10"),
        (LEGACY, "mycrate::db::open", "mycrate::db::open::h0123456789abcdef"),
        ("_Z7throweri", "thrower", "thrower(int)"),
        ("_Z7throweri.cold", "thrower.cold", "thrower(int).cold"),
        ("_Zbroken", "_Zbroken", "_Zbroken"),
        ("f.part.0", "f.part.0", "f.part.0"),
        ("_Zli2_xPKc", "operator\"\" _x", "operator\"\" _x(char const*)"),
        (APPEND, "std::string::append", "std::string::append(char const*)"),
    ] {
        assert_eq!((display(raw).as_str(), full(raw).as_str()), (shown, with_parameters), "{raw}");
    }
    assert_eq!(short("_ZNSt6vectorIiSaIiEE9push_backERKi"), "std::vector::push_back");
    let spelled_out = "std::__cxx11::basic_string<char, std::char_traits<char>, \
        std::allocator<char> >::append(char const*)";
    assert_eq!(exact(APPEND), spelled_out);
}

#[test]
fn what_is_shown_is_a_spelling() {
    for raw in [
        "malloc@@GLIBC_2.2.5",
        "f.isra.0.constprop.1",
        "f.part.0",
        "hidden\u{202e}name",
        "new\nline",
        LEGACY,
        "_ZN68_$LT$mycrate..db..Conn$LT$T$GT$$u20$as$u20$core..ops..drop..Drop$GT$4drop\
            17h0123456789abcdefE",
        "_RINvNtC7mycrate2db4sortmE",
        "_Z7throweri.cold",
        "_Z7throweri.constprop.0",
        "_ZNSt6vectorIiSaIiEE9push_backERKi",
        "_ZN12_GLOBAL__N_16helperEi",
        "_ZN1SclEi",
        "_ZN1VltERKS_",
        "_ZN1VlsEi",
        "_ZN1VD2Ev",
        "_Zli2_xPKc",
        "_Z1fB5cxx11v",
        "_ZZ4mainENKUliE_clEi",
        "_Zbroken",
        APPEND,
    ] {
        let known = spellings(raw);
        for shown in [display(raw), full(raw), exact(raw), short(raw), raw.to_string()] {
            let shown = crate::text::visible(&shown);
            assert!(
                known.iter().any(|name| *name == shown),
                "{raw}: {shown} is not among {known:?}"
            );
        }
    }
}

#[test]
fn a_copy_is_the_function_and_a_part_is_not() {
    for (raw, name, expected) in [
        ("f.constprop.0", "f", true),
        ("f.isra.0.constprop.1", "f", true),
        ("f.part.0", "f", false),
        ("f.cold", "f", false),
        ("_Z7throweri.constprop.0", "thrower", true),
        ("_Z7throweri.cold", "thrower", false),
        ("_Z7throweri.cold", "thrower(int)", false),
    ] {
        assert_eq!(spellings(raw).iter().any(|known| known == name), expected, "{raw} as {name}");
    }
}

#[test]
fn gaps() {
    for (text, name, expected) in [
        ("std::vector<...>::push_back", "std::vector<int, std::allocator<int> >::push_back", true),
        ("std::vector<...>::push_back", "std::vector<int, std::allocator<int> >::pop_back", false),
        ("std::vector<...>::push_back", "std::vector::push_back", false),
        ("f(...)", "f(int, char)", true),
        ("a...b...c", "a1b2c", true),
        ("a...b...c", "a1c", false),
        ("verylong...", "verylongname", true),
    ] {
        assert_eq!(with_parts(name, &elided(text).unwrap()), expected, "{text} as {name}");
    }
    assert_eq!(elided("f(int)"), None);
    assert_eq!(elided("..."), None);
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
        let _ = (display(&raw), full(&raw), spellings(&raw));
    }
}
