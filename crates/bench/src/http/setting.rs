//! Servers that are compared, and what was found of them.

use super::load::Load;
use super::process::Held;
use super::server::SCHEMES;

/// What one round found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Requests a second.
    pub(super) rate: f64,
    /// CPU time of the server for each, in nanoseconds.
    pub(super) cpu: f64,
    /// What 99.9 % took at most, in milliseconds.
    pub(super) late: f64,
    pub(super) held: Held,
}

/// Servers that are compared: all schemes under the same load.
pub(super) struct Setting {
    pub(super) load: Load,
    pub(super) workers: usize,
    pub(super) references: usize,
    /// By scheme and round.
    pub(super) rounds: Vec<Vec<Option<Round>>>,
}

impl Setting {
    /// Above its table.
    pub(super) fn title(&self) -> String {
        let Self { load, workers, references, .. } = self;
        let workers = if *workers == 1 { "1 worker".into() } else { format!("{workers} workers") };
        let references = if *references == 1 {
            "1 reference".into()
        } else {
            format!("{references} references")
        };
        format!("{references} a request, {workers}, asked by {}", load.label())
    }

    /// One figure of a scheme, by round.
    pub(super) fn of(
        &self,
        scheme: &str,
        value: impl Fn(&Round) -> f64,
    ) -> Option<Vec<Option<f64>>> {
        let place = SCHEMES.iter().position(|served| served.name == scheme)?;
        Some(self.rounds[place].iter().map(|round| round.as_ref().map(&value)).collect())
    }
}
