//! A program that panics says why, and ends.

use core::fmt::Write;
use core::panic::PanicInfo;
use sys::{file, process};

/// Standard error, a piece at a time.
struct Errors;

impl Write for Errors {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        file::write(2, text.as_bytes()).map(drop).map_err(|_| core::fmt::Error)
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Errors, "{info}");
    process::abort()
}
