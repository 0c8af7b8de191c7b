//! A function of the program that runs through the image.

use super::build::{Kind, entry, symbol};
use inject::{Error, Mapped, Patch, Stopped, Window};
use std::fs;
use std::path::Path;
use std::slice::from_ref;

/// A jump from `work` to the image, which counts.
pub(crate) struct Hook {
    pub(crate) patch: Patch,
    pub(crate) window: Window,
    counter: u64,
}

impl Hook {
    /// Writes the stub into the image, to which nothing leads yet.
    pub(crate) fn new(mapped: &Mapped, pid: i32, program: &Path, kind: Kind) -> Self {
        // The instructions at the function's start: `mov %rdi, %rax; imul $3, %rax, %rax`, and in
        // Go `mov 8(%rsp), %rax`.
        let (name, bytes, starts): (_, &[u8], &[u64]) = match kind {
            Kind::Go => ("main.work.abi0", &[0x48, 0x8b, 0x44, 0x24, 8], &[0]),
            _ => ("work", &[0x48, 0x89, 0xf8, 0x48, 0x6b, 0xc0, 3], &[0, 3]),
        };
        Self::of(mapped, pid, program, name, bytes, starts)
    }

    /// The same for any function, whose first instructions are these bytes and begin there.
    pub(crate) fn of(
        mapped: &Mapped,
        pid: i32,
        program: &Path,
        name: &str,
        bytes: &[u8],
        starts: &[u64],
    ) -> Self {
        let base = started_at(pid).wrapping_sub(entry(program));
        let at = base.wrapping_add(symbol(program, name));
        let stub = mapped.address("image_stub").expect("the stub");
        let counter = mapped.address("image_hits").expect("the counter");
        let distance = |from: u64, to: u64| {
            let distance = to.wrapping_sub(from) as i64;
            i32::try_from(distance).expect("near").to_le_bytes()
        };
        // lock incq counter(%rip); the instructions; jmp behind them.
        let mut code = vec![0xf0, 0x48, 0xff, 0x05];
        code.extend(distance(stub + 8, counter));
        let copy = stub + code.len() as u64;
        code.extend(bytes);
        code.push(0xe9);
        code.extend(distance(stub + code.len() as u64 + 4, at + bytes.len() as u64));
        mapped.write_code(stub, &code).expect("code of the image");
        let mut jump = vec![0xe9];
        jump.extend(distance(at + 5, stub));
        Self {
            patch: Patch { address: at, old: bytes[..5].to_vec(), new: jump },
            window: Window {
                range: at..at + bytes.len() as u64,
                moved: starts.iter().map(|n| (at + n, copy + n)).collect(),
            },
            counter,
        }
    }

    /// Leads the function through the image: how many threads had to be moved.
    pub(crate) fn install(&self, stopped: &mut Stopped<'_>) -> Result<usize, Error> {
        stopped.patch(from_ref(&self.patch), from_ref(&self.window))
    }

    /// Puts the function's own bytes back.
    pub(crate) fn remove(&self, stopped: &mut Stopped<'_>) -> Result<usize, Error> {
        stopped.patch(&[self.patch.reversed()], &[])
    }

    /// How often the function was called so far.
    pub(crate) fn hits(&self, stopped: &Stopped<'_>) -> u64 {
        let mut word = [0; 8];
        stopped.read(self.counter, &mut word).expect("the image's memory");
        u64::from_ne_bytes(word)
    }
}

/// Where the program starts, as the kernel has told it.
fn started_at(pid: i32) -> u64 {
    const AT_ENTRY: u64 = 9;
    let bytes = fs::read(format!("/proc/{pid}/auxv")).expect("the program runs");
    let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
    let mut pairs = bytes.chunks_exact(16).map(|pair| (word(&pair[..8]), word(&pair[8..])));
    pairs.find(|pair| pair.0 == AT_ENTRY).expect("an entry point").1
}
