//! From specs to functions: what is to be armed in an object, what is left alone and why.

use crate::names;
use crate::spec::{Kind, Spec};
use crate::symbols::object::Object;
use crate::symbols::table::{Symbol, SymbolKind};
use crate::symbols::unwind::Entered;
use std::collections::HashMap;

/// A function that is to be armed.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    /// As the file says: the loader adds where it put the object.
    pub(crate) address: u64,
    pub(crate) size: u64,
    /// Bytes behind it that belong to no function.
    pub(crate) padding: u64,
    /// The probed instruction, from `address`.
    pub(crate) offset: u64,
    /// The symbol; none for a function that only the unwind table knows.
    pub(crate) symbol: Option<&'static str>,
    /// The name to show, unique in its object.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Why only its entries are counted although more was asked for.
    pub(crate) entry_only: Option<&'static str>,
    /// Whether its returns can be probed.
    pub(crate) returns: bool,
}

/// A function that a spec means and that is left alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Skipped {
    pub(crate) object: String,
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// What the specs mean in one object.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) functions: Vec<Function>,
    pub(crate) skipped: Vec<Skipped>,
}

const CALLER: &str = "looks at its caller or returns twice: entries only";
const OUTERMOST: &str = "has no caller to return to: entries only";
const JUMPED: &str = "entered by a jump, not by a call: entries only";
const PART: &str = "a part of a function, which is jumped to and not called";
const SIGNAL_RETURN: &str = "returns from signal handlers: unwinders compare its bytes";
const INDIRECT: &str = "an indirect function, chosen at start (probe the implementation, or the function that calls it)";

/// Finds what `specs` mean in `object`. `matched[i]` counts what spec `i` took.
pub(crate) fn select(object: &Object, specs: &[(usize, &Spec)], matched: &mut [usize]) -> Selection {
    let table = object.table();
    let mut selection = Selection::default();
    let (exclude, include): (Vec<_>, Vec<_>) = specs.iter().copied().partition(|(_, spec)| spec.exclude);
    if include.is_empty() {
        return selection;
    }
    let mut candidates: Vec<Candidate> = Vec::new();
    for site in table.sites() {
        let named: Vec<&Symbol<'static>> = site.iter().filter(|symbol| symbol.kind != SymbolKind::Label).collect();
        let mut chosen: Option<Candidate> = None;
        for (index, spec) in &include {
            let Some(symbol) = named.iter().find(|symbol| names::matches(&spec.function, symbol.name)) else { continue };
            if exclude.iter().any(|(_, out)| named.iter().any(|symbol| names::matches(&out.function, symbol.name))) {
                break;
            }
            matched[*index] += 1;
            Candidate::new(site[0].address, table.size(site), Some(symbol.name), spec, site).merge(&mut chosen, &mut candidates);
        }
        candidates.extend(chosen);
    }
    if include.iter().any(|(_, spec)| spec.function.may_start_with("func@")) {
        for frame in table.unnamed() {
            let name = unnamed(frame.start);
            let mut chosen: Option<Candidate> = None;
            for (index, spec) in include.iter().filter(|(_, spec)| names::matches(&spec.function, &name)) {
                if exclude.iter().any(|(_, out)| names::matches(&out.function, &name)) {
                    break;
                }
                matched[*index] += 1;
                if frame.entered == Entered::Jumped {
                    selection.skipped.push(Skipped { object: object.name().to_string(), name, reason: PART.to_string() });
                    break;
                }
                Candidate::new(frame.start, frame.end - frame.start, None, spec, &[]).merge(&mut chosen, &mut candidates);
            }
            candidates.extend(chosen);
        }
    }
    candidates.sort_by_key(|candidate| (candidate.address, candidate.offset));
    for candidate in candidates {
        finish(object, candidate, &mut selection);
    }
    give_unique_names(&mut selection.functions);
    selection
}

/// The name of a function that has none.
pub(crate) fn unnamed(address: u64) -> String {
    format!("func@{address:#x}")
}

#[derive(Debug)]
struct Candidate {
    address: u64,
    size: u64,
    offset: u64,
    symbol: Option<&'static str>,
    indirect: bool,
    kind: Kind,
    /// Whether any of its names is in the list of those that look at their caller.
    caller: bool,
}

impl Candidate {
    /// `site` are all symbols of the address.
    fn new(address: u64, size: u64, symbol: Option<&'static str>, spec: &Spec, site: &[Symbol<'static>]) -> Self {
        Self {
            address,
            size,
            offset: spec.offset,
            symbol,
            indirect: site.first().is_some_and(|symbol| symbol.kind == SymbolKind::Indirect),
            kind: spec.kind,
            caller: site.iter().any(|symbol| wire::is_entry_only(symbol.name.split('@').next().unwrap_or(""))),
        }
    }

    /// Two specs for one function measure what both ask for; an instruction inside it is a site of its own.
    fn merge(self, chosen: &mut Option<Self>, others: &mut Vec<Self>) {
        if self.offset != 0 {
            if !others.iter().rev().take_while(|other| other.address == self.address).any(|other| other.offset == self.offset) {
                others.push(self);
            }
            return;
        }
        match chosen {
            None => *chosen = Some(self),
            Some(old) => {
                old.kind = match (old.kind, self.kind) {
                    (Kind::Call, _) | (_, Kind::Call) => Kind::Call,
                    (Kind::Return, _) | (_, Kind::Return) => Kind::Return,
                    _ => Kind::Entry,
                };
            }
        }
    }
}

fn finish(object: &Object, candidate: Candidate, selection: &mut Selection) {
    let table = object.table();
    let mut name = candidate.symbol.map_or_else(|| unnamed(candidate.address), names::display);
    if candidate.offset != 0 {
        name = format!("{name}+{:#x}", candidate.offset);
    }
    let entered = table.entered(candidate.address);
    let part = candidate.symbol.is_some_and(names::is_cold_part);
    let reason = if candidate.indirect {
        Some(INDIRECT)
    } else if entered == Entered::SignalReturn {
        Some(SIGNAL_RETURN)
    } else if candidate.size == 0 {
        Some("empty")
    } else if candidate.offset >= candidate.size {
        Some("the offset lies behind its end")
    } else if part {
        Some(PART)
    } else {
        None
    };
    if let Some(reason) = reason {
        selection.skipped.push(Skipped { object: object.name().to_string(), name, reason: reason.to_string() });
        return;
    }
    let no_return = match entered {
        _ if candidate.caller => Some(CALLER),
        Entered::Called => None,
        Entered::Outermost => Some(OUTERMOST),
        _ => Some(JUMPED),
    };
    let entry_only = no_return.filter(|_| candidate.kind != Kind::Entry);
    selection.functions.push(Function {
        address: candidate.address,
        size: candidate.size,
        padding: table.padding(candidate.address + candidate.size),
        offset: candidate.offset,
        symbol: candidate.symbol,
        name,
        kind: if entry_only.is_some() { Kind::Entry } else { candidate.kind },
        entry_only,
        returns: no_return.is_none(),
    });
}

/// Overloads get their parameters, instances of Rust generics their hash, and static functions of one name their address.
fn give_unique_names(functions: &mut [Function]) {
    let full = |function: &Function| match function.symbol {
        Some(symbol) if function.offset != 0 => format!("{}+{:#x}", names::display_full(symbol), function.offset),
        Some(symbol) => names::display_full(symbol),
        None => function.name.clone(),
    };
    let with_address = |function: &Function| format!("{}@{:#x}", function.name, function.address);
    rename_duplicates(functions, full);
    rename_duplicates(functions, with_address);
}

fn rename_duplicates(functions: &mut [Function], rename: impl Fn(&Function) -> String) {
    let mut count: HashMap<String, usize> = HashMap::new();
    for function in functions.iter() {
        *count.entry(function.name.clone()).or_default() += 1;
    }
    for function in functions.iter_mut().filter(|function| count[&function.name] > 1) {
        function.name = rename(function);
    }
}

/// The specs that mean something in `object`. Specs without an object part mean the main program; `fallback` are those that mean its libraries.
pub(crate) fn applying<'a>(specs: &'a [Spec], object: &Object, main: bool, fallback: &[usize]) -> Vec<(usize, &'a Spec)> {
    let applies = |index: usize, spec: &Spec| match &spec.object {
        Some(pattern) => object.is(pattern),
        None => spec.exclude || main || fallback.contains(&index),
    };
    specs.iter().enumerate().filter(|(index, spec)| applies(*index, spec)).collect()
}

/// How alike two names must be for a slip of the pen.
pub(crate) const NEAR: f64 = 0.6;

/// What a pattern is about: without the signs that globs and regular expressions are made of.
pub(crate) fn without_signs(pattern: &str) -> String {
    pattern.chars().filter(|c| !matches!(c, '*' | '?' | '/' | '^' | '$' | '\\')).collect()
}

/// How alike two names are, 1: the same. The last part of a path counts nearly as much as all of it.
pub(crate) fn likeness(wanted: &str, name: &str) -> f64 {
    let last = name.rsplit("::").next().unwrap_or(name);
    let score = strsim::normalized_damerau_levenshtein(wanted, name).max(strsim::normalized_damerau_levenshtein(wanted, last) * 0.98);
    if wanted.len() >= 3 && name.contains(wanted) { score.max(NEAR + 0.1) } else { score }
}

/// Names like the one that `spec` asks for, best first, and whether the best is near enough for a slip of the pen.
pub(crate) fn suggestions(spec: &Spec, main: &Object, libraries: &[Object]) -> (Vec<String>, bool) {
    const MOST: usize = 3;
    let wanted = without_signs(spec.function.text());
    let mut best: Vec<(f64, String)> = Vec::new();
    for (position, object) in std::iter::once(main).chain(libraries).enumerate() {
        if spec.object.as_ref().is_some_and(|pattern| !object.is(pattern)) {
            continue;
        }
        for site in object.table().sites().filter(|site| site[0].kind == SymbolKind::Function) {
            let name = names::short(site[0].name);
            let score = likeness(&wanted, &name);
            let floor = best.get(MOST * 8).map_or(0.0, |(score, _)| *score);
            if score > floor {
                let spelled = if position == 0 && spec.object.is_none() { name } else { format!("{}:{name}", object.name()) };
                best.push((score, spelled));
                if best.len() > MOST * 16 {
                    by_score(&mut best);
                    best.truncate(MOST * 8 + 1);
                }
            }
        }
    }
    by_score(&mut best);
    best.dedup_by(|a, b| a.1 == b.1);
    let near = best.first().is_some_and(|(score, _)| *score >= NEAR);
    best.retain(|(score, _)| *score >= NEAR || !near);
    (best.into_iter().take(MOST).map(|(_, name)| name).collect(), near)
}

fn by_score(best: &mut [(f64, String)]) {
    best.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
}

#[cfg(test)]
mod tests {
    use super::{Selection, applying, select, suggestions};
    use crate::spec::{Kind, Spec};
    use crate::symbols::libraries::{Environment, closure};
    use crate::symbols::object::Object;
    use std::path::Path;

    fn in_libc(texts: &[&str]) -> (Selection, Vec<usize>) {
        let main = Object::open(Path::new("/bin/true")).unwrap().unwrap();
        let libc = closure(&main, &Environment::default()).into_iter().find(|object| object.name() == "libc.so.6").unwrap();
        let specs: Vec<Spec> = texts.iter().map(|text| Spec::parse(text).unwrap()).collect();
        let mut matched = vec![0; specs.len()];
        let selection = select(&libc, &applying(&specs, &libc, false, &[]), &mut matched);
        (selection, matched)
    }

    fn names(selection: &Selection) -> Vec<&str> {
        selection.functions.iter().map(|function| function.name.as_str()).collect()
    }

    #[test]
    fn one_function() {
        let (selection, matched) = in_libc(&["libc:malloc"]);
        assert_eq!(names(&selection), ["malloc"]);
        assert_eq!((selection.functions[0].kind, matched[0]), (Kind::Call, 1));
    }

    #[test]
    fn the_name_that_was_asked_for_is_shown() {
        assert_eq!(names(&in_libc(&["libc:__libc_malloc"]).0), ["__libc_malloc"]);
    }

    #[test]
    fn exclusions_take_away() {
        let (selection, _) = in_libc(&["libc:mallo*", "!mallopt"]);
        assert!(names(&selection).contains(&"malloc") && !names(&selection).contains(&"mallopt"), "{:?}", names(&selection));
    }

    #[test]
    fn two_specs_for_one_function_are_one_site() {
        let (selection, matched) = in_libc(&["entry:libc:malloc", "ret:libc:malloc", "libc:malloc+4"]);
        assert_eq!(matched, [1, 1, 1]);
        let mut kinds: Vec<_> = selection.functions.iter().map(|f| (f.offset, f.kind)).collect();
        kinds.sort_by_key(|kind| kind.0);
        assert_eq!(kinds, [(0, Kind::Return), (4, Kind::Entry)]);
    }

    #[test]
    fn what_looks_at_its_caller_is_counted_only() {
        let (selection, _) = in_libc(&["libc:vfork", "libc:_setjmp"]);
        assert!(!selection.functions.is_empty());
        assert!(selection.functions.iter().all(|f| f.kind == Kind::Entry && f.entry_only.is_some()), "{selection:?}");
    }

    #[test]
    fn indirect_functions_are_skipped_with_the_reason() {
        let (selection, _) = in_libc(&["libc:strlen"]);
        assert!(selection.functions.is_empty());
        assert!(selection.skipped[0].reason.contains("indirect"), "{selection:?}");
    }

    #[test]
    fn names_are_unique_in_an_object() {
        let (selection, _) = in_libc(&["libc:*"]);
        let mut all = names(&selection);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(count > 1000);
    }

    #[test]
    fn suggestions_are_near() {
        let main = Object::open(Path::new("/bin/true")).unwrap().unwrap();
        let libraries = closure(&main, &Environment::default());
        let (found, near) = suggestions(&Spec::parse("libc:maloc").unwrap(), &main, &libraries);
        assert!(near && found[0] == "libc.so.6:malloc", "{found:?}");
        let (found, near) = suggestions(&Spec::parse("qqqqqqqqqqqq").unwrap(), &main, &libraries);
        assert!(!near && found.len() == 3, "{found:?}");
    }
}
