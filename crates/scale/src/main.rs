//! `trapline-scale tables [TABLE...] [--picture FILE]` prints tables, without the bench and its
//! peers, and may draw them; `trapline-scale MACHINE SCHEME THREADS WORK SEED` is one cell of a
//! table, for it and for the library's tests. `trapline-bench scale` can do more.

use scale::cell::{Child, child_main};
use scale::tables::{TABLES, Table, table};
use scale::{Results, picture, text};
use std::process::ExitCode;
use std::{env, fs, io, thread};

const USAGE: &str = "usage: trapline-scale tables [TABLE...] [--picture FILE]
       trapline-scale MACHINE SCHEME THREADS WORK SEED";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if child_main(&arguments) {
        return ExitCode::SUCCESS;
    }
    let Some(("tables", names)) = arguments.split_first().map(|(verb, rest)| (&**verb, rest))
    else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    match tables(names) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trapline-scale: {error}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn tables(arguments: &[String]) -> io::Result<()> {
    let (names, file) = match arguments {
        [names @ .., flag, file] if flag == "--picture" => (names, Some(file)),
        names => (names, None),
    };
    let named = |name: &String| {
        table(name).ok_or_else(|| io::Error::other(format!("no table is called {name}")))
    };
    let mut chosen: Vec<&'static Table> = names.iter().map(named).collect::<io::Result<_>>()?;
    if chosen.is_empty() {
        chosen.extend(TABLES);
    }
    let child = Child { program: env::current_exe()?, arguments: Vec::new() };
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let mut done = Vec::new();
    for table in chosen {
        let results = Results::run(table, usize::MAX, 0, &child, jobs)?;
        println!("{}", text::render(&results));
        done.push(results);
    }
    match file {
        Some(file) => fs::write(file, picture::render(&done.iter().collect::<Vec<_>>())),
        None => Ok(()),
    }
}
