//! Writing to streams, whose readers may go away and whose disks may be full.

use crate::{streams, sys, text};
use anyhow::Context;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;

/// A buffered stream, written line by line.
///
/// When its reader went away (`trapline list | head`), the rest is dropped in silence. Any other
/// failure is kept, nothing more is written, and [`Out::finish`] gives it.
#[must_use = "what could not be written is known at its finish"]
pub(crate) struct Out {
    to: BufWriter<File>,
    /// What it is called in messages.
    name: String,
    failure: Option<io::Error>,
    /// Between the fields of its lines.
    separator: Option<String>,
}

impl Out {
    /// # Errors
    /// Standard output is closed.
    pub(crate) fn stdout() -> anyhow::Result<Self> {
        Self::stream(1, io::stdout(), "standard output")
    }

    /// # Errors
    /// Standard error is closed.
    pub(crate) fn stderr() -> anyhow::Result<Self> {
        Self::stream(2, io::stderr(), "standard error")
    }

    /// A descriptor of its own: Rust's streams take a descriptor that cannot be written for
    /// success.
    fn stream(number: u8, stream: impl AsFd, name: &str) -> anyhow::Result<Self> {
        let file = if streams::was_closed(number) {
            Err(io::Error::from_raw_os_error(libc::EBADF))
        } else {
            stream.as_fd().try_clone_to_owned().map(File::from)
        };
        Ok(Self::to(file.with_context(|| format!("cannot write to {name}"))?, name))
    }

    pub(crate) fn to(file: File, name: &str) -> Self {
        Self { to: BufWriter::new(file), name: name.to_string(), failure: None, separator: None }
    }

    /// A line, as it may be shown.
    pub(crate) fn line(&mut self, text: &str) {
        let text = text::line(text, self.separator.as_deref());
        self.write(|to| to.write_all(text.as_bytes()).and_then(|()| to.write_all(b"\n")));
    }

    /// The lines to come have fields with this between them.
    pub(crate) fn separated_by(mut self, separator: &str) -> Self {
        self.separator = Some(separator.to_string());
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.write(|to| to.write_all(bytes));
    }

    pub(crate) fn flush(&mut self) {
        self.write(BufWriter::flush);
    }

    fn write(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) {
        if self.failure.is_none() {
            self.failure = write(&mut self.to).err();
        }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// Something could not be written, now or before. A reader that went away is no error.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.flush();
        // What is in the buffer stays there: a destructor would write it again.
        let Self { to, name, failure, .. } = self;
        let _ = to.into_parts();
        match failure {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(error).with_context(|| format!("cannot write to {name}"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a stream is a terminal whose user has nothing against colours.
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The columns of the terminal that a stream is; none where it is none, or does not say.
pub(crate) fn width(stream: &(impl IsTerminal + AsFd)) -> Option<usize> {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse().ok());
    if stream.is_terminal() {
        columns.or_else(|| sys::columns(stream.as_fd())).filter(|columns| *columns > 0)
    } else {
        None
    }
}

/// A line of trapline's own on stderr.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "trapline: {}", text::visible(text));
}

#[cfg(test)]
mod tests {
    use super::Out;
    use std::fs::File;

    #[test]
    fn a_full_disk_is_an_error_and_a_reader_that_left_is_none() {
        let full = || Out::to(File::options().write(true).open("/dev/full").unwrap(), "x");
        let mut out = full();
        out.line("a");
        assert!(
            format!("{:#}", out.finish().unwrap_err()).starts_with("cannot write to x: No space")
        );
        // Longer than any buffer: the failure comes before the end.
        let mut out = full();
        out.bytes(&vec![b'a'; 1 << 20]);
        out.line("b");
        assert!(out.finish().is_err());
        assert!(full().finish().is_ok(), "nothing was written");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut out = Out::to(File::from(std::os::fd::OwnedFd::from(writer)), "x");
        out.bytes(&vec![b'a'; 1 << 20]);
        assert!(out.finish().is_ok());
    }

    #[test]
    fn what_cannot_be_written_is_not_taken_for_success() {
        let mut out = Out::to(File::open("/dev/null").unwrap(), "x");
        out.line("a");
        assert!(out.finish().is_err());
    }
}
