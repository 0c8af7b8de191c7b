//! Results as files.

use super::model::Report;
use super::text::render;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Writes `DATE-machine-BENCH.txt` and `.json` into `dir` and returns their paths.
///
/// # Errors
/// What the file system says.
pub fn save(report: &Report, dir: &Path) -> io::Result<[PathBuf; 2]> {
    fs::create_dir_all(dir)?;
    let stem = format!("{}-{}-{}", report.machine.day(), report.machine.name, report.bench);
    let paths = [dir.join(format!("{stem}.txt")), dir.join(format!("{stem}.json"))];
    fs::write(&paths[0], render(report))?;
    fs::write(&paths[1], serde_json::to_string_pretty(report)? + "\n")?;
    Ok(paths)
}
