//! `trapline-torture`: see the library. `trapline-bench torture` is the same.

use clap::Parser;
use std::process::ExitCode;

/// Readers against a writer that reclaims, for every way to reclaim.
#[derive(Debug, Parser)]
#[command(name = "trapline-torture", version)]
struct Cli {
    #[command(flatten)]
    options: torture::Options,
}

fn main() -> ExitCode {
    torture::main(&Cli::parse().options)
}
