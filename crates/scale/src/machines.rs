//! The machines of the tables.

use coresim::Machine;

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
    Place { name: "arm64-96", machine: Machine::ARM64_96, grows: false },
    Place { name: "epyc", machine: Machine::EPYC_64, grows: true },
];

/// The machine of this name.
pub fn machine(name: &str) -> Option<&'static Place> {
    MACHINES.iter().find(|place| place.name == name)
}
