//! The machines of the tables.

pub use coresim::{Costs, Machine, fit};
use std::fmt::Write;

/// A machine of the tables.
#[derive(Clone, Debug)]
pub struct Place {
    /// On command lines.
    pub name: &'static str,
    /// The machine.
    pub machine: Machine,
    /// Whether it is built with as many CPUs as there are threads: more of the same clusters.
    pub grows: bool,
}

impl Place {
    /// The machine for so many threads.
    pub fn with(&self, threads: usize) -> Machine {
        let cpus = if self.grows { threads } else { self.machine.cpus };
        self.machine.clone().with_cpus(cpus)
    }
}

/// All there are.
pub const MACHINES: &[Place] = &[
    Place { name: "epyc-2", machine: Machine::EPYC_2, grows: false },
    Place { name: "xeon-2", machine: Machine::XEON_2, grows: false },
    Place { name: "xeon-20", machine: Machine::XEON_20, grows: false },
    Place { name: "xeon-48", machine: Machine::XEON_48, grows: false },
    Place { name: "arm64-96", machine: Machine::ARM64_96, grows: false },
    Place { name: "epyc", machine: Machine::EPYC_64, grows: true },
];

/// The machine of this name, or of what [`measured`] says.
pub fn machine(name: &str) -> Option<Place> {
    let known = MACHINES.iter().find(|place| place.name == name).cloned();
    known.or_else(|| described(name))
}

/// One cost of a machine.
type Cost = fn(&mut Costs) -> &mut u64;

/// Costs that a measurement says; the others are those of [`Machine::EPYC_2`].
const MEASURED: [(&str, Cost); 13] = [
    ("hit", |costs| &mut costs.hit),
    ("locked", |costs| &mut costs.locked),
    ("store", |costs| &mut costs.store_seq_cst),
    ("memory", |costs| &mut costs.memory),
    ("near", |costs| &mut costs.near),
    ("far", |costs| &mut costs.far),
    ("socket", |costs| &mut costs.socket),
    ("patience", |costs| &mut costs.patience),
    ("request", |costs| &mut costs.request_percent),
    ("fence", |costs| &mut costs.fence),
    ("system", |costs| &mut costs.system_call),
    ("interrupt", |costs| &mut costs.interrupt),
    ("switch", |costs| &mut costs.context_switch),
];

/// What a machine of two CPUs that was measured is called, for [`machine`].
pub fn measured(machine: &Machine) -> String {
    let mut costs = machine.costs.clone();
    MEASURED.iter().fold("measured".to_owned(), |mut name, (key, cost)| {
        _ = write!(name, ",{key}={}", cost(&mut costs));
        name
    })
}

fn described(name: &str) -> Option<Place> {
    let mut machine = Machine { cluster: 2, name: "measured", ..Machine::EPYC_2 };
    let mut parts = name.split(',');
    if parts.next() != Some("measured") {
        return None;
    }
    for part in parts {
        let (key, value) = part.split_once('=')?;
        let (_, cost) = MEASURED.iter().find(|(known, _)| *known == key)?;
        *cost(&mut machine.costs) = value.parse().ok()?;
    }
    Some(Place { name: "measured", machine, grows: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_has_a_name() {
        let costs = Costs { hit: 7, near: 9, request_percent: 11, ..Machine::EPYC_2.costs };
        let name = measured(&Machine { costs: costs.clone(), ..Machine::EPYC_2 });
        assert_eq!(machine(&name).expect("a machine").machine.costs, costs);
        assert!(machine("measured,hit=").is_none() && machine("measured,nothing=1").is_none());
    }
}
