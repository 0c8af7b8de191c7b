//! The program that is entered: so many functions and threads, and one that notes how long it does
//! not run (`program.c`).

use crate::group::Group;
use crate::scratch::Scratch;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Compiles it with so many functions.
///
/// # Errors
/// In words, for the notes of a report.
pub(super) fn compile(folder: &Path, functions: usize) -> Result<PathBuf, String> {
    let all: String = (0..functions).map(|n| format!("X({n}) ")).collect();
    let header = folder.join(format!("functions-{functions}.h"));
    let source = folder.join("program.c");
    let program = folder.join(format!("program-{functions}"));
    let written = fs::write(&header, format!("#define FUNCTIONS {all}\n"));
    written
        .and_then(|()| fs::write(&source, include_str!("program.c")))
        .map_err(|e| e.to_string())?;
    let mut compiler = Command::new("cc");
    compiler
        .args(["-O2", "-pthread", "-include"])
        .arg(&header)
        .arg("-o")
        .arg(&program)
        .arg(&source);
    let done = compiler.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match done {
        Ok(status) if status.success() => Ok(program),
        Ok(status) => Err(format!("cc: {status}")),
        Err(why) => Err(format!("cc: {why}")),
    }
}

/// Words of the file that it shares.
#[derive(Clone, Copy)]
enum Word {
    Ready,
    Watch,
    Seen,
    Longest,
    Sum,
}

/// How long its first thread did not run, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stood {
    /// At one time.
    pub(super) longest: f64,
    /// Of all times that are longer than 20 us.
    pub(super) sum: f64,
}

/// Memory of it, in KiB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Memory {
    /// Resident.
    pub(super) resident: f64,
    /// Address space.
    pub(super) size: f64,
}

/// One that runs.
pub(super) struct Program {
    group: Group,
    shared: File,
    /// The file's directory.
    _folder: Scratch,
    /// Whether the thread that watches has real-time priority.
    pub(super) real_time: bool,
}

impl Program {
    /// Starts it.
    pub(super) fn start(program: &Path, threads: usize) -> io::Result<Self> {
        let folder = Scratch::new("inject")?;
        let path = folder.path().join("shared");
        let shared = File::options().read(true).write(true).create_new(true).open(&path)?;
        shared.set_len(4096)?;
        let mut command = Command::new(program);
        command.arg(&path).arg(threads.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let group = Group::spawn(&mut command)?;
        let mut this = Self { group, shared, _folder: folder, real_time: false };
        this.real_time = this.await_word(Word::Ready, |word| word > 0)? == 2;
        Ok(this)
    }

    /// Its number.
    pub(super) fn pid(&mut self) -> u32 {
        self.group.child().id()
    }

    fn word(&self, word: Word) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.shared.read_exact_at(&mut bytes, 8 * word as u64)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn await_word(&mut self, word: Word, is: impl Fn(u64) -> bool) -> io::Result<u64> {
        const LIMIT: Duration = Duration::from_secs(20);
        let end = Instant::now() + LIMIT;
        loop {
            let value = self.word(word)?;
            if is(value) {
                return Ok(value);
            }
            let ended = self.group.wait(Duration::ZERO);
            if ended.is_some() || Instant::now() > end {
                return Err(io::Error::other(format!("the program does not run: {ended:?}")));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Watches how long it stands while `f` runs.
    pub(super) fn watched<R>(&mut self, f: impl FnOnce() -> R) -> io::Result<(R, Stood)> {
        let turn = self.word(Word::Watch)? + 1;
        let set = |this: &Self, turn: u64| {
            this.shared.write_all_at(&turn.to_ne_bytes(), 8 * Word::Watch as u64)
        };
        set(self, turn)?;
        self.await_word(Word::Seen, |seen| seen == turn)?;
        let result = f();
        set(self, turn + 1)?;
        self.await_word(Word::Seen, |seen| seen == turn + 1)?;
        let ms = |ns: u64| ns as f64 / 1e6;
        let stood =
            Stood { longest: ms(self.word(Word::Longest)?), sum: ms(self.word(Word::Sum)?) };
        Ok((result, stood))
    }

    /// What it has.
    pub(super) fn memory(&mut self) -> io::Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok())
        };
        match (field("VmRSS:"), field("VmSize:")) {
            (Some(resident), Some(size)) => Ok(Memory { resident, size }),
            _ => Err(io::Error::other("the program has ended")),
        }
    }
}
