//! Specs against a program and its libraries.

use crate::exit::{Failure, USAGE};
use crate::select::{Selection, Skipped, applying, select, suggestions};
use crate::spec::Spec;
use crate::symbols::object::Object;

/// A program, its libraries, and what the specs mean in them.
#[derive(Debug)]
pub(crate) struct Resolution {
    /// The main program first.
    pub(crate) objects: Vec<Object>,
    /// What is to be armed in each.
    pub(crate) selections: Vec<Selection>,
    pub(crate) specs: Vec<Spec>,
    /// Functions that each spec took.
    pub(crate) matched: Vec<usize>,
    /// Specs without an object part that nothing in the main program matched: they mean its libraries.
    fallback: Vec<usize>,
}

impl Resolution {
    /// Applies `specs` to `objects`, the main program first.
    ///
    /// # Errors
    /// A spec matches nothing although its object is there: exit code 2, with the nearest names.
    pub(crate) fn new(objects: Vec<Object>, specs: Vec<Spec>) -> anyhow::Result<Self> {
        let mut matched = vec![0; specs.len()];
        let mut selections: Vec<Selection> = Vec::with_capacity(objects.len());
        let (main, libraries) = objects.split_first().expect("there is a main program");
        selections.push(select(main, &applying(&specs, main, true, &[]), &mut matched));
        let unqualified = |index: &usize| specs[*index].object.is_none() && !specs[*index].exclude && matched[*index] == 0;
        let fallback: Vec<usize> = (0..specs.len()).filter(unqualified).collect();
        for library in libraries {
            selections.push(select(library, &applying(&specs, library, false, &fallback), &mut matched));
        }
        let resolution = Self { objects, selections, specs, matched, fallback };
        let complaints: Vec<String> =
            resolution.unmatched().filter(|spec| !resolution.may_come_later(spec)).map(|spec| resolution.complaint(spec)).collect();
        if complaints.is_empty() { Ok(resolution) } else { Err(Failure::error(USAGE, complaints.join("\n"))) }
    }

    /// Specs that have matched nothing so far, exclusions aside.
    pub(crate) fn unmatched(&self) -> impl Iterator<Item = &Spec> {
        self.specs.iter().zip(&self.matched).filter(|(spec, matched)| !spec.exclude && **matched == 0).map(|(spec, _)| spec)
    }

    /// What the specs mean in an object that appeared later. Its index, and a new selection unless the object was known.
    pub(crate) fn appeared(&mut self, object: Object) -> usize {
        if let Some(known) = self.objects.iter().position(|known| (known.device, known.inode) == (object.device, object.inode)) {
            return known;
        }
        let selection = select(&object, &applying(&self.specs, &object, false, &self.fallback), &mut self.matched);
        self.objects.push(object);
        self.selections.push(selection);
        self.objects.len() - 1
    }

    /// All functions that were left alone.
    pub(crate) fn skipped(&self) -> impl Iterator<Item = &Skipped> {
        self.selections.iter().flat_map(|selection| &selection.skipped)
    }

    fn may_come_later(&self, spec: &Spec) -> bool {
        spec.object.as_ref().is_some_and(|pattern| !self.objects.iter().any(|object| object.is(pattern)))
    }

    fn complaint(&self, spec: &Spec) -> String {
        let (main, libraries) = self.objects.split_first().expect("there is a main program");
        let place = match &spec.object {
            Some(pattern) => {
                let names: Vec<&str> = self.objects.iter().filter(|object| object.is(pattern)).map(Object::name).collect();
                names.join(", ")
            }
            None if libraries.is_empty() => main.name().to_string(),
            None => format!("{} or its libraries", main.name()),
        };
        let (names, near) = suggestions(spec, main, libraries);
        let mut hint = match (names.is_empty(), near) {
            (true, _) => String::new(),
            (false, true) => format!("; did you mean {}?", names.join(", ")),
            (false, false) => format!("; the nearest names are {}", names.join(", ")),
        };
        if !near {
            hint.push_str(&format!("; to see all: trapline list -- {}", main.name()));
            if !main.table().has_names() {
                hint.push_str(" (it is stripped: its own functions have names like func@0x1234)");
            }
        }
        format!("'{}' matches no function of {place}{hint}", spec.text)
    }
}
