//! `trapline man [DIRECTORY]`.

use crate::args::Cli;
use crate::target::Target;
use anyhow::Context;
use clap::CommandFactory;
use std::path::Path;

pub(crate) fn run(directory: Option<&Path>) -> anyhow::Result<u8> {
    match directory {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            Target::Stdout.write(&page)?;
        }
        Some(directory) => {
            std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
            clap_mangen::generate_to(Cli::command(), directory)
                .with_context(|| format!("writing man pages to {}", directory.display()))?;
        }
    }
    Ok(0)
}
