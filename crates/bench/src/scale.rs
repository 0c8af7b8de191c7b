//! The primitives on machines that are not here: tables of the crate `scale`, each cell in a
//! process of its own.

mod here;
mod probe;
mod targets;

use crate::clock;
use crate::machine::Machine;
use crate::report::render_targets;
use clap::Args;
use scale::cell::{self, Child};
use scale::tables::{TABLES, Table, table};
use scale::{Results, picture, text};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs, io};
use targets::Ran;

/// What to run and where to put it.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Tables; all of them where none is named
    #[arg(value_name = "TABLE", value_parser = parse_table)]
    tables: Vec<&'static Table>,
    /// Leave out columns of more threads
    #[arg(long, value_name = "THREADS", default_value_t = usize::MAX, hide_default_value = true)]
    most: usize,
    /// What is random in the model
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Processes side by side; as many as there are CPUs where nothing is said
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Also write DIR/DATE-machine-scale.txt
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also draw the tables: a file in SVG
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Measure what things cost on this machine, and what the model predicts of its two CPUs; so
    /// does a run of all tables
    #[arg(long)]
    here: bool,
    /// Measure this machine for a moment only: the figures mean little
    #[arg(long)]
    quick: bool,
}

impl Options {
    fn tables(&self) -> Vec<&'static Table> {
        match &self.tables[..] {
            [] if self.here => Vec::new(),
            [] => TABLES.iter().collect(),
            named => named.to_vec(),
        }
    }
}

/// The cell that one process runs.
#[derive(Args, Clone, Debug)]
pub struct OneCell {
    arguments: Vec<String>,
}

fn parse_table(name: &str) -> Result<&'static Table, String> {
    table(name).ok_or_else(|| {
        let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
        format!("tables: {}", names.join(", "))
    })
}

/// Runs the tables and prints them.
pub fn main(options: &Options) -> ExitCode {
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trapline-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one cell for [`main`].
pub fn one_cell(cell: &OneCell) -> ExitCode {
    if cell::child_main(&cell.arguments) {
        return ExitCode::SUCCESS;
    }
    eprintln!("trapline-bench: not a cell: {}", cell.arguments.join(" "));
    ExitCode::FAILURE
}

fn run(options: &Options) -> io::Result<()> {
    let child = Child { program: env::current_exe()?, arguments: vec!["scale-cell".into()] };
    let machine = Machine::here();
    let mut written = String::new();
    say(
        &mut written,
        &format!(
            "trapline-bench scale\non {}, {} CPUs, Linux {}; {} UTC, load {} at the start, seed \
             {}\n",
            machine.cpu, machine.cpus, machine.kernel, machine.date, machine.load, options.seed
        ),
    );
    let mut here = Vec::new();
    if options.here || options.tables.is_empty() && options.most >= 2 {
        let found = here::run(&child, options.quick)?;
        say(&mut written, &format!("\n{}", found.text));
        here = found.predictions;
    }
    let mut done = Vec::new();
    for table in options.tables() {
        let ran = run_table(options, table, &child)?;
        let accesses: u64 = ran.results.cells.iter().flatten().map(|cell| cell.accesses).sum();
        let section = format!(
            "\n{}{accesses} accesses, {:.1} million a second of CPU time; {:.0} s\n",
            text::render(&ran.results),
            ran.speed,
            ran.seconds,
        );
        say(&mut written, &section);
        done.push(ran);
    }
    say(&mut written, &render_targets(&targets::judge(&done, &here)));
    if let Some(dir) = &options.out {
        fs::create_dir_all(dir)?;
        let name = format!("{}-{}-scale.txt", machine.day(), machine.name);
        write(&dir.join(name), &written)?;
    }
    if let Some(file) = &options.picture {
        let drawn: Vec<_> = done.iter().map(|ran| &ran.results).collect();
        write(file, &picture::render(&drawn))?;
    }
    Ok(())
}

fn run_table(options: &Options, table: &'static Table, child: &Child) -> io::Result<Ran> {
    let jobs = options.jobs.unwrap_or_else(|| crate::affinity::allowed().len());
    let (begun, cpu) = (Instant::now(), clock::children_cpu_ns());
    let results = Results::run(table, options.most, options.seed, child, jobs)?;
    let cpu = (clock::children_cpu_ns() - cpu) as f64 / 1e9;
    let accesses = results.cells.iter().flatten().map(|cell| cell.accesses).sum::<u64>();
    let speed = accesses as f64 / cpu / 1e6;
    Ok(Ran { results, speed, seconds: begun.elapsed().as_secs_f64() })
}

/// Prints a section, and keeps it for the file.
fn say(written: &mut String, section: &str) {
    print!("{section}");
    written.push_str(section);
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    fs::write(file, text)?;
    eprintln!("wrote {}", file.display());
    Ok(())
}
