//! The functions of a recording, with what each weighs: by itself, and with all that it called.

use super::recording::{Line, Recording};
use std::collections::HashMap;

/// A function, by name and module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Index of the module; none: what stands in brackets for stacks that are not known, or code
    /// that belongs to no file.
    pub(crate) module: Option<u32>,
    /// Source file, if any frame knows it.
    pub(crate) file: Option<String>,
    /// Weight of the stacks that end in it.
    pub(crate) own: u64,
    /// Weight of the stacks that it is in, each counted once: recursion adds nothing.
    pub(crate) total: u64,
}

/// A function as a stack has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// Index of the function.
    pub(crate) function: u32,
    /// Source line; 0: not known.
    pub(crate) line: u32,
    /// Whether it was inlined into its caller.
    pub(crate) inlined: bool,
}

/// All functions of a recording.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    pub(crate) list: Vec<Function>,
    /// The sum of all weights.
    pub(crate) total: u64,
    /// What each frame stands for, outermost first.
    frames: Vec<Vec<Call>>,
    /// Functions that stand for what is not known, by name.
    roots: HashMap<String, u32>,
}

impl Functions {
    pub(crate) fn of(recording: &Recording) -> Self {
        let mut index: HashMap<(String, Option<u32>), u32> = HashMap::new();
        let mut this = Self::default();
        for frame in &recording.frames {
            let mut calls = Vec::new();
            // Without symbols there is one name and nothing to go with it.
            let symbols = frame.symbols.iter().rev().map(Some).chain(std::iter::repeat(None));
            for (name, symbol) in frame.names(recording).into_iter().zip(symbols) {
                let function = this.intern(&mut index, name, frame.module);
                let known = &mut this.list[function as usize].file;
                if known.is_none() {
                    *known = symbol.and_then(|symbol| symbol.file.clone());
                }
                calls.push(Call {
                    function,
                    line: symbol.and_then(|symbol| symbol.line).unwrap_or(0),
                    inlined: !calls.is_empty(),
                });
            }
            this.frames.push(calls);
        }
        for root in recording.lines().filter_map(|line| line.root) {
            if !this.roots.contains_key(&root) {
                let function = this.intern(&mut index, root.clone(), None);
                this.roots.insert(root, function);
            }
        }
        this.weigh(recording);
        this
    }

    fn intern(
        &mut self,
        index: &mut HashMap<(String, Option<u32>), u32>,
        name: String,
        module: Option<u32>,
    ) -> u32 {
        *index.entry((name, module)).or_insert_with_key(|(name, module)| {
            self.list.push(Function { name: name.clone(), module: *module, ..Function::default() });
            self.list.len() as u32 - 1
        })
    }

    fn weigh(&mut self, recording: &Recording) {
        // The last line that each function was counted for, from 1.
        let mut counted = vec![0_usize; self.list.len()];
        let mut calls = Vec::new();
        for (number, line) in (1..).zip(recording.lines()) {
            self.expand(&line, &mut calls);
            for call in &calls {
                let at = call.function as usize;
                if counted[at] != number {
                    counted[at] = number;
                    self.list[at].total = self.list[at].total.saturating_add(line.weight);
                }
            }
            if let Some(last) = calls.last() {
                let own = &mut self.list[last.function as usize].own;
                *own = own.saturating_add(line.weight);
            }
            self.total = self.total.saturating_add(line.weight);
        }
    }

    /// The functions of a stack, outermost first, in place of what `into` had.
    pub(crate) fn expand(&self, line: &Line<'_>, into: &mut Vec<Call>) {
        into.clear();
        let root = line.root.as_ref().and_then(|root| self.roots.get(root));
        into.extend(root.map(|function| Call { function: *function, line: 0, inlined: false }));
        into.extend(line.frames.iter().flat_map(|at| &self.frames[*at as usize]));
    }

    /// The share of a weight in all of them, in percent.
    pub(crate) fn percent(&self, weight: u64) -> f64 {
        if self.total == 0 { 0.0 } else { weight as f64 * 100.0 / self.total as f64 }
    }

    /// The name of the module of a function; empty if it has none.
    pub(crate) fn module<'a>(&self, function: u32, recording: &'a Recording) -> &'a str {
        let module = self.list[function as usize].module;
        module.and_then(|at| recording.modules.get(at as usize)).map_or("", |module| module.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Functions;
    use crate::model::file::tests::{complete, sample};
    use crate::model::recording::{Recording, Stack, Weight};

    fn weights(recording: &Recording) -> Vec<(String, u64, u64)> {
        let mut all: Vec<_> =
            Functions::of(recording).list.into_iter().map(|f| (f.name, f.own, f.total)).collect();
        all.sort();
        all
    }

    #[test]
    fn own_and_total() {
        let expected = [
            ("[no stack]", 0, 2),
            ("[no unwind information]", 0, 1),
            ("_start", 0, 7),
            ("f", 0, 3),
            ("g<int>", 0, 5),
            ("main", 0, 8),
            ("malloc", 10, 10),
        ];
        assert_eq!(
            weights(&complete()),
            expected.map(|(name, own, total)| (name.to_string(), own, total))
        );
        assert_eq!(Functions::of(&complete()).total, 10);
    }

    #[test]
    fn recursion_is_counted_once() {
        let mut recording = complete();
        recording.stacks =
            vec![Stack { frames: vec![0, 1, 1, 1, 3], calls: 6, self_ns: 60, ..Stack::default() }];
        recording.no_stack.functions.clear();
        let weights = weights(&recording);
        assert!(
            weights.contains(&("f".to_string(), 0, 6))
                && weights.contains(&("malloc".to_string(), 6, 6)),
            "{weights:?}"
        );
        recording.header.weight = Weight::Time;
        assert_eq!(Functions::of(&recording).total, 60);
    }

    #[test]
    fn a_frame_without_symbols_is_its_address() {
        assert!(
            weights(&sample()).iter().any(|(name, _, total)| name == "a+0x1000" && *total == 7)
        );
    }
}
