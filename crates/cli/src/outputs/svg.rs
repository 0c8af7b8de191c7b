//! A flame graph as one SVG file, drawn by inferno: zoom, search and tooltips work in any browser, without a network.

use super::folded;
use crate::recording::{Recording, Weight};
use inferno::flamegraph::{Options, TextTruncateDirection, from_lines};

/// The bytes of the file.
pub(crate) fn render(recording: &Recording) -> anyhow::Result<Vec<u8>> {
    let total = recording.total();
    let mut options = Options::default();
    options.title = title(recording);
    options.subtitle = Some(match recording.header.weight {
        _ if total == 0 => "no hits".to_string(),
        Weight::Calls => format!("{total} calls"),
        Weight::Time => format!("{total} ns in the functions themselves"),
    });
    options.count_name = recording.unit().to_string();
    options.name_type = "Function:".to_string();
    // The same function has the same colour in every graph, so that two can be compared.
    options.deterministic = true;
    options.text_truncate_direction = TextTruncateDirection::Right;
    let folded = folded::render(recording);
    let mut svg = Vec::new();
    if total == 0 {
        // inferno refuses to draw nothing: an empty frame that says so stands for it.
        options.count_name = "hits".to_string();
        options.factor = 0.0;
        from_lines(&mut options, ["no hits 1"], &mut svg)?;
    } else {
        from_lines(&mut options, folded.lines(), &mut svg)?;
    }
    Ok(svg)
}

/// The command and what was probed in it.
fn title(recording: &Recording) -> String {
    let words = [recording.header.command_line(), recording.header.specs.join(" ")];
    let title = words.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    // XML has no way to write the other control characters.
    title.replace(|c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'), " ")
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::recording::file::tests::sample;
    use crate::recording::{Recording, Weight};
    use quick_xml::Reader;
    use quick_xml::events::Event;

    /// All text and all titles of the file, and its total; panics where it is not well-formed.
    fn read(svg: &[u8]) -> (Vec<String>, u64) {
        let mut reader = Reader::from_reader(svg);
        reader.config_mut().check_end_names = true;
        let (mut texts, mut text, mut total, mut depth) = (Vec::new(), String::new(), 0, 0);
        loop {
            match reader.read_event().expect("XML") {
                Event::Start(start) => {
                    depth += 1;
                    for attribute in start.attributes() {
                        let attribute = attribute.expect("an attribute");
                        if attribute.key.as_ref() == b"total_samples" {
                            total = std::str::from_utf8(&attribute.value).unwrap().parse().unwrap();
                        }
                    }
                }
                Event::End(_) => {
                    depth -= 1;
                    texts.push(std::mem::take(&mut text));
                }
                Event::Text(part) => text.push_str(&part.decode().unwrap()),
                Event::GeneralRef(name) => text.push_str(match &*name.decode().unwrap() {
                    "amp" => "&",
                    "lt" => "<",
                    "gt" => ">",
                    "quot" => "\"",
                    "apos" => "'",
                    other => panic!("&{other};"),
                }),
                Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(depth, 0);
        (texts, total)
    }

    #[test]
    fn a_graph_has_the_totals_and_the_names() {
        let recording = sample();
        let (texts, total) = read(&render(&recording).unwrap());
        assert_eq!(total, recording.total());
        for expected in
            ["./a -x: libc:malloc", "10 calls", "all (10 calls, 100%)", "g<int> (4 calls, 40.00%)", "[no stack] (2 calls, 20.00%)"]
        {
            assert!(texts.iter().any(|text| text == expected), "{expected} in {texts:?}");
        }
        let mut recording = sample();
        recording.header.weight = Weight::Time;
        let (texts, total) = read(&render(&recording).unwrap());
        assert_eq!(total, recording.total());
        assert!(texts.iter().any(|text| text == "f (300 ns, 30.00%)"), "{texts:?}");
    }

    #[test]
    fn nothing_is_a_graph_too() {
        let empty = Recording { header: sample().header, ..Recording::default() };
        let (texts, _) = read(&render(&empty).unwrap());
        assert!(texts.iter().any(|text| text.contains("no hits")), "{texts:?}");
    }

    #[test]
    fn names_are_escaped() {
        let mut recording = sample();
        recording.frames[1].symbols[0].name = "operator<&\"']]>\u{1}<script>".to_string();
        recording.header.command = vec!["</text><script>\u{0}&".to_string()];
        recording.header.specs = vec!["\u{1b}[31m".to_string()];
        let (texts, total) = read(&render(&recording).unwrap());
        assert_eq!(total, recording.total());
        assert!(texts.iter().any(|text| text.starts_with("operator<&\"']]> <script> (3 calls")), "{texts:?}");
        assert!(texts.iter().any(|text| text.starts_with("'</text><script>")), "{texts:?}");
    }
}
