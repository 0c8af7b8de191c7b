//! What `trapline stat` says of a server that has ended, and what of that is wrong.

use serde_json::Value;

/// From its JSON report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Hits of all functions.
    pub(super) hits: u64,
    /// Hits that were not, or not wholly, recorded, by reason.
    lost: Vec<(String, u64)>,
    /// Functions that were armed by a breakpoint, and by a detour.
    armed: (u64, u64),
}

impl Seen {
    /// `None`: not such a report.
    pub(super) fn read(report: &str) -> Option<Self> {
        let report: Value = serde_json::from_str(report).ok()?;
        let lost = report["lost"].as_object()?;
        let lost = lost
            .iter()
            .filter_map(|(why, n)| Some((why.clone(), n.as_u64().filter(|n| *n > 0)?)))
            .collect();
        let armed = (report["armed"]["breakpoint"].as_u64()?, report["armed"]["detour"].as_u64()?);
        Some(Self { hits: report["hits"].as_u64()?, lost, armed })
    }

    /// What should not be. `expected`: the hits, where they are known.
    pub(super) fn wrong(&self, expected: Option<u64>) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(expected) = expected.filter(|n| *n != self.hits) {
            wrong.push(format!("WRONG COUNT: {} hits of {expected} calls", self.hits));
        }
        wrong.extend(self.lost.iter().map(|(why, n)| format!("LOST: {n} hits, {why}")));
        match self.armed {
            (0, 0) => wrong.push("nothing was armed".to_owned()),
            (n, 0) => wrong.push(format!("armed by breakpoint, all {n}")),
            _ => {}
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn what_is_wrong_is_said() {
        let text = r#"{"hits": 9, "lost": {"depth": 2, "memory": 0},
            "armed": {"detour": 0, "breakpoint": 1}}"#;
        let seen = Seen::read(text).expect("a report");
        assert_eq!(
            seen.wrong(Some(10)),
            [
                "WRONG COUNT: 9 hits of 10 calls".to_owned(),
                "LOST: 2 hits, depth".to_owned(),
                "armed by breakpoint, all 1".to_owned()
            ]
        );
        let text = r#"{"hits": 9, "lost": {"depth": 0}, "armed": {"detour": 3, "breakpoint": 1}}"#;
        assert_eq!(Seen::read(text).expect("a report").wrong(Some(9)), Vec::<String>::new());
        assert_eq!(Seen::read("{}"), None);
    }
}
