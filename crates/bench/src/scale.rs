//! The primitives on machines that are not here: tables of the crate `scale`, each cell in a
//! process of its own.

mod probe;

use crate::clock;
use crate::machine::Machine;
use clap::Args;
use scale::cell::{self, Child};
use scale::tables::{TABLES, Table, table};
use scale::{Results, picture, text};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs, io};

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
    /// Measure what things cost on this machine instead, as a calibration
    #[arg(long)]
    probe: bool,
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
    if options.probe {
        print!("{}", probe::run());
        return ExitCode::SUCCESS;
    }
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
    let all: Vec<&'static Table> = TABLES.iter().collect();
    let tables = if options.tables.is_empty() { &all } else { &options.tables };
    let child = Child { program: env::current_exe()?, arguments: vec!["scale-cell".into()] };
    let jobs = options.jobs.unwrap_or_else(|| crate::affinity::allowed().len());
    let machine = Machine::here();
    let head = format!(
        "trapline-bench scale\non {}, {} CPUs, Linux {}; {} UTC, load {} at the start, seed {}\n",
        machine.cpu, machine.cpus, machine.kernel, machine.date, machine.load, options.seed
    );
    print!("{head}");
    let mut written = head;
    let mut done = Vec::new();
    for table in tables {
        let (begun, cpu) = (Instant::now(), clock::children_cpu_ns());
        let results = Results::run(table, options.most, options.seed, &child, jobs)?;
        let cpu = (clock::children_cpu_ns() - cpu) as f64 / 1e9;
        let accesses = results.cells.iter().flatten().map(|cell| cell.accesses).sum::<u64>();
        let section = format!(
            "\n{}{accesses} accesses in {cpu:.1} s of CPU time, {:.1} million a second; {:.0} s\n",
            text::render(&results),
            accesses as f64 / cpu / 1e6,
            begun.elapsed().as_secs_f64(),
        );
        print!("{section}");
        written.push_str(&section);
        done.push(results);
    }
    if let Some(dir) = &options.out {
        fs::create_dir_all(dir)?;
        let name = format!("{}-{}-scale.txt", machine.day(), machine.name);
        write(&dir.join(name), &written)?;
    }
    if let Some(file) = &options.picture {
        write(file, &picture::render(&done.iter().collect::<Vec<_>>()))?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    fs::write(file, text)?;
    eprintln!("wrote {}", file.display());
    Ok(())
}
