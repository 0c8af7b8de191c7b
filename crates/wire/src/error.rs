//! Why a segment cannot be made or used.

use std::fmt;
use std::io;

/// Why a segment cannot be made or used.
#[derive(Debug)]
pub enum Error {
    /// The file could not be made, opened, measured or mapped.
    Io(&'static str, io::Error),
    /// The file is not a segment: its first eight bytes are others.
    NotASegment,
    /// Another version of the layout.
    Version {
        /// What the file says.
        found: u32,
        /// What this code speaks.
        wanted: u32,
    },
    /// A size or position in the header cannot be.
    Corrupt(&'static str),
    /// The asked-for layout is larger than a segment can be.
    TooLarge(&'static str),
    /// A table has no room left.
    Full(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::NotASegment => write!(f, "not a trapline segment"),
            Self::Version { found, wanted } => {
                write!(f, "segment of version {found}, this trapline speaks version {wanted}")
            }
            Self::Corrupt(what) => write!(f, "corrupt segment: {what}"),
            Self::TooLarge(what) => write!(f, "segment too large: {what}"),
            Self::Full(what) => write!(f, "no room left for {what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            _ => None,
        }
    }
}
