//! Names cut to the room that a line has: `std::map<...>::find`. What is left can be given back as
//! a spec ([`super::elided`]).

use super::generics::{closing, takes_generics};

const GAP: &str = "...";
/// What is always kept of a name, in characters.
const LEAST: usize = 24;
/// Template arguments nested deeper are cut out at once.
const DEEPEST: usize = 6;

/// `name` in at most `room` characters, if that can be: the innermost template arguments are cut
/// out first, then the outer ones, then parameters, then the middle of what is left.
pub(crate) fn fit(name: &str, room: usize) -> String {
    let room = room.max(LEAST);
    let fits = |name: &str| name.chars().count() <= room;
    if fits(name) {
        return name.to_string();
    }
    let mut cut = name.to_string();
    for depth in (0..DEEPEST).rev() {
        cut = without_arguments(name, depth);
        if fits(&cut) {
            return cut;
        }
    }
    cut = without_parameters(&cut);
    if fits(&cut) { cut } else { without_middle(&cut, room) }
}

/// Without the template arguments that lie in `depth` others.
fn without_arguments(name: &str, depth: usize) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('<') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        match closing(from).filter(|_| takes_generics(&out)) {
            Some(end) => {
                let inside = &from[1..end];
                let inside =
                    if depth == 0 { GAP.to_string() } else { without_arguments(inside, depth - 1) };
                out.push_str(&format!("<{inside}>"));
                rest = &from[end + 1..];
            }
            None => {
                out.push('<');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Without what stands between the last parentheses, unless that is little.
fn without_parameters(name: &str) -> String {
    let parameters = name.rfind(')').and_then(|close| {
        let mut depth = 0_usize;
        let open = name[..=close].char_indices().rev().find(|(_, c)| {
            match c {
                ')' => depth += 1,
                '(' => depth -= 1,
                _ => {}
            }
            depth == 0
        })?;
        Some((open.0, close))
    });
    match parameters {
        Some((open, close)) if open > 0 && close - open > 1 + GAP.len() => {
            format!("{}({GAP}){}", &name[..open], &name[close + 1..])
        }
        _ => name.to_string(),
    }
}

/// The beginning and the end, with what tells one function from another behind them whole.
fn without_middle(name: &str, room: usize) -> String {
    let mark =
        [name.rfind("@0x"), name.rfind("+0x")].into_iter().flatten().min().unwrap_or(name.len());
    let (name, mark) = name.split_at(mark);
    let chars: Vec<char> = name.chars().collect();
    let kept = room.saturating_sub(mark.chars().count() + GAP.len()).max(2);
    if chars.len() <= kept + GAP.len() {
        return format!("{name}{mark}");
    }
    let (head, tail) = (kept - kept / 3, kept / 3);
    let head: String = chars[..head].iter().collect();
    let tail: String = chars[chars.len() - tail..].iter().collect();
    // The dots of another gap would be taken for those of this one.
    format!("{}{GAP}{}{mark}", head.trim_end_matches('.'), tail.trim_start_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::fit;
    use crate::names::{elided, with_parts};

    #[test]
    fn cut_from_the_inside() {
        const NAME: &str = "std::map<std::string, std::vector<int, std::allocator<int> > \
            >::find(std::string const&)";
        for (room, expected) in [
            (200, NAME),
            (80, "std::map<std::string, std::vector<...> >::find(std::string const&)"),
            (50, "std::map<...>::find(std::string const&)"),
            (30, "std::map<...>::find(...)"),
            (1, "std::map<...>::find(...)"),
        ] {
            assert_eq!(fit(NAME, room), expected, "{room}");
        }
        assert_eq!(
            fit("V::operator<<(std::basic_long_name_of_a_type const&)", 24),
            "V::operator<<(...)"
        );
        assert_eq!(fit("operator()", 1), "operator()");
        assert_eq!(
            fit(&format!("{}@0x1234", "x".repeat(100)), 30),
            format!("{}...{}@0x1234", "x".repeat(14), "x".repeat(6))
        );
        assert_eq!(fit(&"é".repeat(100), 27), format!("{}...{}", "é".repeat(16), "é".repeat(8)));
    }

    #[test]
    fn what_is_left_means_the_name() {
        for name in [
            "std::map<std::string, std::vector<int, std::allocator<int> > >::find(std::string \
                const&)",
            "<alloc::vec::Vec<T, A> as core::iter::traits::collect::Extend<&'a \
                T>>::extend::{{closure}}",
            "(anonymous namespace)::helper<(anonymous namespace)::a_type_with_a_name>(int, char \
                const*, ...)",
            &"a".repeat(500),
            "f(void (*)(int, char), unsigned long, unsigned long, unsigned long)",
        ] {
            for room in 0..name.len() {
                let cut = fit(name, room);
                let same =
                    cut == *name || elided(&cut).is_some_and(|parts| with_parts(name, &parts));
                assert!(same, "{name} cut to {room}: {cut}");
                assert!(cut.chars().count() <= room.max(24), "{cut} in {room}");
            }
        }
    }
}
