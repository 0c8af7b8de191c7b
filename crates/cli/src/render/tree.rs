//! A call tree as text: shares and weights in columns, the names indented.

use super::recording::weight;
use super::table::Look;
use crate::human::{grouped, percent};
use crate::model::functions::Functions;
use crate::model::recording::Recording;
use crate::model::tree::Tree;
use crate::names::fit;
use crate::text::BOLD;

/// The lines. What has less than `least` percent of the recording is left out, with all that is
/// below it.
pub(crate) fn tree(
    recording: &Recording,
    functions: &Functions,
    tree: &Tree,
    least: f64,
    look: Look,
) -> Vec<String> {
    let is_shown = |total: u64| functions.percent(total) >= least;
    // A callee never weighs more than its caller, so nothing that is shown hangs below something
    // that is not.
    let shown: Vec<_> = tree.nodes.iter().filter(|node| is_shown(node.total)).collect();
    let width = shown
        .iter()
        .map(|node| weight(recording, node.total).len())
        .max()
        .unwrap_or(0)
        .max("total".len());
    let head = format!("{:>7}  {:>width$}  function", "share", "total");
    let mut lines = vec![if look.bold { format!("{}{}{}", BOLD.0, head, BOLD.1) } else { head }];
    // The modules on the way to a node. One is named where it is not its caller's.
    let mut modules: Vec<&str> = Vec::new();
    for node in &shown {
        let module = functions.module(node.function, recording);
        modules.truncate(node.depth as usize);
        let place = if module.is_empty() || modules.last() == Some(&module) {
            String::new()
        } else {
            format!("  ({module})")
        };
        modules.push(module);
        let before = format!(
            "{:>7}  {:>width$}  {}",
            percent(functions.percent(node.total)),
            weight(recording, node.total),
            "  ".repeat(node.depth as usize),
        );
        let behind = format!("{}{place}", if node.inlined { "  [inlined]" } else { "" });
        let name = &functions.list[node.function as usize].name;
        let used = before.chars().count() + behind.chars().count();
        let name =
            look.width.map_or_else(|| name.clone(), |width| fit(name, width.saturating_sub(used)));
        lines.push(format!("{before}{name}{behind}"));
    }
    let hidden = tree.nodes.len() - shown.len();
    if hidden > 0 {
        lines.push(format!(
            "... and {} below {least} %; --min-percent 0 shows them",
            grouped(hidden as u64)
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{Look, tree};
    use crate::model::file::tests::complete;
    use crate::model::functions::Functions;
    use crate::model::tree::{Order, Part, Tree};

    const LOOK: Look = Look { limit: 40, all: false, bold: false, width: None };

    #[test]
    fn golden() {
        let recording = complete();
        let functions = Functions::of(&recording);
        let whole = Tree::new(&recording, &functions, Part::All, Order::Weight);
        let expected = [
            "  share  total  function",
            " 70.0 %      7  _start  (a)",
            " 70.0 %      7    main",
            " 40.0 %      4      g<int>  [inlined]",
            " 40.0 %      4        malloc  (libc.so.6)",
            " 30.0 %      3      f",
            " 30.0 %      3        malloc  (libc.so.6)",
            " 20.0 %      2  [no stack]",
            " 20.0 %      2    malloc  (libc.so.6)",
            "... and 4 below 15 %; --min-percent 0 shows them",
        ];
        assert_eq!(tree(&recording, &functions, &whole, 15.0, LOOK), expected);
        assert_eq!(
            tree(&recording, &functions, &whole, 0.0, Look { bold: true, ..LOOK }).len(),
            13
        );
    }
}
