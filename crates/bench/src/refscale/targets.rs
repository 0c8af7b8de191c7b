//! What the reclamation schemes have to reach.

use super::case::Readers;
use super::schemes;
use super::stalled::Left;
use crate::harness::Campaign;
use crate::report::{Bound, Target};
use crate::stats::Summary;
use schemes::Scheme;

/// All targets of `refscale`.
pub(super) fn judge(
    reading: &Campaign,
    readers: &[Readers],
    writing: &Campaign,
    stalled: &[Left],
) -> Vec<Target> {
    let case = |n: usize| readers.iter().position(|r| r.0 == n);
    let ratio = |n: usize, a: &str, b: &str| reading.ratio_of(case(n)?, a, b);
    let scaling = |name: &str, to: usize| {
        let row = reading.entry(name)?;
        reading.ratio(case(to)?, row, case(1)?, row)
    };
    let at_most = |what: &str, limit: f64, measured: Option<Summary>| {
        Target::new(what, Bound::AtMost(limit), measured)
    };
    let (kept, tls, epoch, arc) =
        ("hazptr, kept holder", "hazptr, slot from TLS", "crossbeam-epoch pin", "Arc clone + drop");
    let mut targets = vec![
        at_most(
            "hazptr kept holder / haphazard kept holder, 1 reader",
            0.15,
            ratio(1, kept, "haphazard, kept holder"),
        ),
        at_most("hazptr kept holder / crossbeam-epoch, 1 reader", 0.2, ratio(1, kept, epoch)),
        at_most("hazptr kept holder / crossbeam-epoch, 32 readers", 0.2, ratio(32, kept, epoch)),
        at_most("hazptr kept holder: 32 readers / 1 (flat)", 1.2, scaling(kept, 32)),
        at_most("hazptr slot from TLS / crossbeam-epoch, 1 reader", 0.3, ratio(1, tls, epoch)),
        at_most("rcu / crossbeam-epoch, 1 reader", 0.35, ratio(1, "rcu", epoch)),
        at_most("rcu / liburcu memb, 1 reader", 0.5, ratio(1, "rcu", "liburcu memb")),
        at_most("srcu / crossbeam-epoch, 1 reader", 1.0, ratio(1, "srcu", epoch)),
        at_most("srcu-fast / crossbeam-epoch, 1 reader", 0.6, ratio(1, "srcu-fast", epoch)),
        at_most("percpu_ref / Arc, 1 reader (uncontended)", 0.4, ratio(1, "percpu_ref", arc)),
        at_most("percpu_ref / Arc, 2 readers (contended)", 0.08, ratio(2, "percpu_ref", arc)),
        at_most("percpu_ref / Arc, 32 readers (contended)", 0.08, ratio(32, "percpu_ref", arc)),
        at_most("cached ref / Arc, 1 reader (uncontended)", 0.25, ratio(1, "cached ref", arc)),
        at_most(
            "cached ref / arc-swap Cache, 1 reader",
            1.5,
            ratio(1, "cached ref", "arc-swap Cache"),
        ),
        at_most("cached ref / Arc, 2 readers (contended)", 0.06, ratio(2, "cached ref", arc)),
        at_most("cached ref / Arc, 32 readers (contended)", 0.06, ratio(32, "cached ref", arc)),
    ];
    let hazptr = schemes::Hazptr::NAME;
    for (case, writers) in [(0, "1 writer"), (1, "2 writers")] {
        for (peer, limit) in [
            (schemes::Crossbeam::NAME, 0.5),
            (schemes::Seize::NAME, 0.5),
            (schemes::Haphazard::NAME, 0.3),
        ] {
            targets.push(at_most(
                &format!("replace an object: hazptr / {peer}, {writers}"),
                limit,
                writing.ratio_of(case, hazptr, peer),
            ));
        }
    }
    let rcu = writing.entry(schemes::Rcu::NAME);
    targets.push(at_most(
        "replace an object: rcu, 2 writers / 1 writer",
        1.5,
        rcu.and_then(|rcu| writing.ratio(1, rcu, 0, rcu)),
    ));
    for left in stalled {
        let measured = Summary::of([left.unreclaimed as f64]);
        match left.bound {
            Some(bound) if left.ours => {
                targets.push(at_most(
                    &format!("stalled reader: unreclaimed objects of {}", left.name),
                    bound as f64,
                    measured,
                ));
            }
            _ => {}
        }
    }
    targets
}
