//! What becomes of a panic, which nobody expects: the segment's log has the reason, and the program
//! is not to end by it where that can be had.

use crate::{control, segment};
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use sys::{process, thread};

/// A text of limited length.
struct Line {
    bytes: [u8; 256],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.length..];
        let taken = text.len().min(room.len());
        room[..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.length += taken;
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut line = Line { bytes: [0; 256], length: 0 };
    let _ = write!(line, "{info}");
    if let Some(attached) = segment::get() {
        attached.segment.log(&line.bytes[..line.length]);
    }
    if control::is_own_thread() {
        // A thread that was made for a call: whoever called sees it end without a result.
        #[allow(unsafe_code)]
        // SAFETY: nothing of the program's runs on it.
        unsafe {
            thread::exit(1)
        }
    }
    process::abort()
}
