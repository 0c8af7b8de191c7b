//! Programs of Go.

use super::build;
use super::tools;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// How a program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    Pure,
    PureStripped,
    PurePie,
    Cgo,
    CgoStripped,
    CgoStatic,
}

impl Build {
    pub(crate) const ALL: [Self; 6] = [
        Self::Pure,
        Self::PureStripped,
        Self::PurePie,
        Self::Cgo,
        Self::CgoStripped,
        Self::CgoStatic,
    ];

    /// The program in a folder of `tests/targets`. Nothing where Go is missing: that is said.
    pub(crate) fn program(self, source: &str) -> Option<PathBuf> {
        let go = tools::find("go")?;
        let (cgo, arguments): (_, &[&str]) = match self {
            Self::Pure => ("0", &[]),
            Self::PureStripped => ("0", &["-ldflags=-s -w"]),
            Self::PurePie => ("0", &["-buildmode=pie"]),
            Self::Cgo => ("1", &[]),
            Self::CgoStripped => ("1", &["-ldflags=-s -w"]),
            Self::CgoStatic => ("1", &["-tags=netgo,osusergo", "-ldflags=-extldflags=-static"]),
        };
        /// Once for each, for all tests of this process.
        static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
        let path = folder.join(source).join(format!("{self:?}"));
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if made.contains(&path) {
            return Some(path);
        }
        std::fs::create_dir_all(folder.join(source)).expect("ours");
        let mut command = Command::new(go);
        command.current_dir(build::sources().join(source));
        command.env("GOCACHE", folder.join("cache")).env("GOFLAGS", "").env("CGO_ENABLED", cgo);
        // With no option that its own packages were not compiled with, where they are there
        // (Debian): otherwise all of them are compiled once more.
        command.args(["build", "-buildvcs=false", "-o"]).arg(&path).args(arguments);
        assert!(command.status().expect("go runs").success(), "{self:?}");
        made.push(path.clone());
        Some(path)
    }

    pub(crate) fn is_stripped(self) -> bool {
        matches!(self, Self::PureStripped | Self::CgoStripped)
    }
}
