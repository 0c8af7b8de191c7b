//! How much is left unreclaimed while one reader stands still.

use super::schemes::{
    Arcs, Crossbeam, Haphazard, Hazptr, Object, Papaya, Rcu, Scheme, Sdd, Seize, SrcuFast, Tally,
};
use crate::options::Options;
use crate::report::Sheet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

/// Objects retired while the reader stalls.
pub(super) const RETIRED: u64 = 300_000;

/// One scheme's outcome.
pub(super) struct Left {
    pub(super) name: &'static str,
    pub(super) ours: bool,
    /// Retired and not reclaimed at the end, the reader still standing there.
    pub(super) unreclaimed: u64,
    /// What the scheme promises, if it promises anything.
    pub(super) bound: Option<u64>,
    pub(super) retired: u64,
}

/// Runs every scheme once.
pub(super) fn run(options: &Options) -> Vec<Left> {
    let retired = if options.quick { RETIRED / 10 } else { RETIRED };
    // Two slots blocks at most are in use, for which 1000 is the larger term of max(1000, 2 x
    // hazard slots).
    vec![
        left::<Hazptr>(true, Some(1000), retired),
        left::<Rcu>(true, None, retired),
        left::<SrcuFast>(true, None, retired),
        left::<Haphazard>(false, Some(1000), retired),
        left::<Crossbeam>(false, None, retired),
        left::<Seize>(false, None, retired),
        left::<Sdd>(false, None, retired),
        left::<Papaya>(false, None, retired),
        left::<Arcs>(false, None, retired),
    ]
}

fn left<S: Scheme>(ours: bool, bound: Option<u64>, retired: u64) -> Left {
    let tally = Tally::default();
    let object = |value| Object { value, tally: Some(Arc::clone(&tally)) };
    let scheme = S::new(object(0));
    let mut reclaimed = 0;
    scheme.stall(|| {
        // The writer is another thread: some schemes treat a thread's own section differently.
        thread::scope(|s| {
            s.spawn(|| (1..=retired).for_each(|value| scheme.replace(object(value))));
        });
        reclaimed = tally.load(Ordering::Relaxed); // the writer has been joined
    });
    Left { name: S::NAME, ours, unreclaimed: retired - reclaimed, bound, retired }
}

/// The outcome as a table.
pub(super) fn sheet(all: &[Left]) -> Sheet {
    let retired = all.first().map_or(0, |l| l.retired);
    let mut sheet = Sheet::new(
        &format!("one stalled reader, {retired} objects retired: how many are not reclaimed"),
        &["unreclaimed", "stated bound"],
    );
    for l in all {
        let remark = if l.unreclaimed == l.retired { "keeps all" } else { "" };
        sheet.row(l.name, vec![Some(l.unreclaimed as f64), l.bound.map(|b| b as f64)], remark);
    }
    sheet.notes.push(
        "arc-swap's reader holds one reference: it keeps one object; grace-period schemes, \
            ours too, wait for the reader"
            .to_owned(),
    );
    sheet
}
