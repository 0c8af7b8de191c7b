//! Specs that are names, letter by letter, as they are printed: which functions of an object have
//! them.
//!
//! One pass over the symbols of an object serves all specs. Where there are few, symbols whose
//! names cannot be among them are not demangled.

use crate::names::{self, Parts};
use crate::pattern::words;
use crate::spec::{Head, Spec};
use crate::symbols::object::Object;
use crate::symbols::table::SymbolKind;
use std::collections::HashMap;

/// The name of a function that has none, without its address.
const UNNAMED: &str = "func";
/// With more names than these, every symbol is demangled.
const FEW: usize = 16;

/// A function that has the name that a spec is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit {
    /// The spec's index.
    pub(crate) spec: usize,
    /// How it had to be read for that. The lower the better.
    pub(crate) rank: Rank,
    pub(crate) address: u64,
    /// None: a function that only the unwind table knows.
    pub(crate) symbol: Option<&'static str>,
}

/// How a spec is read as a name, in the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// The name has gaps.
    gaps: bool,
    /// Which of the spec's heads.
    pub(crate) head: usize,
    /// No object is named, and the function is not in the main program.
    library: bool,
}

/// One name that is looked for.
#[derive(Debug, Clone, Copy)]
struct Target {
    spec: usize,
    rank: Rank,
    /// Only at this address (`f@0x1234`).
    address: Option<u64>,
}

/// All names that are looked for in one object.
#[derive(Debug, Default)]
struct Targets {
    exact: HashMap<String, Vec<Target>>,
    /// A bit for each length of a name in `exact`, modulo 64: most symbols need no look-up.
    lengths: u64,
    gaps: Vec<(Parts, Target)>,
    /// For each name the words that its symbol must have; none with many names.
    words: Option<Vec<Vec<String>>>,
}

impl Targets {
    fn new(specs: &[Spec], object: &Object, main: bool) -> Self {
        let mut targets = Self { words: Some(Vec::new()), ..Self::default() };
        let called = object.spellings();
        for (spec, head, Head { measure, rest }) in
            specs.iter().enumerate().flat_map(|(at, spec)| {
                spec.heads.iter().enumerate().map(move |(number, head)| (at, number, head))
            })
        {
            let library = !main && !measure.exclude;
            targets.add(
                rest,
                Target { spec, rank: Rank { gaps: false, head, library }, address: None },
            );
            for name in
                called.iter().filter_map(|name| rest.strip_prefix(name.as_str())?.strip_prefix(':'))
            {
                targets.add(
                    name,
                    Target {
                        spec,
                        rank: Rank { gaps: false, head, library: false },
                        address: None,
                    },
                );
            }
        }
        targets
    }

    fn add(&mut self, name: &str, target: Target) {
        self.add_one(name, target);
        if let Some((name, address)) = at_address(name) {
            self.add_one(name, Target { address: Some(address), ..target });
        }
    }

    fn add_one(&mut self, name: &str, target: Target) {
        if name.is_empty() {
            return;
        }
        let parts = names::elided(name);
        match &mut self.words {
            // No mangled name is a plain glob.
            _ if parts.is_none() && has_star(name) && !name.contains("operator") => {}
            Some(all) if all.len() < FEW => {
                all.push(if name.contains('\\') { Vec::new() } else { words(name) })
            }
            many => *many = None,
        }
        if let Some(parts) = parts {
            self.gaps.push((parts, Target { rank: Rank { gaps: true, ..target.rank }, ..target }));
        }
        self.lengths |= length_bit(name);
        self.exact.entry(name.to_string()).or_default().push(target);
    }

    /// Whether the mangled name `raw` may be one of those that are looked for.
    fn may_have(&self, raw: &str) -> bool {
        self.words.as_ref().is_none_or(|all| {
            // A linker's symbol may have any suffix.
            raw.contains('*')
                || all.iter().any(|words| words.iter().all(|word| raw.contains(word.as_str())))
        })
    }

    /// Calls `found` with every target that `name` is.
    fn each(&self, name: &str, mut found: impl FnMut(&Target)) {
        if self.lengths & length_bit(name) != 0 {
            self.exact.get(name).into_iter().flatten().for_each(&mut found);
        }
        self.gaps
            .iter()
            .filter(|(parts, _)| names::with_parts(name, parts))
            .for_each(|(_, target)| found(target));
    }
}

fn length_bit(name: &str) -> u64 {
    1 << (name.len() % 64)
}

/// Whether there is a star, and no bracket before it: demanglers write that for an operator only.
fn has_star(name: &str) -> bool {
    name.split_once('*').is_some_and(|(before, _)| !before.contains(['<', '(', '[', '{']))
}

/// `f@0x1234` is the `f` at that address.
fn at_address(name: &str) -> Option<(&str, u64)> {
    let (name, address) = name.rsplit_once("@0x")?;
    Some((name, u64::from_str_radix(address, 16).ok()?))
}

/// The functions of `object` whose name is one of `specs`. In order of address; one for each spec
/// and way to read it.
pub(crate) fn find(specs: &[Spec], object: &Object, main: bool) -> Vec<Hit> {
    let targets = Targets::new(specs, object, main);
    let mut hits: Vec<Hit> = Vec::new();
    let table = object.table();
    for site in table.sites() {
        let first = hits.len();
        for symbol in site.iter().filter(|symbol| symbol.kind != SymbolKind::Label) {
            if names::is_mangled(symbol.name) && !targets.may_have(symbol.name) {
                continue;
            }
            names::each_spelling(symbol.name, |name| {
                targets.each(name, |target| {
                    let known = hits[first..]
                        .iter()
                        .any(|hit| (hit.spec, hit.rank) == (target.spec, target.rank));
                    if !known && target.address.is_none_or(|address| address == symbol.address) {
                        let Target { spec, rank, .. } = *target;
                        hits.push(Hit {
                            spec,
                            rank,
                            address: symbol.address,
                            symbol: Some(symbol.name),
                        });
                    }
                });
            });
        }
    }
    let mut unnamed: HashMap<u64, Vec<&Target>> = HashMap::new();
    for target in targets.exact.get(UNNAMED).into_iter().flatten() {
        target
            .address
            .into_iter()
            .for_each(|address| unnamed.entry(address).or_default().push(target));
    }
    if !unnamed.is_empty() {
        for frame in table.unnamed() {
            for Target { spec, rank, .. } in unnamed.get(&frame.start).into_iter().flatten() {
                hits.push(Hit { spec: *spec, rank: *rank, address: frame.start, symbol: None });
            }
        }
    }
    hits
}
