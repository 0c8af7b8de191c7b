//! Pairs of runs: a bare server and a traced one, in alternating order.

use super::load::{self, Rates};
use super::server::Server;
use super::tracer::{Probes, Tracer};
use crate::harness::progress;
use std::io;

/// One tracer with one set of probes.
#[derive(Clone, Debug)]
pub(super) struct Contender {
    pub(super) tracer: Tracer,
    pub(super) probes: Probes,
}

/// What one server did under load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) rates: Rates,
    /// CPU time of the server per command, nanoseconds.
    pub(super) cpu_ns: f64,
    /// Hits per command, if traced.
    pub(super) hits: Option<f64>,
}

/// A bare run and the traced run beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) bare: Run,
    pub(super) traced: Run,
}

/// All pairs of one contender, and why some are missing.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    pub(super) done: Vec<Pair>,
    pub(super) failures: Vec<String>,
    /// What was wrong with runs that did not fail.
    pub(super) wrong: Vec<String>,
}

/// How the runs are done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Seconds of load in each run.
    pub(super) seconds: f64,
    /// SETs and GETs each before that, from which the rate is estimated.
    pub(super) warm_up: u64,
    /// Whether server and client stay on a CPU each.
    pub(super) pinned: bool,
}

/// Runs all contenders `repeats` times: each repeat measures each contender once, beside a bare run
/// of its own.
pub(super) fn run(contenders: &[Contender], repeats: usize, plan: Plan) -> Vec<Pairs> {
    let mut all: Vec<Pairs> = contenders.iter().map(|_| Pairs::default()).collect();
    for repeat in 0..repeats {
        for (contender, pairs) in contenders.iter().zip(&mut all) {
            progress(&format!(
                "redis: pair {}/{repeats}, {} by {}",
                repeat + 1,
                contender.probes.label(),
                contender.tracer.label()
            ));
            let (bare, traced) = if repeat % 2 == 0 {
                let bare = one(None, plan, &mut pairs.wrong);
                (bare, one(Some(contender), plan, &mut pairs.wrong))
            } else {
                let traced = one(Some(contender), plan, &mut pairs.wrong);
                (one(None, plan, &mut pairs.wrong), traced)
            };
            match (bare, traced) {
                (Ok(bare), Ok(traced)) => pairs.done.push(Pair { bare, traced }),
                (Err(error), _) => pairs.failures.push(format!("bare server: {error}")),
                (_, Err(error)) => pairs.failures.push(error.to_string()),
            }
        }
    }
    progress("");
    all
}

/// One server from start to end.
fn one(contender: Option<&Contender>, plan: Plan, wrong: &mut Vec<String>) -> io::Result<Run> {
    let server =
        Server::start(plan.pinned, |dir| contender.and_then(|c| c.tracer.command(c.probes, dir)))?;
    let mut outside = match contender {
        Some(c) => c.tracer.attach(c.probes, server.dir())?,
        None => None,
    };
    let before = server.commands()?;
    let pilot = load::run(&server, plan.warm_up)?;
    // As long for SETs as for GETs would need two runs: as many of both is what is compared.
    let requests = ((pilot.both() * plan.seconds / 2.0) as u64).max(plan.warm_up);
    let (cpu, commands) = (server.cpu_ns()?, server.commands()?);
    let rates = load::run(&server, requests)?;
    let (cpu, during) = (server.cpu_ns()? - cpu, server.commands()? - commands);
    let all = server.commands()?;
    let total = all - before;
    if let Some(group) = &mut outside {
        group.signal(libc::SIGINT);
        group.wait(std::time::Duration::from_secs(20));
    }
    let dir = server.stop()?;
    if let Some(c) = contender
        && let Some(seen) = c.tracer.seen(&dir)
    {
        // The server calls `call` once for each command; this count does not hold the command that
        // asked for it, nor the SHUTDOWN.
        let expected = (c.probes == Probes::Function("call")).then_some(all + 2);
        wrong.extend(seen.wrong(expected));
    }
    let hits = contender.and_then(|c| c.tracer.hits(&dir)).map(|hits| hits as f64 / total as f64);
    Ok(Run { rates, cpu_ns: cpu as f64 / during as f64, hits })
}
