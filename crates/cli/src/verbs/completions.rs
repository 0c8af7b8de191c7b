//! `trapline completions SHELL`.

use crate::args::Cli;
use clap::CommandFactory;

pub(crate) fn run(shell: clap_complete::Shell) -> u8 {
    clap_complete::generate(shell, &mut Cli::command(), "trapline", &mut std::io::stdout());
    0
}
