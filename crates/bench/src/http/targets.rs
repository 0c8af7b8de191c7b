//! What our schemes have to reach in a server.

use super::server::{CACHED, FIXED, LOCKED, SCHEMES, SWAPPED};
use super::setting::{Round, Setting};
use crate::report::{Bound, Target};
use crate::stats::Summary;

/// Server CPU for a request with the most references, against what people use today.
pub(super) fn judge(settings: &[Setting]) -> Vec<Target> {
    let most = settings.iter().map(|setting| setting.references).max();
    let mut targets = Vec::new();
    for setting in settings.iter().filter(|setting| Some(setting.references) == most) {
        let cpu = |scheme| setting.of(scheme, |round: &Round| round.cpu);
        for ours in SCHEMES.iter().filter(|served| served.ours) {
            // Who owns what it holds is compared with who owns, the others with who lends.
            let peer = if ours.name == CACHED { LOCKED } else { SWAPPED };
            let ratio = cpu(ours.name).zip(cpu(peer));
            targets.push(Target::new(
                format!("CPU of a request: {} / {peer}, {}", ours.name, setting.title()),
                Bound::AtMost(1.0),
                ratio.and_then(|(ours, peer)| Summary::of_ratios(&ours, &peer)),
            ));
        }
        let kept = setting.of("hazptr", |round| round.held.most).into_iter().flatten().flatten();
        targets.push(Target::new(
            format!("configurations kept by hazptr, {}", setting.title()),
            Bound::AtMost(1000.0),
            Summary::of(kept),
        ));
        let floor = cpu(LOCKED).zip(cpu(FIXED));
        targets.push(Target::new(
            format!("CPU of a request: {LOCKED} / {FIXED}, {}", setting.title()),
            Bound::AtLeast(1.0),
            floor.and_then(|(locked, fixed)| Summary::of_ratios(&locked, &fixed)),
        ));
    }
    targets
}
