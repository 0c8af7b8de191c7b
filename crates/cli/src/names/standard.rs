//! The types of the C++ standard library by the names that people write: `std::string` for
//! `std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >`.

use super::generics::closing;
use std::borrow::Cow;

/// Namespaces that a library puts its versions into: libstdc++ and libc++.
const NAMESPACES: [&str; 3] = ["std::__cxx11::", "std::__1::", "std::"];

/// Class templates that have short names for their instances for `char` and `wchar_t`, without the
/// `basic_`.
const SHORT: [&str; 15] = [
    "string",
    "string_view",
    "ios",
    "streambuf",
    "istream",
    "ostream",
    "iostream",
    "stringbuf",
    "istringstream",
    "ostringstream",
    "stringstream",
    "filebuf",
    "ifstream",
    "ofstream",
    "fstream",
];

/// Strings have short names for these as well.
const CHARACTERS: [(&str, &str); 5] =
    [("char", ""), ("wchar_t", "w"), ("char8_t", "u8"), ("char16_t", "u16"), ("char32_t", "u32")];

/// `name` with the short names.
pub(super) fn abbreviated(name: &str) -> Cow<'_, str> {
    const MARK: &str = "basic_";
    if !name.contains(MARK) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find(MARK) {
        let (before, from) = rest.split_at(at);
        let short = namespace(before)
            .and_then(|namespace| Some((namespace, instance(&from[MARK.len()..])?)));
        match short {
            Some((namespace, (short, used))) => {
                out.push_str(before.strip_suffix(namespace).unwrap_or(before));
                out.push_str("std::");
                out.push_str(&short);
                rest = &from[MARK.len() + used..];
            }
            None => {
                out.push_str(before);
                out.push_str(MARK);
                rest = &from[MARK.len()..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The namespace of the standard library that `before` ends in.
fn namespace(before: &str) -> Option<&'static str> {
    NAMESPACES.into_iter().find(|namespace| {
        before.strip_suffix(namespace).is_some_and(|outer| {
            !outer.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
        })
    })
}

/// The short name of the instance that `text` starts with behind `basic_`, and how much of it that
/// is.
fn instance(text: &str) -> Option<(String, usize)> {
    let open = text.find('<')?;
    let template = SHORT.into_iter().find(|short| *short == &text[..open])?;
    let close = open + closing(&text[open..])?;
    let mut arguments =
        text[open + 1..close].split(", ").map(|argument| strip_version(argument.trim()));
    let character = arguments.next()?;
    let (_, prefix) = CHARACTERS.into_iter().find(|(name, _)| *name == character)?;
    if prefix.starts_with('u') && !template.starts_with("string") {
        return None;
    }
    // Only the defaults: traits, and an allocator where there is one.
    let defaults = ["char_traits", "allocator"].map(|class| format!("std::{class}<{character}>"));
    let given: Vec<String> = arguments.collect();
    (given.len() <= 2 && given.iter().zip(&defaults).all(|(given, default)| given == default))
        .then(|| (format!("{prefix}{template}"), close + 1))
}

/// `std::__1::allocator` is `std::allocator`.
fn strip_version(argument: &str) -> String {
    argument.replace("std::__1::", "std::")
}

#[cfg(test)]
mod tests {
    use super::abbreviated;

    #[test]
    fn table() {
        const STRING: &str =
            "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >";
        for (name, short) in [
            (STRING.to_string(), "std::string"),
            (format!("f({STRING} const&, int)"), "f(std::string const&, int)"),
            (
                format!("std::vector<{STRING}, std::allocator<{STRING} > >::push_back"),
                "std::vector<std::string, std::allocator<std::string > >::push_back",
            ),
            (format!("{STRING}::basic_string"), "std::string::basic_string"),
            (
                "std::basic_string_view<wchar_t, std::char_traits<wchar_t> >".into(),
                "std::wstring_view",
            ),
            (
                "std::__1::basic_string<char32_t, std::__1::char_traits<char32_t>, \
                std::__1::allocator<char32_t> >"
                    .into(),
                "std::u32string",
            ),
            (
                "std::basic_ostream<char, std::char_traits<char> >::flush".into(),
                "std::ostream::flush",
            ),
            (
                "std::basic_ostream<char16_t, std::char_traits<char16_t> >".into(),
                "std::basic_ostream<char16_t, std::char_traits<char16_t> >",
            ),
            (
                "std::basic_string<char, my::traits, std::allocator<char> >".into(),
                "std::basic_string<char, my::traits, std::allocator<char> >",
            ),
            ("my_std::basic_string<char>".into(), "my_std::basic_string<char>"),
            ("boost::std::basic_string<char>".into(), "boost::std::basic_string<char>"),
            ("basic_block".into(), "basic_block"),
            ("std::basic_string<char".into(), "std::basic_string<char"),
        ] {
            assert_eq!(abbreviated(&name), short);
        }
    }
}
