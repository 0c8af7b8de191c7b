//! `.tlp` files: a line that says what it is, and the recording as JSON, compressed by gzip, whose
//! checksum and length cover it. `tail -n +2 FILE | zcat` shows it.

use super::recording::Recording;
use super::unpack::{Unusable, packed_bytes, unpack};
use crate::exit::{Failure, USAGE};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read};
use std::path::Path;

/// The start of the first line; the version follows.
const MAGIC: &str = "trapline recording ";
/// Version of the payload. Fields that are added do not raise it.
const VERSION: u32 = 1;
/// A first line is never longer.
const LINE: u64 = 64;
/// What is compressed at a time, in bytes.
const BUFFER: usize = 64 << 10;

/// A recording as a `.tlp` file has it.
pub(crate) fn bytes(recording: &Recording) -> anyhow::Result<Vec<u8>> {
    let payload = GzEncoder::new(format!("{MAGIC}{VERSION}\n").into_bytes(), Compression::fast());
    // Numbers and brackets come one by one, and each would be a round of the compressor's.
    let mut buffered = BufWriter::with_capacity(BUFFER, payload);
    serde_json::to_writer(&mut buffered, recording)?;
    Ok(buffered.into_inner().map_err(std::io::IntoInnerError::into_error)?.finish()?)
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
    let packed = packed_bytes(&file);
    let mut file = BufReader::new(file);
    let mut line = Vec::new();
    file.by_ref()
        .take(LINE)
        .read_until(b'\n', &mut line)
        .map_err(|error| refuse(error.to_string()))?;
    let version = std::str::from_utf8(&line)
        .ok()
        .and_then(|line| line.strip_prefix(MAGIC))
        .map(str::trim_end);
    let Some(version) = version else {
        return Err(refuse(
            "not a recording of trapline; `trapline record -o FILE.tlp SPEC -- CMD` makes one"
                .to_string(),
        ));
    };
    if version.parse() != Ok(VERSION) {
        return Err(refuse(format!(
            "a recording of version {version}; this trapline reads version {VERSION}"
        )));
    }
    // All of it, before anything is believed: the checksum comes last.
    let payload = unpack(file, packed).map_err(|why| {
        refuse(match why {
            Unusable::Bomb(why) => why,
            Unusable::Damaged(error) => format!(
                "cut off or damaged ({error}); record it again, \
                or report the segment if it was kept"
            ),
        })
    })?;
    let recording: Recording = serde_json::from_slice(&payload)
        .map_err(|error| refuse(format!("not what a recording holds: {error}")))?;
    recording.check().map_err(|why| refuse(format!("not what a recording holds: {why}")))?;
    Ok(recording)
}

impl Recording {
    /// Whether all indices lead somewhere.
    fn check(&self) -> Result<(), String> {
        let frames = self
            .stacks
            .iter()
            .flat_map(|stack| stack.frames.iter())
            .chain(self.no_stack.functions.iter().map(|(frame, ..)| frame));
        if let Some(bad) = frames.copied().find(|at| *at as usize >= self.frames.len()) {
            return Err(format!("frame {bad} of {}", self.frames.len()));
        }
        if let Some(bad) = self
            .frames
            .iter()
            .filter_map(|frame| frame.module)
            .find(|at| *at as usize >= self.modules.len())
        {
            return Err(format!("module {bad} of {}", self.modules.len()));
        }
        let threads = self.stacks.iter().flat_map(|stack| &stack.threads);
        if let Some((bad, ..)) =
            threads.into_iter().find(|(at, ..)| *at as usize >= self.threads.len())
        {
            return Err(format!("thread {bad} of {}", self.threads.len()));
        }
        if self.stacks.iter().any(|stack| stack.frames.is_empty()) {
            return Err("a stack without frames".to_string());
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::recording::{
        Frame, Header, Module, NoStack, Recording, Stack, Symbol, Thread, Weight,
    };
    use super::{bytes, read};
    use crate::model::report::Row;
    use std::path::Path;

    fn write(recording: &Recording, path: &Path) -> anyhow::Result<()> {
        Ok(std::fs::write(path, bytes(recording)?)?)
    }

    /// A small recording: main calls f (3 hits of malloc) and g (4, inlined into main, and 1 that
    /// was cut off), and 2 without a stack.
    pub(crate) fn sample() -> Recording {
        let symbol = |name: &str, line| Symbol {
            name: name.to_string(),
            file: Some("/src/a.c".to_string()),
            line: Some(line),
        };
        let frame = |module, address, returns, symbols: Vec<Symbol>| Frame {
            module: Some(module),
            address,
            returns,
            symbols,
        };
        let stack = |frames: &[u32], calls, cut: &str| Stack {
            frames: frames.to_vec(),
            calls,
            self_ns: calls * 100,
            cut: cut.to_string(),
            threads: match calls {
                // Of both threads; of one; of one, and of nobody knows whom.
                3 => vec![(0, 1, 100), (1, 2, 200)],
                4 => vec![(1, 4, 400)],
                _ => vec![(0, calls.div_ceil(2), calls * 50)],
            },
        };
        let thread = |thread, name: &str| Thread {
            process: 10,
            thread,
            process_name: "server".to_string(),
            thread_name: name.to_string(),
        };
        Recording {
            threads: vec![thread(10, "server"), thread(11, "worker")],
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
            functions: vec![Row {
                object: "libc.so.6".to_string(),
                name: "malloc".to_string(),
                calls: 10,
                ..Row::default()
            }],
            modules: vec![
                Module {
                    path: "/bin/a".to_string(),
                    build_id: "abcd".to_string(),
                    device: 1,
                    inode: 2,
                    ..Module::default()
                },
                Module { path: "/lib/libc.so.6".to_string(), ..Module::default() },
            ],
            frames: vec![
                frame(1, 0x9000, false, vec![symbol("malloc", 10)]),
                frame(0, 0x1100, true, vec![symbol("f", 20)]),
                frame(0, 0x1200, true, vec![symbol("g<int>", 31), symbol("main", 30)]),
                frame(0, 0x1300, true, vec![symbol("main", 33)]),
                frame(0, 0x1000, true, vec![]),
            ],
            stacks: vec![
                stack(&[0, 1, 3, 4], 3, ""),
                stack(&[0, 2, 4], 4, ""),
                stack(&[0, 2], 1, "no unwind information"),
            ],
            no_stack: NoStack {
                reasons: [("full".to_string(), 2)].into(),
                functions: vec![(0, 2, 200)],
            },
            ..Recording::default()
        }
    }

    /// The sample with symbols for all frames.
    pub(crate) fn complete() -> Recording {
        let mut recording = sample();
        recording.frames[4].symbols =
            vec![Symbol { name: "_start".to_string(), ..Symbol::default() }];
        recording
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tlp");
        write(&sample(), &path).unwrap();
        assert_eq!(read(&path).unwrap(), sample());
    }

    #[test]
    fn damaged_and_foreign_files_are_refused_with_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tlp");
        write(&sample(), &path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut cases: Vec<Vec<u8>> =
            (0..whole.len()).step_by(7).map(|end| whole[..end].to_vec()).collect();
        for at in (0..whole.len()).step_by(3) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            // Bytes of the gzip header that say nothing about the payload: time, operating system.
            if !(MAGIC_LINE + 4..MAGIC_LINE + 10).contains(&at) {
                cases.push(damaged);
            }
        }
        cases.extend([
            b"".to_vec(),
            b"\x7fELF".to_vec(),
            b"trapline recording 99\n".to_vec(),
            vec![0; 1 << 16],
        ]);
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
        let changes: [fn(&mut Recording); 5] = [
            |r| r.stacks[0].threads[1].0 = 2,
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
    fn threads_share_a_line() {
        let parts = |recording: &Recording| -> Vec<(Option<u32>, u64, u64)> {
            let all = recording.lines_by_thread();
            all.map(|(thread, line)| (thread, line.calls, line.weight)).collect()
        };
        let mut recording = sample();
        let (first, second) = (Some(0), Some(1));
        assert_eq!(
            parts(&recording),
            [(first, 1, 1), (second, 2, 2), (second, 4, 4), (first, 1, 1), (None, 2, 2)]
        );
        // Files say what they like: no thread has more than there is.
        recording.stacks[1].threads = vec![(0, 3, 0), (1, u64::MAX, 7), (0, 9, 0)];
        let sums = |recording: &Recording| {
            parts(recording).iter().fold((0, 0), |sum, part| (sum.0 + part.1, sum.1 + part.2))
        };
        assert_eq!(sums(&recording), (10, 10));
        recording.header.weight = Weight::Time;
        assert_eq!(sums(&recording).1, recording.total());
        // A stack without weight is no line: the next one keeps its threads.
        recording.stacks[0].self_ns = 0;
        let all = parts(&recording);
        assert_eq!(all[0], (second, 1, 7), "{all:?}");
    }

    #[test]
    fn lines_add_up() {
        let recording = sample();
        assert_eq!((recording.total(), recording.hits()), (10, 10));
        let names: Vec<String> = recording.lines().map(|line| line.names().join(";")).collect();
        assert_eq!(
            names,
            [
                "a+0x1000;main;f;malloc",
                "a+0x1000;main;g<int>;malloc",
                "[no unwind information];main;g<int>;malloc",
                "[no stack];malloc"
            ]
        );
    }
}
