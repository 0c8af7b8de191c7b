//! A flame graph before it is drawn: boxes in rows, each above its caller.

/// A box narrower than this part of the whole is left out, with all above it: nobody sees it.
const LEAST: f64 = 1e-4;

/// A node and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: usize,
    /// Weight to the left of it.
    pub(super) start: u64,
}

/// Places those of the first `count` nodes whose box can be seen. A node stands in front of all
/// above it, and is not narrower than its children together.
pub(super) fn places(
    count: usize,
    depth: impl Fn(usize) -> u32,
    total: u64,
    width: impl Fn(usize) -> u64,
) -> Vec<Place> {
    let least = total as f64 * LEAST;
    let mut places = Vec::new();
    // Where the next box of a depth begins: behind the last one there, or where its caller begins.
    let mut next: Vec<u64> = vec![0];
    let mut hidden: Option<u32> = None;
    for node in 0..count {
        let level = depth(node);
        let depth = level as usize;
        if hidden.is_some_and(|above| level > above) {
            continue;
        }
        hidden = None;
        next.truncate(depth + 1);
        let start = next[depth];
        let width = width(node);
        next[depth] = start.saturating_add(width);
        if (width as f64) < least || width == 0 {
            hidden = Some(level);
            continue;
        }
        next.push(start);
        places.push(Place { node, start });
    }
    places
}

#[cfg(test)]
mod tests {
    use super::{Place, places};
    use crate::model::file::tests::complete;
    use crate::model::functions::Functions;
    use crate::model::recording::Stack;
    use crate::model::tree::{Order, Part, Tree};

    fn of(tree: &Tree, total: u64) -> Vec<Place> {
        places(
            tree.nodes.len(),
            |node| tree.nodes[node].depth,
            total,
            |node| tree.nodes[node].total,
        )
    }

    #[test]
    fn children_lie_within_their_parents_one_beside_the_other() {
        let recording = complete();
        let functions = Functions::of(&recording);
        let tree = Tree::new(&recording, &functions, Part::All, Order::Name);
        let found: Vec<(&str, u32, u64)> = of(&tree, 10)
            .iter()
            .map(|place| {
                let node = tree.nodes[place.node];
                (functions.list[node.function as usize].name.as_str(), node.depth, place.start)
            })
            .collect();
        let expected = [
            ("[no stack]", 0, 0),
            ("malloc", 1, 0),
            ("[no unwind information]", 0, 2),
            ("main", 1, 2),
            ("g<int>", 2, 2),
            ("malloc", 3, 2),
            ("_start", 0, 3),
            ("main", 1, 3),
            ("f", 2, 3),
            ("malloc", 3, 3),
            ("g<int>", 2, 6),
            ("malloc", 3, 6),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_too_narrow_is_left_out_with_all_above_it_and_keeps_its_room() {
        let mut recording = complete();
        recording.no_stack.functions.clear();
        recording.stacks = vec![
            Stack { frames: vec![0, 1, 3], calls: 1, ..Stack::default() },
            Stack { frames: vec![0, 4], calls: 1_000_000, ..Stack::default() },
        ];
        let functions = Functions::of(&recording);
        let tree = Tree::new(&recording, &functions, Part::All, Order::Name);
        let all = of(&tree, 1_000_001);
        assert_eq!(
            all.iter().map(|place| (tree.nodes[place.node].depth, place.start)).collect::<Vec<_>>(),
            [(0, 0), (1, 0)]
        );
        let order = Tree::new(&recording, &functions, Part::All, Order::Weight);
        assert_eq!(of(&order, 1_000_001).len(), 2);
    }
}
