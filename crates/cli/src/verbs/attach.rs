//! `trapline attach`: probes that stay when the command line has ended.

use crate::args::{BackgroundArgs, ProcessArgs};
use crate::exit::{Failure, USAGE};
use crate::human::grouped;
use crate::out::say;
use crate::processes;
use crate::run::attached::entered;
use crate::run::background;
use crate::text::visible;

pub(crate) fn run(args: &BackgroundArgs) -> anyhow::Result<u8> {
    let BackgroundArgs { words, events, name, comm, force, max_memory } = args;
    let (pids, specs) = if name.is_empty() && comm.is_empty() {
        let (pid, specs) = words.split_first().ok_or_else(|| wrong("which process?"))?;
        let pids = pid.split(',').map(|pid| pid.parse().ok().filter(|pid| *pid > 0));
        let pids: Option<Vec<i32>> = pids.collect();
        let pid = visible(pid);
        (pids.ok_or_else(|| wrong(&format!("'{pid}' is no number of a process")))?, specs)
    } else {
        (Vec::new(), &words[..])
    };
    let specs: Vec<String> = specs.iter().chain(events).cloned().collect();
    let chosen = ProcessArgs { pid: pids, name: name.clone(), comm: comm.clone() };
    let pids = processes::chosen(&chosen)?;
    let begin = |pid: &i32| {
        let (name, functions) = background::begin(*pid, &specs, *max_memory, *force)?;
        Ok((*pid, name, functions))
    };
    let begun = match &pids[..] {
        // Whose specs are wrong is told so.
        [pid] => vec![begin(pid)?],
        pids => entered(pids.iter().map(begin))?,
    };
    for (pid, name, functions) in begun {
        let functions = match functions {
            1 => "1 function".to_string(),
            n => format!("{} functions", grouped(n as u64)),
        };
        say(&format!(
            "attached to {pid} ({}): {functions}; `trapline stat --attached {pid}` shows what is \
                counted, `trapline detach {pid}` ends it",
            visible(&name)
        ));
    }
    Ok(0)
}

fn wrong(what: &str) -> anyhow::Error {
    Failure::error(USAGE, format!("{what}: `trapline attach PID SPEC...`, or --name PATTERN"))
}
