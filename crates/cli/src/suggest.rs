//! What somebody who mistyped a name may have meant.

use crate::names;
use crate::symbols::object::Object;
use crate::symbols::table::SymbolKind;
use crate::text::visible;

/// How alike two names must be for a slip of the pen.
const NEAR: f64 = 0.6;
/// Most names that are suggested.
const MOST: usize = 3;

/// Collects the names nearest to one that was not found.
pub(crate) struct Nearest {
    wanted: String,
    /// The least likeness.
    least: f64,
    best: Vec<(f64, String)>,
}

impl Nearest {
    /// `wanted` may have the signs of a pattern.
    pub(crate) fn new(wanted: &str) -> Self {
        Self::within(wanted, NEAR)
    }

    /// The same, of names at least so much alike (1: the same).
    pub(crate) fn within(wanted: &str, least: f64) -> Self {
        let wanted = wanted
            .chars()
            .filter(|c| !matches!(c, '*' | '?' | '/' | '^' | '$' | '\\'))
            .collect::<String>();
        Self { wanted: wanted.to_lowercase(), least, best: Vec::new() }
    }

    /// Looks at one more name; `shown` is how it would be suggested.
    pub(crate) fn offer(&mut self, name: &str, shown: impl FnOnce() -> String) {
        let score = likeness(&self.wanted, &name.to_lowercase());
        let full = self.best.len() == MOST;
        if score < self.least || (full && self.best.last().is_some_and(|(last, _)| score <= *last))
        {
            return;
        }
        let shown = visible(&shown()).into_owned();
        if self.best.iter().any(|(_, known)| *known == shown) {
            return;
        }
        self.best.push((score, shown));
        self.best.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        self.best.truncate(MOST);
    }

    /// The nearest, best first; empty where nothing is near.
    pub(crate) fn names(self) -> Vec<String> {
        self.best.into_iter().map(|(_, name)| name).collect()
    }

    /// As the end of a message.
    pub(crate) fn hint(self) -> Option<String> {
        let names = self.names();
        (!names.is_empty()).then(|| format!("; did you mean {}?", names.join(", ")))
    }
}

/// How alike two names are, 1: the same. The last part of a path counts nearly as much as all of
/// it.
fn likeness(wanted: &str, name: &str) -> f64 {
    let last = name.rsplit("::").next().unwrap_or(name);
    let score = strsim::normalized_damerau_levenshtein(wanted, name)
        .max(strsim::normalized_damerau_levenshtein(wanted, last) * 0.98);
    if wanted.len() >= 3 && name.contains(wanted) { score.max(NEAR + 0.1) } else { score }
}

/// The functions of `objects` whose names are near to `wanted`. Those of the first, the main
/// program, are suggested without it.
pub(crate) fn functions<'a>(
    wanted: &str,
    objects: impl Iterator<Item = (bool, &'a Object)>,
) -> Nearest {
    let mut nearest = Nearest::new(wanted);
    for (bare, object) in objects {
        for site in object.table().sites().filter(|site| site[0].kind == SymbolKind::Function) {
            let name = names::short(site[0].name);
            nearest.offer(&name, || {
                if bare { name.clone() } else { format!("{}:{name}", object.name()) }
            });
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::{Nearest, functions};
    use crate::symbols::object::Object;
    use std::path::Path;

    fn nearest(wanted: &str, names: &[&str]) -> Vec<String> {
        let mut nearest = Nearest::new(wanted);
        names.iter().for_each(|name| nearest.offer(name, || (*name).to_string()));
        nearest.names()
    }

    #[test]
    fn only_what_is_near_and_the_nearest_first() {
        assert_eq!(
            nearest("maloc", &["free", "calloc", "malloc", "malloc", "mallinfo"]),
            ["malloc", "calloc"]
        );
        assert_eq!(nearest("MALLOC", &["malloc"]), ["malloc"]);
        assert_eq!(nearest("processcommand", &["processCommand"]), ["processCommand"]);
        assert_eq!(nearest("opne", &["db::Conn::open"]), ["db::Conn::open"]);
        assert_eq!(nearest("qqqqqqqq", &["malloc", "free"]), [""; 0]);
        assert_eq!(nearest("re\u{202e}d", &["re\u{202e}dd"]), ["re\\u{202e}dd"]);
    }

    #[test]
    fn functions_of_an_object() {
        let libc = Object::open(Path::new("/lib/x86_64-linux-gnu/libc.so.6")).unwrap().unwrap();
        assert_eq!(functions("maloc", [(false, &libc)].into_iter()).names()[0], "libc.so.6:malloc");
        assert_eq!(functions("qqqqqqqqqqqq", [(false, &libc)].into_iter()).hint(), None);
    }
}
