//! `.tlp` files: a line that says what it is, and the recording as JSON, compressed by gzip, whose checksum and length cover it. `tail -n +2 FILE | zcat` shows it.

use super::Recording;
use crate::exit::{Failure, USAGE};
use anyhow::Context;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The start of the first line; the version follows.
const MAGIC: &str = "trapline recording ";
/// Version of the payload. Fields that are added do not raise it.
const VERSION: u32 = 1;
/// A first line is never longer.
const LINE: u64 = 64;

/// A recording as a `.tlp` file has it.
pub(crate) fn bytes(recording: &Recording) -> anyhow::Result<Vec<u8>> {
    let mut payload = GzEncoder::new(format!("{MAGIC}{VERSION}\n").into_bytes(), Compression::fast());
    serde_json::to_writer(&mut payload, recording)?;
    Ok(payload.finish()?)
}

/// Fills a file under another name, and gives it its own when everything is on disk: it is there whole or not at all.
pub(crate) fn whole(path: &Path, fill: impl FnOnce(&File) -> std::io::Result<()>) -> anyhow::Result<()> {
    // Where the name stands for a device or a pipe, there is nothing to rename.
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let file = File::options().write(true).open(path).with_context(|| format!("cannot write {}", path.display()))?;
        return fill(&file).with_context(|| format!("cannot write {}", path.display()));
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> anyhow::Result<()> {
        let file = tempfile::Builder::new().prefix(".trapline-").permissions(mode()).tempfile_in(directory)?;
        fill(file.as_file())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// What any other program would give a new file; the umask takes its part away.
fn mode() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// The first bytes of a file; none if it cannot be read, or is no file.
pub(crate) fn start(path: &Path) -> Vec<u8> {
    let mut start = Vec::new();
    if path.metadata().is_ok_and(|metadata| metadata.is_file())
        && let Ok(file) = File::open(path)
    {
        // What cannot be read is said by whoever reads it in earnest.
        let _ = file.take(LINE).read_to_end(&mut start);
    }
    start
}

/// Reads a recording.
///
/// # Errors
/// One line that says what the file is instead.
pub(crate) fn read(path: &Path) -> anyhow::Result<Recording> {
    let refuse = |why: String| Failure::error(USAGE, format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
    let mut file = BufReader::new(file);
    let mut line = Vec::new();
    file.by_ref().take(LINE).read_until(b'\n', &mut line).map_err(|error| refuse(error.to_string()))?;
    let version = std::str::from_utf8(&line).ok().and_then(|line| line.strip_prefix(MAGIC)).map(str::trim_end);
    let Some(version) = version else {
        return Err(refuse("not a recording of trapline; `trapline record -o FILE.tlp SPEC -- CMD` makes one".to_string()));
    };
    if version.parse() != Ok(VERSION) {
        return Err(refuse(format!("a recording of version {version}; this trapline reads version {VERSION}")));
    }
    // All of it, before anything is believed: the checksum comes last.
    let mut payload = Vec::new();
    GzDecoder::new(file)
        .read_to_end(&mut payload)
        .map_err(|error| refuse(format!("cut off or damaged ({error}); record it again, or report the segment if it was kept")))?;
    let recording: Recording = serde_json::from_slice(&payload).map_err(|error| refuse(format!("not what a recording holds: {error}")))?;
    recording.check().map_err(|why| refuse(format!("not what a recording holds: {why}")))?;
    Ok(recording)
}

impl Recording {
    /// Whether all indices lead somewhere.
    fn check(&self) -> Result<(), String> {
        let frames =
            self.stacks.iter().flat_map(|stack| stack.frames.iter()).chain(self.no_stack.functions.iter().map(|(frame, ..)| frame));
        if let Some(bad) = frames.copied().find(|at| *at as usize >= self.frames.len()) {
            return Err(format!("frame {bad} of {}", self.frames.len()));
        }
        if let Some(bad) = self.frames.iter().filter_map(|frame| frame.module).find(|at| *at as usize >= self.modules.len()) {
            return Err(format!("module {bad} of {}", self.modules.len()));
        }
        if self.stacks.iter().any(|stack| stack.frames.is_empty()) {
            return Err("a stack without frames".to_string());
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::{Frame, Header, Module, NoStack, Recording, Stack, Symbol};
    use super::{bytes, read, whole};
    use crate::report::Row;
    use std::io::Write;
    use std::path::Path;

    fn write(recording: &Recording, path: &Path) -> anyhow::Result<()> {
        let bytes = bytes(recording)?;
        whole(path, |mut file| file.write_all(&bytes))
    }

    /// A small recording: main calls f (3 hits of malloc) and g (4, inlined into main, and 1 that was cut off), and 2 without a stack.
    pub(crate) fn sample() -> Recording {
        let symbol = |name: &str, line| Symbol { name: name.to_string(), file: Some("/src/a.c".to_string()), line: Some(line) };
        let frame = |module, address, returns, symbols: Vec<Symbol>| Frame { module: Some(module), address, returns, symbols };
        let stack = |frames: &[u32], calls, cut: &str| Stack { frames: frames.to_vec(), calls, self_ns: calls * 100, cut: cut.to_string() };
        Recording {
            header: Header {
                trapline: "0.1.0".to_string(),
                command: vec!["./a".to_string(), "-x".to_string()],
                specs: vec!["libc:malloc".to_string()],
                host: "here".to_string(),
                kernel: "6.1".to_string(),
                started: 1_700_000_000,
                elapsed_ns: 1_500_000_000,
                exit_code: Some(0),
                stack: "dwarf:127".to_string(),
                armed: (1, 0),
                processes: 1,
                ..Header::default()
            },
            functions: vec![Row { object: "libc.so.6".to_string(), name: "malloc".to_string(), calls: 10, ..Row::default() }],
            modules: vec![
                Module { path: "/bin/a".to_string(), build_id: "abcd".to_string(), device: 1, inode: 2, ..Module::default() },
                Module { path: "/lib/libc.so.6".to_string(), ..Module::default() },
            ],
            frames: vec![
                frame(1, 0x9000, false, vec![symbol("malloc", 10)]),
                frame(0, 0x1100, true, vec![symbol("f", 20)]),
                frame(0, 0x1200, true, vec![symbol("g<int>", 31), symbol("main", 30)]),
                frame(0, 0x1300, true, vec![symbol("main", 33)]),
                frame(0, 0x1000, true, vec![]),
            ],
            stacks: vec![stack(&[0, 1, 3, 4], 3, ""), stack(&[0, 2, 4], 4, ""), stack(&[0, 2], 1, "no unwind information")],
            no_stack: NoStack { reasons: [("full".to_string(), 2)].into(), functions: vec![(0, 2, 200)] },
            ..Recording::default()
        }
    }

    /// The sample with symbols for all frames.
    pub(crate) fn complete() -> Recording {
        let mut recording = sample();
        recording.frames[4].symbols = vec![Symbol { name: "_start".to_string(), ..Symbol::default() }];
        recording
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tlp");
        write(&sample(), &path).unwrap();
        assert_eq!(read(&path).unwrap(), sample());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn damaged_and_foreign_files_are_refused_with_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tlp");
        write(&sample(), &path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut cases: Vec<Vec<u8>> = (0..whole.len()).step_by(7).map(|end| whole[..end].to_vec()).collect();
        for at in (0..whole.len()).step_by(3) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            // Bytes of the gzip header that say nothing about the payload: time, operating system.
            if !(MAGIC_LINE + 4..MAGIC_LINE + 10).contains(&at) {
                cases.push(damaged);
            }
        }
        cases.extend([b"".to_vec(), b"\x7fELF".to_vec(), b"trapline recording 99\n".to_vec(), vec![0; 1 << 16]]);
        for case in cases {
            std::fs::write(&path, &case).unwrap();
            let error = format!("{:#}", read(&path).expect_err(&format!("{} bytes", case.len())));
            assert!(!error.contains('\n') && error.contains("a.tlp"), "{error}");
        }
    }

    const MAGIC_LINE: usize = "trapline recording 1\n".len();

    #[test]
    fn indices_that_lead_nowhere_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tlp");
        let changes: [fn(&mut Recording); 4] = [
            |r| r.stacks[0].frames[0] = 99,
            |r| r.frames[0].module = Some(9),
            |r| r.no_stack.functions[0].0 = 99,
            |r| r.stacks[0].frames.clear(),
        ];
        for change in changes {
            let mut bad = sample();
            change(&mut bad);
            write(&bad, &path).unwrap();
            assert!(read(&path).is_err());
        }
    }

    #[test]
    fn lines_add_up() {
        let recording = sample();
        assert_eq!((recording.total(), recording.hits()), (10, 10));
        let names: Vec<String> = recording.lines().map(|line| line.names().join(";")).collect();
        assert_eq!(
            names,
            ["a+0x1000;main;f;malloc", "a+0x1000;main;g<int>;malloc", "[no unwind information];main;g<int>;malloc", "[no stack];malloc"]
        );
    }
}
