//! `trapline-scale MACHINE SCHEME THREADS WORK SEED`: one cell of a table, for the library's tests.
//! The tables are printed by `trapline-bench scale`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if scale::cell::child_main(&arguments) {
        return ExitCode::SUCCESS;
    }
    eprintln!("usage: trapline-scale MACHINE SCHEME THREADS WORK SEED");
    ExitCode::FAILURE
}
