//! Folded stacks: a line per distinct text stack, outermost first, and its weight. flamegraph.pl,
//! inferno and speedscope read it.

use crate::model::recording::Recording;
use crate::text::visible;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The lines, merged and sorted. Their weights add up to [`Recording::total`].
pub(crate) fn render(recording: &Recording) -> String {
    let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
    for line in recording.lines() {
        let mut names: Vec<String> = line.names().iter().map(|name| plain(name)).collect();
        if let Some(leaf) = names.last_mut() {
            *leaf = without_number(leaf);
        }
        let weight = stacks.entry(names.join(";")).or_insert(0);
        *weight = weight.saturating_add(line.weight);
    }
    stacks.into_iter().fold(String::new(), |mut text, (stack, weight)| {
        let _ = writeln!(text, "{stack} {weight}");
        text
    })
}

/// A name that neither ends a frame nor a line, and is not empty. A `#` in front would make the
/// line a comment.
fn plain(name: &str) -> String {
    let name =
        visible(name).replace(';', ":").replace(|c: char| c.is_whitespace() && c != ' ', " ");
    match name.trim() {
        "" => "?".to_string(),
        name => name.strip_prefix('#').map_or_else(|| name.to_string(), |rest| format!("_{rest}")),
    }
}

/// Readers take a number in front of the weight for a second weight, that of another recording.
fn without_number(leaf: &str) -> String {
    match leaf.rsplit_once(' ') {
        Some((name, last)) if last.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            format!("{}_{last}", name.trim_end())
        }
        _ => leaf.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{render, visible};
    use crate::model::file::tests::sample;
    use crate::model::recording::Recording;

    /// What a reader of the format makes of it: the total, and the names of all frames.
    fn read(text: &str) -> (u64, String) {
        let mut svg = Vec::new();
        inferno::flamegraph::from_lines(
            &mut inferno::flamegraph::Options::default(),
            text.lines(),
            &mut svg,
        )
        .unwrap();
        let svg = String::from_utf8(svg).unwrap();
        let total = svg
            .split("total_samples=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        (total, svg)
    }

    #[test]
    fn lines_are_merged_sorted_and_read_by_others() {
        let mut recording = sample();
        recording.stacks.push(recording.stacks[0].clone());
        let text = render(&recording);
        let expected = "[no stack];malloc 2\n[no unwind information];main;g<int>;malloc \
            1\na+0x1000;main;f;malloc 6\na+0x1000;main;g<int>;malloc 4\n";
        assert_eq!(text, expected);
        assert_eq!(read(&text).0, recording.total());
    }

    #[test]
    fn names_do_not_break_the_format() {
        for (name, shown) in [
            ("a;b", "a:b"),
            ("a\nb", "a\\nb"),
            ("\u{202e}a", "\\u{202e}a"),
            ("operator new(unsigned long)", "operator new(unsigned long)"),
            ("f 12", "f_12"),
            ("f 1 2.5", "f 1_2.5"),
            ("# no comment", "_ no comment"),
            (" ", "?"),
            ("", "?"),
            ("12", "12"),
        ] {
            // As the innermost and as the outermost.
            for frame in [0, 4] {
                let mut recording = sample();
                recording.frames[frame].symbols = vec![crate::model::recording::Symbol {
                    name: name.to_string(),
                    ..Default::default()
                }];
                let text = render(&recording);
                let names: Vec<&str> = text
                    .lines()
                    .flat_map(|line| line.rsplit_once(' ').unwrap().0.split(';'))
                    .collect();
                let outermost = visible(name).replace(';', ":");
                assert!(
                    names.contains(&shown) || (frame == 4 && names.contains(&outermost.trim())),
                    "{name:?} as {shown:?} in {text}"
                );
                assert_eq!(read(&text).0, recording.total(), "{text}");
            }
        }
    }

    #[test]
    fn nothing_is_no_line() {
        assert_eq!(render(&Recording::default()), "");
    }
}
