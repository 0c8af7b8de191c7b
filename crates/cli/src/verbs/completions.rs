//! `trapline completions SHELL`.

use crate::args::Cli;
use crate::target::Target;
use clap::CommandFactory;

pub(crate) fn run(shell: clap_complete::Shell) -> anyhow::Result<u8> {
    // Not into the stream: the generator panics where that cannot be written.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "trapline", &mut script);
    Target::Stdout.write(&script)?;
    Ok(0)
}
