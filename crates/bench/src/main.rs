//! `trapline-bench`: see the library.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    trapline_bench::cli::Cli::parse().run()
}
