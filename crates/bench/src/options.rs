//! Options that all benchmarks share.

use crate::harness::{Budget, Plan};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// How much to measure and how to print it.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// A short run of everything, to see that it works: the figures mean little
    #[arg(long)]
    pub quick: bool,
    /// How often each contender is measured in each case
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: Option<u32>,
    /// Numbers of threads, for example 1,2,32
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_threads)]
    pub threads: Vec<usize>,
    /// Only contenders whose name contains one of these (floor rows always run)
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Length of one measurement in milliseconds
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub window_ms: Option<u64>,
    /// Also write DIR/DATE-machine-BENCH.txt and .json
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl Options {
    /// Repeats to do when `full` is this benchmark's usual number.
    pub fn repeats(&self, full: usize) -> usize {
        self.repeats.map_or(if self.quick { 2 } else { full }, |n| n as usize)
    }

    /// Length of one measurement when `full` is this benchmark's usual one.
    pub fn window(&self, full: Duration) -> Duration {
        self.window_ms
            .map_or(if self.quick { Duration::from_millis(3) } else { full }, Duration::from_millis)
    }

    /// A time-limited plan.
    pub fn plan(&self, repeats: usize, block: u64, window: Duration) -> Plan {
        Plan {
            repeats: self.repeats(repeats),
            block,
            budget: Budget::Time(self.window(window)),
            only: self.only.clone(),
        }
    }

    /// Thread counts: those asked for, else `usual` with every power of two in between that this
    /// machine has CPUs for.
    pub fn thread_list(&self, usual: &[usize]) -> Vec<usize> {
        let mut list = if self.threads.is_empty() {
            let cpus = crate::affinity::allowed().len();
            let extra = [4, 8, 16].into_iter().filter(|&n| n <= cpus && !self.quick);
            usual.iter().copied().chain(extra).collect()
        } else {
            self.threads.clone()
        };
        list.sort_unstable();
        list.dedup();
        list
    }

    /// The settings line of the report.
    pub fn describe(&self, plan: &Plan) -> Vec<String> {
        let budget = match plan.budget {
            Budget::Time(window) => format!("window {} ms", window.as_millis()),
            Budget::Ops(ops) => format!("{ops} operations per measurement"),
        };
        let mut settings =
            vec![format!("repeats {}", plan.repeats), budget, format!("block {}", plan.block)];
        if self.quick {
            settings.push("QUICK: the figures mean little".to_owned());
        }
        settings
    }
}

fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=512).contains(&n) => Ok(n),
        _ => Err("a number of threads is 1 to 512".to_owned()),
    }
}
