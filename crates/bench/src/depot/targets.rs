//! What the depot has to reach.

use super::case::{Part, short};
use super::store::Store;
use super::{floor, ours};
use crate::harness::Role;
use crate::report::{Bound, Target};
use crate::stats::Summary;

/// Hit cost against the best peer: threads, limit.
const AGAINST_PEERS: [(usize, f64); 3] = [(1, 0.8), (2, 0.55), (32, 0.5)];
/// Hit cost against the floor row, one thread.
const AGAINST_FLOOR: f64 = 1.6;
/// Bytes against raw frames, 16 frames.
const BYTES: f64 = 1.15;

/// All targets of the depot benchmark.
pub(super) fn judge(parts: &[Part], threads: &[usize]) -> Vec<Target> {
    let mut targets = Vec::new();
    for part in parts {
        let campaign = &part.campaign;
        let what = format!("{} frames, {}", part.depth, short(part.distinct));
        for ours in [ours::Default::NAME, ours::KeepAll::NAME] {
            for (n, limit) in AGAINST_PEERS {
                let Some(case) = threads.iter().position(|t| *t == n) else { continue };
                let peer = campaign.best(case, Role::Peer);
                let ratio = campaign
                    .entry(ours)
                    .zip(peer)
                    .and_then(|(o, p)| campaign.ratio(case, o, case, p));
                let name = peer.map_or("best map", |p| &campaign.names[p]);
                let title = format!(
                    "{what}: {ours} / {name} (the best map), {n} thread{}",
                    if n == 1 { "" } else { "s" }
                );
                targets.push(Target::new(title, Bound::AtMost(limit), ratio));
            }
        }
        if let Some(case) = threads.iter().position(|t| *t == 1) {
            let ratio =
                campaign.ratio_of(case, ours::Default::NAME, <floor::Floor<16> as Store>::NAME);
            targets.push(Target::new(
                format!("{what}: depot / floor row, 1 thread"),
                Bound::AtMost(AGAINST_FLOOR),
                ratio,
            ));
        }
        if part.depth == 16 {
            let bytes = part
                .bytes
                .iter()
                .find(|(name, _)| *name == ours::Default::NAME)
                .and_then(|(_, b)| *b);
            let ratio = bytes.and_then(|b| Summary::of([b / (part.depth * 8) as f64]));
            targets.push(Target::new(
                format!("{what}: bytes per stack / raw frames"),
                Bound::AtMost(BYTES),
                ratio,
            ));
        }
    }
    targets
}
