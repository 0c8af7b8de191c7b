//! The command line.

use crate::options::Options;
use crate::report::{self, Report};
use crate::{cost, depot, http, inject, pool, probe, redis, refscale, scale};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Benchmarks and torture runs of the trapline primitives, with peers in the same run.
///
/// Timings are reported and never make a run fail; a torture run that finds a reader on a freed
/// object, or a stall, does.
#[derive(Parser, Debug)]
#[command(name = "trapline-bench", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Object pools, allocators and queues: get an object, write into it, give it back
    ///
    /// Example: trapline-bench pool --threads 1,2 --only default,jemalloc
    #[command(verbatim_doc_comment)]
    Pool(Options),
    /// Hazard pointers, RCU, SRCU, reference counts: readers, writers, and one reader that stalls
    ///
    /// Example: trapline-bench refscale --quick --json
    #[command(verbatim_doc_comment)]
    Refscale(Options),
    /// Stack stores: look up or insert a stack trace, 99.9 % hits
    ///
    /// Example: trapline-bench depot --threads 1,2
    #[command(verbatim_doc_comment)]
    Depot(Options),
    /// Probes on tiny functions: entry, return, latency histogram, breakpoint, beside kernel
    /// uprobes and uftrace
    ///
    /// Example: trapline-bench probe --threads 1
    #[command(verbatim_doc_comment)]
    Probe(probe::Options),
    /// One process of `probe`'s arming table
    #[command(hide = true)]
    ArmOnce(probe::ArmOnce),
    /// redis-server under load, bare and traced: requests per second and server CPU per command
    ///
    /// Example: trapline-bench redis --peers
    #[command(verbatim_doc_comment)]
    Redis(redis::Options),
    /// Processes entered while they run: how long they stand, beside gdb and Frida; servers under
    /// load
    ///
    /// Example: trapline-bench inject --threads 2,20 --only trapline
    #[command(verbatim_doc_comment)]
    Inject(inject::Options),
    /// References to a hot object in a hyper server under load, by every scheme; nginx under
    /// trapline
    ///
    /// Example: trapline-bench http --only hazptr,arc-swap --no-nginx
    #[command(verbatim_doc_comment)]
    Http(http::Options),
    /// The server that `http` starts
    #[command(hide = true)]
    HttpServer(http::Serve),
    /// CPU time and memory of the tracer's own process: trapline's verbs beside uftrace and perf
    ///
    /// Example: trapline-bench cost --only cc1plus
    #[command(verbatim_doc_comment)]
    Cost(cost::Options),
    /// The primitives on modelled machines of up to 1,024 CPUs, beside figures that others posted
    ///
    /// Example: trapline-bench scale arm64 xeon
    #[command(verbatim_doc_comment)]
    Scale(scale::Options),
    /// One cell of `scale`'s tables
    #[command(hide = true)]
    ScaleCell(scale::OneCell),
    /// Readers against a writer that frees: no reader may ever see an object that is freed
    ///
    /// Example: trapline-bench torture --all --secs 5
    #[command(verbatim_doc_comment)]
    Torture(torture::Options),
}

impl Cli {
    /// Does what the command line says.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Pool(options) => present(&pool::run(&options), &options),
            Command::Refscale(options) => present(&refscale::run(&options), &options),
            Command::Depot(options) => present(&depot::run(&options), &options),
            Command::Probe(options) => present(&probe::run(&options), &options.common),
            Command::ArmOnce(options) => probe::arm_once(&options),
            Command::Redis(options) => present(&redis::run(&options), &options.common),
            Command::Inject(options) => present(&inject::run(&options), &options.common),
            Command::Http(options) => present(&http::run(&options), &options.common),
            Command::HttpServer(options) => http::serve(&options),
            Command::Cost(options) => present(&cost::run(&options), &options.common),
            Command::Scale(options) => scale::main(&options),
            Command::ScaleCell(cell) => scale::one_cell(&cell),
            Command::Torture(options) => torture::main(&options),
        }
    }
}

fn present(report: &Report, options: &Options) -> ExitCode {
    if options.json {
        match serde_json::to_string_pretty(report) {
            Ok(json) => println!("{json}"),
            Err(e) => return failed("cannot make JSON", &e),
        }
    } else {
        print!("{}", report::render(report));
    }
    if let Some(dir) = &options.out {
        match report::save(report, dir) {
            Ok(paths) => paths.iter().for_each(|p| eprintln!("wrote {}", p.display())),
            Err(e) => return failed(&format!("cannot write into {}", dir.display()), &e),
        }
    }
    ExitCode::SUCCESS
}

fn failed(what: &str, why: &dyn std::error::Error) -> ExitCode {
    eprintln!("trapline-bench: {what}: {why}");
    ExitCode::FAILURE
}
