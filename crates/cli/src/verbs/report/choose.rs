//! Which functions of a recording a name means.

use crate::exit::{Failure, USAGE};
use crate::model::functions::Functions;
use crate::names::{elided, with_parts, without_generics};
use crate::pattern::Pattern;
use crate::suggest::Nearest;
use crate::text::visible;

/// For each function, whether `text` means it: its name as it is printed, or else a pattern.
///
/// # Errors
/// It means none of them; the nearest names are in the message.
pub(super) fn choose(functions: &Functions, text: &str) -> anyhow::Result<Vec<bool>> {
    let chosen = |is_meant: &dyn Fn(&str) -> bool| -> Option<Vec<bool>> {
        let all: Vec<bool> = functions
            .list
            .iter()
            .map(|function| function.total > 0 && is_meant(&function.name))
            .collect();
        all.contains(&true).then_some(all)
    };
    let parts = elided(text);
    let found = chosen(&|name| name == text || *visible(name) == *text).or_else(|| {
        chosen(&|name| parts.as_ref().is_some_and(|parts| with_parts(&visible(name), parts)))
    });
    if let Some(found) = found {
        return Ok(found);
    }
    let pattern = Pattern::new(text)?;
    let is_meant = |name: &str| {
        pattern.matches(name) || (!pattern.generics && pattern.matches(&without_generics(name)))
    };
    chosen(&is_meant).ok_or_else(|| Failure::error(USAGE, complaint(functions, text)))
}

fn complaint(functions: &Functions, text: &str) -> String {
    let mut nearest = Nearest::new(text);
    let names =
        functions.list.iter().filter(|function| function.total > 0).map(|function| &function.name);
    names.for_each(|name| nearest.offer(name, || name.clone()));
    let hint = nearest
        .hint()
        .unwrap_or_else(|| "; `trapline report --all FILE` shows all that it has".to_string());
    format!("'{}' matches no function of the recording{hint}", visible(text))
}
