//! Specs against a program and its libraries.

use crate::exit::{Failure, USAGE};
use crate::human;
use crate::inlined::{self, MOST_INFORMATION};
use crate::literal::{self, Hit, Rank};
use crate::model::outside::{Inlined, first_of};
use crate::select::{Named, Selection, Skipped, Wanted, select};
use crate::spec::{Reading, Spec};
use crate::suggest;
use crate::symbols::object::Object;
use crate::symbols::runtimes;
use crate::text::visible;
use crate::unknown;

/// A program, its libraries, and what the specs mean in them.
#[derive(Debug)]
pub(crate) struct Resolution {
    /// The main programs first.
    pub(crate) objects: Vec<Object>,
    /// How many of them are main programs: where a spec names no object, those are meant.
    mains: usize,
    /// Arguments of `trapline list` that name the objects; those of a program's name if none.
    listed: Option<String>,
    /// What is to be armed in each.
    pub(crate) selections: Vec<Selection>,
    pub(crate) specs: Vec<Spec>,
    /// Functions that each spec took.
    pub(crate) matched: Vec<usize>,
    /// How each spec is understood.
    meanings: Vec<Meaning>,
    /// Whether the programs run already.
    pub(crate) runs: bool,
    /// Whether a runtime among the objects walks or copies its stacks.
    pub(crate) walked: bool,
}

/// How a spec is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// As a name: there is a function that has it.
    Name(Rank),
    /// As a pattern.
    Pattern {
        /// In the libraries too, although it names no object: nothing in the main program matched.
        libraries: bool,
    },
}

impl Resolution {
    /// Applies `specs` to `objects`, the main program first.
    ///
    /// # Errors
    /// A spec matches nothing although its object is there: exit code 2, with the nearest names.
    pub(crate) fn new(objects: Vec<Object>, specs: Vec<Spec>) -> anyhow::Result<Self> {
        Self::of_programs(objects, 1, None, specs)
    }

    /// Applies `specs` to `objects`, of which the first `mains`, at least one, are main programs.
    /// All are listed by `trapline list` with the arguments `listed`.
    ///
    /// # Errors
    /// As [`Resolution::new`].
    pub(crate) fn of_programs(
        objects: Vec<Object>,
        mains: usize,
        listed: Option<String>,
        mut specs: Vec<Spec>,
    ) -> anyhow::Result<Self> {
        let find = |specs: &[Spec]| -> Vec<Vec<Hit>> {
            objects
                .iter()
                .enumerate()
                .map(|(at, object)| literal::find(specs, object, at < mains))
                .collect()
        };
        let hits = find(&specs);
        let mut meanings = meanings(&specs, &hits);
        if specs.iter().zip(&meanings).all(|(spec, meaning)| excludes(spec, *meaning)) {
            specs.push(Spec::everything());
            meanings.push(Meaning::Pattern { libraries: false });
        }
        let walked = objects.iter().any(|object| runtimes::walks_stacks(&object.elf));
        let mut resolution = Self {
            matched: vec![0; specs.len()],
            selections: Vec::new(),
            objects,
            mains,
            listed,
            specs,
            meanings,
            runs: false,
            walked,
        };
        for (spec, meaning) in resolution.specs.iter().zip(&resolution.meanings) {
            if matches!(meaning, Meaning::Pattern { .. }) {
                spec.reading()?;
            }
        }
        for (at, hits) in hits.iter().enumerate() {
            let mut matched = std::mem::take(&mut resolution.matched);
            let object = &resolution.objects[at];
            let selection =
                select(object, &resolution.wanted(object, at < mains, hits), &mut matched);
            resolution.matched = matched;
            resolution.selections.push(selection);
            if at + 1 == mains {
                resolution.fall_back_to_libraries();
            }
        }
        let complaints: Vec<String> =
            resolution.unmatched().filter_map(|spec| resolution.complaint(spec)).collect();
        if complaints.is_empty() { Ok(resolution) } else { Err(Failure::errors(USAGE, complaints)) }
    }

    /// The same for programs that run already.
    pub(crate) fn of_running(self) -> Self {
        Self { runs: true, ..self }
    }

    /// The same for programs that have yet to run.
    pub(crate) fn of_waiting(self) -> Self {
        Self { runs: false, ..self }
    }

    /// Patterns that name no object and matched nothing in the main program mean its libraries.
    fn fall_back_to_libraries(&mut self) {
        for ((spec, meaning), matched) in
            self.specs.iter().zip(&mut self.meanings).zip(&self.matched)
        {
            let unqualified = spec
                .pattern()
                .is_some_and(|reading| reading.object.is_none() && !reading.measure.exclude);
            if let Meaning::Pattern { libraries } = meaning {
                *libraries = unqualified && *matched == 0;
            }
        }
    }

    /// What is asked for in `object`, some of whose functions have the names that specs are
    /// (`hits`).
    fn wanted<'a>(&'a self, object: &Object, main: bool, hits: &[Hit]) -> Wanted<'a> {
        let mut wanted = Wanted::default();
        for Hit { spec, rank, address, symbol } in hits.iter().copied() {
            if self.meanings[spec] == Meaning::Name(rank) {
                let measure = self.specs[spec].heads[rank.head].measure;
                wanted.named.entry(address).or_default().push(Named { spec, measure, symbol });
            }
        }
        for (index, (spec, meaning)) in self.specs.iter().zip(&self.meanings).enumerate() {
            let (Meaning::Pattern { libraries }, Some(reading)) = (meaning, spec.pattern()) else {
                continue;
            };
            let applies = match &reading.object {
                Some(pattern) => object.is(pattern),
                None => reading.measure.exclude || main || *libraries,
            };
            if applies {
                wanted.patterns.push((index, reading));
            }
        }
        wanted
    }

    /// Specs that have matched nothing so far, exclusions aside.
    pub(crate) fn unmatched(&self) -> impl Iterator<Item = &Spec> {
        let all = self.specs.iter().zip(&self.meanings).zip(&self.matched);
        all.filter(|((spec, meaning), matched)| !excludes(spec, **meaning) && **matched == 0)
            .map(|((spec, _), _)| spec)
    }

    /// What the specs mean in an object that appeared later. Its index, and a new selection unless
    /// the same program was known: a copy of a file counts with it, a file with another program in
    /// it does not.
    pub(crate) fn appeared(&mut self, object: Object) -> usize {
        if let Some(known) = self.objects.iter().position(|known| known.same_content(&object)) {
            return known;
        }
        let hits = literal::find(&self.specs, &object, false);
        // A spec that has meant nothing yet is a name if it is one here.
        for (spec, meaning) in
            meanings(&self.specs, std::slice::from_ref(&hits)).into_iter().enumerate()
        {
            let open = self.matched[spec] == 0 && !excludes(&self.specs[spec], self.meanings[spec]);
            if open && matches!(meaning, Meaning::Name(_)) {
                self.meanings[spec] = meaning;
            }
        }
        let mut matched = std::mem::take(&mut self.matched);
        let selection = select(&object, &self.wanted(&object, false, &hits), &mut matched);
        self.matched = matched;
        self.walked |= runtimes::walks_stacks(&object.elf);
        self.objects.push(object);
        self.selections.push(selection);
        self.objects.len() - 1
    }

    /// All functions that were left alone.
    pub(crate) fn skipped(&self) -> impl Iterator<Item = &Skipped> {
        self.selections.iter().flat_map(|selection| &selection.skipped)
    }

    /// Where functions that are asked for one by one are inlined as well as called, and whether
    /// there was more debug information than was searched. Patterns that can mean several functions
    /// are not looked at: what is said of hundreds tells nobody anything.
    ///
    /// Takes about 25 ms for each MiB of debug information (0.8 s for a debug build of this program
    /// with 32 MiB), and reads no more than 64; nothing where there is none.
    pub(crate) fn also_inlined(&self) -> (Vec<Inlined>, bool) {
        let mut room = MOST_INFORMATION;
        let mut found = Vec::new();
        for (object, selection) in self.objects.iter().zip(&self.selections) {
            let selects = |reading: &Reading| {
                let symbols = selection.functions.iter().filter_map(|function| function.symbol);
                symbols.into_iter().any(|symbol| reading.function.means(symbol))
            };
            let specs = self.specs.iter().zip(&self.meanings);
            let readings: Vec<&Reading> = specs
                .filter(|(spec, meaning)| !excludes(spec, **meaning))
                .filter_map(|(spec, _)| spec.pattern())
                .filter(|reading| reading.function.exact() && selects(reading))
                .filter(|reading| reading.object.as_ref().is_none_or(|of| object.is(of)))
                .collect();
            if !readings.is_empty() {
                found.extend(inlined::find(&readings, object, &mut room));
            }
        }
        (found, room == 0)
    }

    /// Whether a spec that means nothing yet may mean an object that is opened later: none of its
    /// name is there. Where a pattern has the name of the program alone, as `*memfd*` may have, a
    /// library of such a name can still come.
    fn may_come_later(&self, spec: &Spec) -> bool {
        let Some(pattern) = spec.pattern().and_then(|reading| reading.object.as_ref()) else {
            return false;
        };
        let besides = if pattern.several() { self.mains } else { 0 };
        !self.objects.iter().skip(besides).any(|object| object.is(pattern))
    }

    /// Why a spec that has matched nothing so far may do so yet, with what else may have been
    /// meant.
    pub(crate) fn waits_for(&self, spec: &Spec) -> String {
        let object = spec.pattern().and_then(|reading| reading.object.as_ref());
        if object.is_some_and(|object| self.objects.iter().any(|known| known.is(object))) {
            return "no function of the program".to_string();
        }
        let hint = object.map_or_else(String::new, |object| unknown::hint(object, &self.objects));
        format!("no such object is loaded at start{hint}")
    }

    /// Why nothing can match; none if the object may come later.
    fn complaint(&self, spec: &Spec) -> Option<String> {
        if self.may_come_later(spec) {
            return unknown::refusal(spec, &self.objects);
        }
        let (main, libraries) = self.objects.split_first().expect("there is a main program");
        let reading = spec.pattern();
        let object = reading.and_then(|reading| reading.object.as_ref());
        let among: Vec<(usize, &Object)> = self
            .objects
            .iter()
            .enumerate()
            .filter(|(_, known)| object.is_none_or(|pattern| known.is(pattern)))
            .collect();
        let place = match object {
            Some(_) => among
                .iter()
                .map(|(_, object)| visible(object.name()))
                .collect::<Vec<_>>()
                .join(", "),
            None if libraries.is_empty() => visible(main.name()).into_owned(),
            None => format!("{} or its libraries", visible(main.name())),
        };
        let wanted = reading.map_or(spec.text.as_str(), |reading| reading.function.text());
        let refused = format!("'{}' matches no function of {place}", visible(&spec.text));
        let inlined = reading.map(|reading| where_inlined(reading, &among));
        let (inlined, unread) = inlined.unwrap_or_default();
        if !inlined.is_empty() {
            return Some(format!("{refused}: {}{unread}", inlined.join("; ")));
        }
        let nearest = suggest::functions(
            wanted,
            among.iter().map(|(at, known)| (*at == 0 && object.is_none(), *known)),
        );
        let hint = nearest.hint().unwrap_or_else(|| {
            let listed = self.listed.clone();
            let listed = listed.unwrap_or_else(|| format!("-- {}", visible(main.name())));
            let mut hint = format!("; to see all: trapline list {listed}");
            if !main.table().has_names() {
                hint.push_str(" (it is stripped: its own functions have names like func@0x1234)");
            }
            hint
        });
        Some(format!("{refused}{hint}{unread}"))
    }
}

/// Where functions that a spec means are inlined in `objects`, a sentence each; and what to add
/// where there was more debug information than is read.
fn where_inlined(reading: &Reading, objects: &[(usize, &Object)]) -> (Vec<String>, String) {
    let mut room = MOST_INFORMATION;
    let found = objects.iter().flat_map(|(_, object)| inlined::find(&[reading], object, &mut room));
    let sentences = found.map(|inlined| inlined.sentence()).collect();
    let most = human::bytes(MOST_INFORMATION as u64);
    let unread = format!(" (looked for inlined functions in {most} of debug information only)");
    (first_of(sentences), if room == 0 { unread } else { String::new() })
}

/// Whether a spec that is understood so takes functions away.
fn excludes(spec: &Spec, meaning: Meaning) -> bool {
    match meaning {
        Meaning::Name(rank) => spec.heads[rank.head].measure.exclude,
        Meaning::Pattern { .. } => spec.excludes(),
    }
}

/// How each spec is understood where `hits` are the functions of each object that have its name.
fn meanings(specs: &[Spec], hits: &[Vec<Hit>]) -> Vec<Meaning> {
    let mut best: Vec<Option<Rank>> = vec![None; specs.len()];
    for hit in hits.iter().flatten() {
        let best = &mut best[hit.spec];
        *best = Some(best.map_or(hit.rank, |best| best.min(hit.rank)));
    }
    best.into_iter()
        .map(|rank| rank.map_or(Meaning::Pattern { libraries: false }, Meaning::Name))
        .collect()
}

#[cfg(test)]
mod tests;
