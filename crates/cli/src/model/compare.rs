//! Two recordings side by side: one tree of the stacks of both, each node with its weight in
//! either.

use super::counters::sum;
use super::diff::stem;
use super::functions::Functions;
use super::recording::Recording;
use std::collections::HashMap;

/// A function of either recording. The same one may lie in an object of another name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) name: String,
    /// The object, as the later recording has it if it is in both; empty if there is none.
    pub(crate) object: String,
    /// Weight of the stacks that end in it, before and after.
    pub(crate) own: [u64; 2],
    /// Weight of the stacks that it is in, each counted once.
    pub(crate) total: [u64; 2],
}

/// A function, at one place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) label: u32,
    /// 0: a root.
    pub(crate) depth: u32,
    /// Weight of the stacks that come through here, before and after.
    pub(crate) weights: [u64; 2],
    /// What has room for both, and for all that is above it.
    pub(crate) width: u64,
}

/// The stacks of two recordings with the same unit. A node stands in front of all that is below it.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    pub(crate) labels: Vec<Label>,
    pub(crate) nodes: Vec<Node>,
    /// The sums of all weights.
    pub(crate) totals: [u64; 2],
    /// The width of all roots together.
    pub(crate) width: u64,
}

#[derive(Default)]
struct Growing {
    labels: HashMap<(String, String), u32>,
    list: Vec<Label>,
    nodes: Vec<Node>,
    children: Vec<Vec<u32>>,
    index: HashMap<(Option<u32>, u32), u32>,
    roots: Vec<u32>,
}

impl Growing {
    /// Takes in the stacks of one side.
    fn add(&mut self, recording: &Recording, side: usize) -> u64 {
        let functions = Functions::of(recording);
        let program = recording
            .header
            .command
            .first()
            .map_or("", |word| word.rsplit('/').next().unwrap_or(word));
        let labels: Vec<u32> = functions
            .list
            .iter()
            .enumerate()
            .map(|(at, function)| {
                let object = functions.module(at as u32, recording);
                // The program itself is compared with the other program, whatever it is called.
                let known_as = if object == program { "the program" } else { stem(object) };
                let label = *self
                    .labels
                    .entry((function.name.clone(), known_as.to_string()))
                    .or_insert_with(|| {
                        self.list.push(Label { name: function.name.clone(), ..Label::default() });
                        self.list.len() as u32 - 1
                    });
                let known = &mut self.list[label as usize];
                known.object = object.to_string();
                known.own[side] = known.own[side].saturating_add(function.own);
                known.total[side] = known.total[side].saturating_add(function.total);
                label
            })
            .collect();
        let mut calls = Vec::new();
        for line in recording.lines() {
            functions.expand(&line, &mut calls);
            let mut parent = None;
            for (depth, call) in (0..).zip(&calls) {
                let label = labels[call.function as usize];
                let at = self.node(parent, label, depth);
                let weight = &mut self.nodes[at as usize].weights[side];
                *weight = weight.saturating_add(line.weight);
                parent = Some(at);
            }
        }
        functions.total
    }

    fn node(&mut self, parent: Option<u32>, label: u32, depth: u32) -> u32 {
        *self.index.entry((parent, label)).or_insert_with(|| {
            let at = self.nodes.len() as u32;
            self.nodes.push(Node { label, depth, weights: [0; 2], width: 0 });
            self.children.push(Vec::new());
            match parent {
                Some(parent) => self.children[parent as usize].push(at),
                None => self.roots.push(at),
            }
            at
        })
    }

    fn sorted(mut self) -> (Vec<Label>, Vec<Node>, u64) {
        // A parent comes before its children: backwards, all that is above a node has its width
        // already.
        for at in (0..self.nodes.len()).rev() {
            let above =
                sum(self.children[at].iter().map(|child| self.nodes[*child as usize].width));
            let node = &mut self.nodes[at];
            node.width = node.weights[0].max(node.weights[1]).max(above);
        }
        let name = |nodes: &[Node], list: &[Label], at: u32| {
            list[nodes[at as usize].label as usize].name.clone()
        };
        for children in self.children.iter_mut().chain(std::iter::once(&mut self.roots)) {
            children.sort_by_key(|at| name(&self.nodes, &self.list, *at));
        }
        let width = sum(self.roots.iter().map(|root| self.nodes[*root as usize].width));
        let mut waiting: Vec<u32> = self.roots.iter().rev().copied().collect();
        let mut nodes = Vec::with_capacity(self.nodes.len());
        while let Some(at) = waiting.pop() {
            nodes.push(self.nodes[at as usize]);
            waiting.extend(self.children[at as usize].iter().rev());
        }
        (self.list, nodes, width)
    }
}

impl Compared {
    /// # Errors
    /// One counts calls and the other time.
    pub(crate) fn of(before: &Recording, after: &Recording) -> Result<Self, String> {
        if before.header.weight != after.header.weight {
            return Err(format!(
                "one recording has {}, the other {}: they cannot be compared",
                before.unit(),
                after.unit()
            ));
        }
        let mut growing = Growing::default();
        let totals = [growing.add(before, 0), growing.add(after, 1)];
        let (labels, nodes, width) = growing.sorted();
        Ok(Self { labels, nodes, totals, width })
    }
}

/// What became of a weight, from -1 (gone) by 0 (the same) to 1 (new).
pub(crate) fn change([before, after]: [u64; 2]) -> f64 {
    let most = before.max(after);
    if most == 0 { 0.0 } else { (after as f64 - before as f64) / most as f64 }
}

/// The same as a factor, in words where there is none.
pub(crate) fn factor(both: [u64; 2]) -> String {
    match both {
        [0, 0] => String::new(),
        [0, _] => "new".to_string(),
        [_, 0] => "gone".to_string(),
        [before, after] => format!("x{:.2}", after as f64 / before as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::{Compared, change};
    use crate::model::file::tests::complete;
    use crate::model::recording::Weight;

    #[test]
    fn a_tree_of_both() {
        let before = complete();
        let mut after = complete();
        after.stacks[0].calls = 12;
        after.stacks.remove(2);
        // Another version of the library, and the program under another name.
        after.modules[1].path = "/lib/libc.so.7".to_string();
        (after.modules[0].path, after.header.command[0]) =
            ("/bin/b".to_string(), "./b".to_string());
        let compared = Compared::of(&before, &after).unwrap();
        assert_eq!((compared.totals, compared.width), ([10, 18], 19));
        let nodes: Vec<(String, u32, [u64; 2], u64)> = compared
            .nodes
            .iter()
            .map(|node| {
                (
                    compared.labels[node.label as usize].name.clone(),
                    node.depth,
                    node.weights,
                    node.width,
                )
            })
            .collect();
        let node = |name: &str, depth, weights, width| (name.to_string(), depth, weights, width);
        let expected = [
            node("[no stack]", 0, [2, 2], 2),
            node("malloc", 1, [2, 2], 2),
            node("[no unwind information]", 0, [1, 0], 1),
            node("main", 1, [1, 0], 1),
            node("g<int>", 2, [1, 0], 1),
            node("malloc", 3, [1, 0], 1),
            node("_start", 0, [7, 16], 16),
            node("main", 1, [7, 16], 16),
            node("f", 2, [3, 12], 12),
            node("malloc", 3, [3, 12], 12),
            node("g<int>", 2, [4, 4], 4),
            node("malloc", 3, [4, 4], 4),
        ];
        assert_eq!(nodes, expected);
        let malloc = compared.labels.iter().find(|label| label.name == "malloc").unwrap();
        assert_eq!(
            (malloc.object.as_str(), malloc.own, malloc.total),
            ("libc.so.7", [10, 18], [10, 18])
        );
    }

    #[test]
    fn what_cannot_be_compared() {
        let mut timed = complete();
        timed.header.weight = Weight::Time;
        assert!(Compared::of(&complete(), &timed).is_err());
        assert_eq!(
            [change([0, 0]), change([0, 5]), change([5, 0]), change([4, 4]), change([5, 10])],
            [0.0, 1.0, -1.0, 0.0, 0.5]
        );
    }
}
