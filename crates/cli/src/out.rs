//! Writing to streams that may go away.

use std::io::{BufWriter, Write};

/// A buffered stream. When its reader went away (`trapline list | head`), the rest is dropped in silence.
pub(crate) struct Out {
    to: BufWriter<Box<dyn Write>>,
}

impl Out {
    pub(crate) fn stdout() -> Self {
        Self::to(Box::new(std::io::stdout()))
    }

    pub(crate) fn to(stream: Box<dyn Write>) -> Self {
        Self { to: BufWriter::new(stream) }
    }

    pub(crate) fn line(&mut self, text: &str) {
        let _ = self.to.write_all(text.as_bytes());
        let _ = self.to.write_all(b"\n");
    }

    pub(crate) fn flush(&mut self) {
        let _ = self.to.flush();
    }
}

/// A line of trapline's own on stderr.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "trapline: {text}");
}
