//! What is asked for.

use crate::options::Options as Common;
use clap::Args;
use std::path::PathBuf;

/// Options of `http`.
#[derive(Args, Clone, Debug)]
#[group(id = "http")]
pub struct Options {
    /// What all benchmarks take; here `--threads` is workers of the server, and `--window-ms` the
    /// length of a load (wrk rounds it up to seconds)
    #[command(flatten)]
    pub common: Common,
    /// The executable that nginx runs under; else the workspace's own is built
    #[arg(long, value_name = "PATH")]
    pub trapline: Option<PathBuf>,
    /// Leave out nginx
    #[arg(long)]
    pub no_nginx: bool,
}

/// Whether rows of this name are wanted.
pub(super) fn wants(common: &Common, name: &str) -> bool {
    common.only.is_empty() || common.only.iter().any(|part| name.contains(part.as_str()))
}
