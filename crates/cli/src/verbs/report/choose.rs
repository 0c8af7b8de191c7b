//! Which functions of a recording a name means.

use crate::exit::{Failure, USAGE};
use crate::names::without_generics;
use crate::pattern::Pattern;
use crate::recording::functions::Functions;
use crate::select::{NEAR, likeness, without_signs};

/// Most names that are suggested.
const MOST: usize = 3;

/// For each function, whether `text` means it.
///
/// # Errors
/// It means none of them; the nearest names are in the message.
pub(super) fn choose(functions: &Functions, text: &str) -> anyhow::Result<Vec<bool>> {
    let pattern = Pattern::new(text)?;
    let is_meant = |name: &str| pattern.matches(name) || (!pattern.generics && pattern.matches(&without_generics(name)));
    let chosen: Vec<bool> = functions.list.iter().map(|function| function.total > 0 && is_meant(&function.name)).collect();
    if chosen.contains(&true) { Ok(chosen) } else { Err(Failure::error(USAGE, complaint(functions, text))) }
}

fn complaint(functions: &Functions, text: &str) -> String {
    let wanted = without_signs(text);
    let names = functions.list.iter().filter(|function| function.total > 0).map(|function| function.name.as_str());
    let mut best: Vec<(f64, &str)> = names.map(|name| (likeness(&wanted, name), name)).collect();
    best.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    best.dedup_by(|a, b| a.1 == b.1);
    let near = best.first().is_some_and(|(score, _)| *score >= NEAR);
    best.retain(|(score, _)| *score >= NEAR || !near);
    let names: Vec<&str> = best.into_iter().take(MOST).map(|(_, name)| name).collect();
    let hint = match (names.is_empty(), near) {
        (true, _) => "; it has no hits".to_string(),
        (false, true) => format!("; did you mean {}?", names.join(", ")),
        (false, false) => format!("; the nearest names are {}; `trapline report --all FILE` shows all", names.join(", ")),
    };
    format!("'{text}' matches no function of the recording{hint}")
}
