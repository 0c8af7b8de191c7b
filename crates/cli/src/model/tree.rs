//! Stacks merged into a tree: a node for each way to a function, with the weight of all stacks that
//! went there.

use super::functions::{Call, Functions};
use super::recording::Recording;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Which part of each stack is merged, and from which end. A stack that does not have the part is
/// left out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    /// From the outermost function to the innermost.
    All,
    /// From one of these functions (where it is innermost) to its callers. Indexed by function.
    Callers(&'a [bool]),
    /// From one of these functions (where it is outermost) to its callees. Indexed by function.
    Callees(&'a [bool]),
}

/// The order of the functions that one function calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Name,
    /// Heaviest first.
    Weight,
}

/// A function, at one place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) function: u32,
    /// 0: a root.
    pub(crate) depth: u32,
    /// Weight of the stacks that come through here.
    pub(crate) total: u64,
    /// The first and the last source line that was seen; 0: not known.
    pub(crate) lines: (u32, u32),
    /// Whether it was always inlined into its caller.
    pub(crate) inlined: bool,
}

/// The tree. A node stands in front of all that is below it.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
}

impl Part<'_> {
    /// Leaves in `calls` what is to be merged, root first.
    fn take(self, calls: &mut Vec<Call>) {
        let is_in = |wanted: &[bool], call: &Call| wanted[call.function as usize];
        match self {
            Part::All => {}
            Part::Callers(wanted) => {
                let end = calls.iter().rposition(|call| is_in(wanted, call)).map_or(0, |at| at + 1);
                calls.truncate(end);
                calls.reverse();
            }
            Part::Callees(wanted) => {
                let start =
                    calls.iter().position(|call| is_in(wanted, call)).unwrap_or(calls.len());
                calls.drain(..start);
            }
        }
    }
}

/// Nodes while they come, in no order.
#[derive(Default)]
struct Growing {
    nodes: Vec<Node>,
    children: Vec<Vec<u32>>,
    /// By parent and function.
    index: HashMap<(Option<u32>, u32), u32>,
    roots: Vec<u32>,
}

impl Growing {
    fn add(&mut self, calls: &[Call], weight: u64) {
        let mut parent = None;
        for (depth, call) in (0..).zip(calls) {
            let at = *self.index.entry((parent, call.function)).or_insert_with(|| {
                let at = self.nodes.len() as u32;
                self.nodes.push(Node {
                    function: call.function,
                    depth,
                    total: 0,
                    lines: (0, 0),
                    inlined: true,
                });
                self.children.push(Vec::new());
                match parent {
                    Some(parent) => self.children[parent as usize].push(at),
                    None => self.roots.push(at),
                }
                at
            });
            let node = &mut self.nodes[at as usize];
            node.total = node.total.saturating_add(weight);
            node.inlined &= call.inlined;
            node.lines = match node.lines {
                lines if call.line == 0 => lines,
                (0, _) => (call.line, call.line),
                (first, last) => (first.min(call.line), last.max(call.line)),
            };
            parent = Some(at);
        }
    }

    fn sorted(mut self, functions: &Functions, order: Order) -> Tree {
        let nodes = &self.nodes;
        let sort = |list: &mut Vec<u32>| {
            let name = |at: u32| {
                let function = nodes[at as usize].function;
                (&functions.list[function as usize].name, function)
            };
            match order {
                Order::Name => list.sort_unstable_by_key(|at| name(*at)),
                Order::Weight => {
                    list.sort_unstable_by_key(|at| (Reverse(nodes[*at as usize].total), name(*at)))
                }
            }
        };
        sort(&mut self.roots);
        self.children.iter_mut().for_each(sort);
        // A stack of its own: recursion in the recorded program is no recursion here.
        let mut waiting = self.roots;
        waiting.reverse();
        let mut tree = Tree { nodes: Vec::with_capacity(self.nodes.len()) };
        while let Some(at) = waiting.pop() {
            tree.nodes.push(self.nodes[at as usize]);
            waiting.extend(self.children[at as usize].iter().rev());
        }
        tree
    }
}

impl Tree {
    pub(crate) fn new(
        recording: &Recording,
        functions: &Functions,
        part: Part<'_>,
        order: Order,
    ) -> Self {
        let mut growing = Growing::default();
        let mut calls = Vec::new();
        for line in recording.lines() {
            functions.expand(&line, &mut calls);
            part.take(&mut calls);
            growing.add(&calls, line.weight);
        }
        growing.sorted(functions, order)
    }
}

#[cfg(test)]
mod tests {
    use super::{Order, Part, Tree};
    use crate::model::file::tests::complete;
    use crate::model::functions::Functions;
    use crate::model::recording::{Recording, Stack};

    fn drawn(
        recording: &Recording,
        part: impl Fn(&str) -> bool,
        callers: Option<bool>,
        order: Order,
    ) -> Vec<String> {
        let functions = Functions::of(recording);
        let wanted: Vec<bool> =
            functions.list.iter().map(|function| part(&function.name)).collect();
        let part = match callers {
            None => Part::All,
            Some(true) => Part::Callers(&wanted),
            Some(false) => Part::Callees(&wanted),
        };
        let tree = Tree::new(recording, &functions, part, order);
        let line = |node: &super::Node| {
            format!(
                "{}{} {}",
                " ".repeat(node.depth as usize),
                functions.list[node.function as usize].name,
                node.total
            )
        };
        tree.nodes.iter().map(line).collect()
    }

    #[test]
    fn the_whole_tree() {
        let expected = [
            "[no stack] 2",
            " malloc 2",
            "[no unwind information] 1",
            " main 1",
            "  g<int> 1",
            "   malloc 1",
            "_start 7",
            " main 7",
            "  f 3",
            "   malloc 3",
            "  g<int> 4",
            "   malloc 4",
        ];
        assert_eq!(drawn(&complete(), |_| false, None, Order::Name), expected);
        let by_weight = drawn(&complete(), |_| false, None, Order::Weight);
        assert_eq!(by_weight[..4], ["_start 7", " main 7", "  g<int> 4", "   malloc 4"]);
    }

    #[test]
    fn callers_and_callees() {
        let callers = ["g<int> 5", " main 5", "  _start 4", "  [no unwind information] 1"];
        assert_eq!(drawn(&complete(), |name| name == "g<int>", Some(true), Order::Weight), callers);
        let callees = ["main 8", " g<int> 5", "  malloc 5", " f 3", "  malloc 3"];
        assert_eq!(drawn(&complete(), |name| name == "main", Some(false), Order::Weight), callees);
        assert!(drawn(&complete(), |name| name == "nosuch", Some(false), Order::Weight).is_empty());
    }

    #[test]
    fn a_recursive_function_is_counted_once_per_stack() {
        let mut recording = complete();
        recording.stacks = vec![Stack { frames: vec![0, 1, 1, 3], calls: 6, ..Stack::default() }];
        recording.no_stack.functions.clear();
        assert_eq!(
            drawn(&recording, |name| name == "f", Some(true), Order::Weight),
            ["f 6", " f 6", "  main 6"]
        );
        assert_eq!(
            drawn(&recording, |name| name == "f", Some(false), Order::Weight),
            ["f 6", " f 6", "  malloc 6"]
        );
    }

    #[test]
    fn lines_and_inlining() {
        let recording = complete();
        let functions = Functions::of(&recording);
        let tree = Tree::new(&recording, &functions, Part::All, Order::Name);
        let node = |name: &str| {
            *tree
                .nodes
                .iter()
                .rfind(|node| functions.list[node.function as usize].name == name)
                .unwrap()
        };
        // main calls f at line 33, and g was inlined into it at line 30.
        assert_eq!((node("main").lines, node("main").inlined), ((30, 33), false));
        assert_eq!((node("g<int>").lines, node("g<int>").inlined), ((31, 31), true));
    }

    #[test]
    fn a_deep_stack_needs_no_deep_recursion() {
        let mut recording = complete();
        recording.stacks = vec![Stack { frames: vec![1; 200_000], calls: 1, ..Stack::default() }];
        recording.no_stack.functions.clear();
        let tree = Tree::new(&recording, &Functions::of(&recording), Part::All, Order::Name);
        assert_eq!(tree.nodes.len(), 200_000);
    }
}
