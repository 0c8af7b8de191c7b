//! The one filter for text that came from elsewhere: names in files, file names, command lines, the
//! words of a user.
//!
//! A control character is a command to a terminal, a newline ends a line of a format, and a mark of
//! direction or of no width makes a name look like another. Each is shown as an escape (`\n`,
//! `\x1b`, `\u{202e}`), which specs take back ([`unescape`]).

use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether `c` is an instruction to whoever shows it and not a sign to be seen: control characters,
/// line and paragraph separators, marks of direction, signs without a width, tags.
pub(crate) fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether any character of `text` [is unseen](is_unseen).
pub(crate) fn has_unseen(text: &str) -> bool {
    // Nearly all that is looked at is ASCII to be seen, and bytes are quicker than characters.
    !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.contains(is_unseen)
}

/// `text` with an escape for each unseen character.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !has_unseen(text) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            c if !is_unseen(c) => shown.push(c),
            c if c.is_ascii() => _ = write!(shown, "\\x{:02x}", c as u32),
            c => _ = write!(shown, "\\u{{{:x}}}", c as u32),
        }
    }
    Cow::Owned(shown)
}

/// The start and the end of a line in bold: the only commands to a terminal that are written.
pub(crate) const BOLD: (&str, &str) = ("\x1b[1m", "\x1b[0m");

/// A line as it is written: all of it visible, but for [`BOLD`] around it and for `separator`,
/// which may be a tab.
pub(crate) fn line<'a>(line: &'a str, separator: Option<&str>) -> Cow<'a, str> {
    if !has_unseen(line) {
        return Cow::Borrowed(line);
    }
    if let Some(inside) = line.strip_prefix(BOLD.0).and_then(|rest| rest.strip_suffix(BOLD.1)) {
        return Cow::Owned(format!("{}{}{}", BOLD.0, visible(inside), BOLD.1));
    }
    match separator.filter(|separator| separator.contains(is_unseen)) {
        Some(separator) => {
            Cow::Owned(line.split(separator).map(visible).collect::<Vec<_>>().join(separator))
        }
        None => visible(line),
    }
}

/// Lines as they are written.
pub(crate) fn lines(lines: &[String], separator: Option<&str>) -> String {
    lines.iter().flat_map(|text| [line(text, separator), Cow::Borrowed("\n")]).collect()
}

/// A value as JSON on one line, without an unseen character.
///
/// # Errors
/// As serde has them: a map whose keys are no strings.
pub(crate) fn to_json(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(value).map(in_json)
}

/// Bytes as text: what is no UTF-8 is shown as `\xff`.
pub(crate) fn of_bytes(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| _ = write!(text, "\\x{byte:02x}"));
    }
    Cow::Owned(text)
}

/// A text in JSON, as serde writes it, with an escape for the unseen characters that it leaves:
/// they can only stand in strings, where `\u202e` is the same character.
fn in_json(json: String) -> String {
    if !has_unseen(&json) {
        return json;
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_unseen(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| _ = write!(shown, "\\u{unit:04x}"));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The character that the escape at the start of `text` stands for, and the bytes that it takes;
/// none if there is no escape as [`visible`] writes them.
pub(crate) fn unescape(text: &str) -> Option<(char, usize)> {
    let rest = text.strip_prefix('\\')?;
    match rest.chars().next()? {
        'n' => Some(('\n', 2)),
        't' => Some(('\t', 2)),
        'r' => Some(('\r', 2)),
        'x' => {
            let value = u32::from_str_radix(rest.get(1..3)?, 16).ok()?;
            char::from_u32(value).filter(|c| is_unseen(*c)).map(|c| (c, 4))
        }
        'u' => {
            let digits = rest.strip_prefix("u{")?.split_once('}')?.0;
            let value = u32::from_str_radix(digits, 16).ok()?;
            char::from_u32(value).filter(|c| is_unseen(*c)).map(|c| (c, digits.len() + 4))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_unseen, line, of_bytes, to_json, unescape, visible};

    #[test]
    fn what_is_shown() {
        for (text, shown) in [
            ("malloc", "malloc"),
            ("größe<日本>", "größe<日本>"),
            ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
            ("\x1b[31mred\x1b]0;x\x07", "\\x1b[31mred\\x1b]0;x\\x07"),
            ("\u{202e}gnp.exe", "\\u{202e}gnp.exe"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\x7f"),
            ("back\\slash", "back\\slash"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn every_unseen_character_comes_back() {
        let unseen: Vec<char> = ('\0'..=char::MAX).filter(|c| is_unseen(*c)).collect();
        assert!(unseen.len() > 65 + 20 + 128);
        for c in unseen {
            let text = c.to_string();
            let shown = visible(&text);
            assert!(!shown.contains(is_unseen));
            assert_eq!(unescape(&shown), Some((c, shown.len())), "{shown}");
            let json = to_json(&text).unwrap();
            assert!(!json.contains(is_unseen));
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
        for text in ["", "x", "\\", "\\d", "\\x4", "\\x41", "\\xé", "\\u{41}", "\\u{}", "\\u{202e"]
        {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    #[test]
    fn lines_have_no_commands_but_the_heads() {
        for (text, separator, written) in [
            ("a\tb", None, "a\\tb"),
            ("a\tb\x1b", Some("\t"), "a\tb\\x1b"),
            ("a;b\x1b", Some(";"), "a;b\\x1b"),
            ("\x1b[1mhead\x1b[0m", None, "\x1b[1mhead\x1b[0m"),
            ("\x1b[1mhe\x1b[31mad\x1b[0m", None, "\x1b[1mhe\\x1b[31mad\x1b[0m"),
            ("x\x1b[1mhead\x1b[0m", None, "x\\x1b[1mhead\\x1b[0m"),
        ] {
            assert_eq!(line(text, separator), written);
        }
    }

    #[test]
    fn bytes() {
        assert_eq!(of_bytes(b"plain"), "plain");
        assert_eq!(of_bytes(b"bad\xff\xfeutf8\x80"), "bad\\xff\\xfeutf8\\x80");
    }
}
