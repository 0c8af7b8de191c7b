//! Why a segment cannot be made or used.

use core::fmt;
use sys::Errno;

/// Why a segment cannot be made or used.
#[derive(Debug)]
pub enum Error {
    /// The file could not be sized, measured or mapped.
    System(&'static str, Errno),
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
            Self::System(what, error) => write!(f, "{what}: {}", in_words(*error)),
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

/// As the C library says it.
#[cfg(feature = "std")]
fn in_words(error: Errno) -> impl fmt::Display {
    std::io::Error::from_raw_os_error(error.number())
}

/// By its name: without a C library nobody has the words.
#[cfg(not(feature = "std"))]
fn in_words(error: Errno) -> impl fmt::Display {
    error
}

// The text has everything: there is no source to print a second time.
impl core::error::Error for Error {}
