//! From specs to functions: what is to be armed in an object, what is left alone and why.

use crate::names;
use crate::pattern::Pattern;
use crate::spec::{Kind, Measure, Reading};
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
    /// Whether its return address may be replaced.
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

const UNCALLED: &str = "not called as functions are: entries only";
const OUTERMOST: &str = "has no caller to return to: entries only";
const JUMPED: &str = "entered by a jump, not by a call: entries only";
const PART: &str = "a part of a function, which is jumped to and not called";
const SIGNAL_RETURN: &str = "returns from signal handlers: unwinders compare its bytes";
const INDIRECT: &str = "an indirect function, chosen at start (probe the implementation, or the \
    function that calls it)";

/// What the specs ask for in one object.
#[derive(Debug, Default)]
pub(crate) struct Wanted<'a> {
    /// By address: the functions whose names were given letter by letter.
    pub(crate) named: HashMap<u64, Vec<Named>>,
    /// Patterns with the index of their spec.
    pub(crate) patterns: Vec<(usize, &'a Reading)>,
}

/// A function that a spec names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named {
    /// The spec's index.
    pub(crate) spec: usize,
    pub(crate) measure: Measure,
    /// The symbol by which it is named.
    pub(crate) symbol: Option<&'static str>,
}

impl Wanted<'_> {
    /// All that is asked for of the function at `address`: `means` says which symbol a pattern
    /// takes, if any. Empty where something takes it away.
    fn of(
        &self,
        address: u64,
        means: impl Fn(&Pattern) -> Option<Option<&'static str>>,
    ) -> Vec<Named> {
        let mut asked: Vec<Named> = self.named.get(&address).cloned().unwrap_or_default();
        for (spec, reading) in &self.patterns {
            if let Some(symbol) = means(&reading.function) {
                asked.push(Named { spec: *spec, measure: reading.measure, symbol });
            }
        }
        if asked.iter().any(|named| named.measure.exclude) {
            asked.clear();
        }
        asked.sort_by_key(|named| named.spec);
        asked.dedup_by_key(|named| named.spec);
        asked
    }

    fn is_empty(&self) -> bool {
        self.named.is_empty() && self.patterns.iter().all(|(_, reading)| reading.measure.exclude)
    }
}

/// Finds what is `wanted` in `object`. `matched[i]` counts what spec `i` took.
pub(crate) fn select(object: &Object, wanted: &Wanted<'_>, matched: &mut [usize]) -> Selection {
    let table = object.table();
    let mut selection = Selection::default();
    if wanted.is_empty() {
        return selection;
    }
    let mut candidates: Vec<Candidate> = Vec::new();
    for site in table.sites() {
        let named = || site.iter().filter(|symbol| symbol.kind != SymbolKind::Label);
        let means = |pattern: &Pattern| {
            named().find(|symbol| pattern.means(symbol.name)).map(|symbol| Some(symbol.name))
        };
        let mut chosen: Option<Candidate> = None;
        for asked in wanted.of(site[0].address, means) {
            matched[asked.spec] += 1;
            Candidate::new(site[0].address, table.size(site), asked, site)
                .merge(&mut chosen, &mut candidates);
        }
        candidates.extend(chosen);
    }
    if wants_unnamed(wanted) {
        for frame in table.unnamed() {
            let name = unnamed(frame.start);
            let mut chosen: Option<Candidate> = None;
            for asked in wanted.of(frame.start, |pattern| pattern.means(&name).then_some(None)) {
                matched[asked.spec] += 1;
                if frame.entered == Entered::Jumped {
                    selection.skipped.push(Skipped {
                        object: object.name().to_string(),
                        name: name.clone(),
                        reason: PART.to_string(),
                    });
                    break;
                }
                Candidate::new(frame.start, frame.end - frame.start, asked, &[])
                    .merge(&mut chosen, &mut candidates);
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

/// Whether functions without a name may be meant: finding them takes its time.
fn wants_unnamed(wanted: &Wanted<'_>) -> bool {
    wanted.named.values().flatten().any(|named| named.symbol.is_none())
        || wanted.patterns.iter().any(|(_, reading)| {
            !reading.measure.exclude && reading.function.may_start_with("func@")
        })
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
    /// The same of those that are not called.
    uncalled: bool,
}

impl Candidate {
    /// `site` are all symbols of the address.
    fn new(address: u64, size: u64, asked: Named, site: &[Symbol<'static>]) -> Self {
        // The resolver of an indirect function has the same address, and is a function.
        let meant = site.iter().find(|symbol| Some(symbol.name) == asked.symbol);
        let indirect =
            meant.or(site.first()).is_some_and(|symbol| symbol.kind == SymbolKind::Indirect);
        let any = |is: fn(&str) -> bool| {
            site.iter().any(|symbol| is(symbol.name.split('@').next().unwrap_or("")))
        };
        Self {
            address,
            size,
            offset: asked.measure.offset,
            symbol: asked.symbol,
            indirect,
            kind: asked.measure.kind,
            caller: any(wire::looks_at_caller),
            uncalled: any(wire::is_entry_only),
        }
    }

    /// Two specs for one function measure what both ask for; an instruction inside it is a site of
    /// its own.
    fn merge(self, chosen: &mut Option<Self>, others: &mut Vec<Self>) {
        if self.offset != 0 {
            if !others
                .iter()
                .rev()
                .take_while(|other| other.address == self.address)
                .any(|other| other.offset == self.offset)
            {
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
        selection.skipped.push(Skipped {
            object: object.name().to_string(),
            name,
            reason: reason.to_string(),
        });
        return;
    }
    let no_return = match entered {
        _ if candidate.uncalled => Some(UNCALLED),
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
        // At its exits nothing that it could look at is changed.
        returns: no_return.is_none() && !candidate.caller,
    });
}

/// Overloads get their parameters, instances of Rust generics their hash, old and new types of one
/// name their spelling, and static functions of one name their address.
fn give_unique_names(functions: &mut [Function]) {
    let named = |function: &Function, name: String| match function.offset {
        0 => name,
        offset => format!("{name}+{offset:#x}"),
    };
    let by_symbol = |function: &Function, name: fn(&str) -> String| match function.symbol {
        Some(symbol) => named(function, name(symbol)),
        None => function.name.clone(),
    };
    rename_duplicates(functions, |function| by_symbol(function, names::full));
    rename_duplicates(functions, |function| by_symbol(function, names::exact));
    rename_duplicates(functions, |function| match function.symbol {
        Some(symbol) => named(function, format!("{}@{:#x}", names::full(symbol), function.address)),
        None => function.name.clone(),
    });
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

#[cfg(test)]
mod tests {
    use super::{Selection, Wanted, select};
    use crate::spec::{Kind, Spec};
    use crate::symbols::libraries::{Environment, closure};
    use crate::symbols::object::Object;
    use std::path::Path;

    fn in_libc(texts: &[&str]) -> (Selection, Vec<usize>) {
        let main = Object::open(Path::new("/bin/true")).unwrap().unwrap();
        let libc = closure(&main, &Environment::default())
            .into_iter()
            .find(|object| object.name() == "libc.so.6")
            .unwrap();
        let specs: Vec<Spec> = texts.iter().map(|text| Spec::parse(text)).collect();
        let mut matched = vec![0; specs.len()];
        let wanted = Wanted {
            patterns: specs.iter().map(|spec| spec.reading().unwrap()).enumerate().collect(),
            ..Wanted::default()
        };
        let selection = select(&libc, &wanted, &mut matched);
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
        assert!(
            names(&selection).contains(&"malloc") && !names(&selection).contains(&"mallopt"),
            "{:?}",
            names(&selection)
        );
    }

    #[test]
    fn two_specs_for_one_function_are_one_site() {
        let (selection, matched) =
            in_libc(&["entry:libc:malloc", "ret:libc:malloc", "libc:malloc+4"]);
        assert_eq!(matched, [1, 1, 1]);
        let mut kinds: Vec<_> = selection.functions.iter().map(|f| (f.offset, f.kind)).collect();
        kinds.sort_by_key(|kind| kind.0);
        assert_eq!(kinds, [(0, Kind::Return), (4, Kind::Entry)]);
    }

    #[test]
    fn return_addresses_that_are_looked_at_stay() {
        let (selection, _) = in_libc(&["libc:vfork", "libc:_setjmp"]);
        assert!(!selection.functions.is_empty());
        let stays = |f: &super::Function| f.kind == Kind::Call && !f.returns;
        assert!(selection.functions.iter().all(stays), "{selection:?}");
        // What is not called does not return.
        let (selection, _) = in_libc(&["libc:mcount"]);
        assert!(!selection.functions.is_empty());
        assert!(
            selection.functions.iter().all(|f| f.kind == Kind::Entry && f.entry_only.is_some()),
            "{selection:?}"
        );
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
}
