//! The embedded image, which counts in processes that run already, and its functions.

use super::loaded::code_of_files;
use crate::processes;
use anyhow::{Context as _, anyhow};
use inject::{Error, Image, Mapped, Patch, Remote, Stopped, Tracer, Window};
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;
use wire::image::{self, Change, Failure, Header};

/// The ELF file.
static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/image"));

/// How long a function of the image may take: planning is done, so it is stubs that are written.
const LIMIT: Duration = Duration::from_secs(60);
/// How often changes are tried to be written where threads stand in the way, and the pause.
const TRIES: usize = 200;
const PAUSE: Duration = Duration::from_millis(2);
/// Words that are read from the process at a time.
const CHUNK: usize = 1 << 16;

/// The image, taken apart once.
///
/// # Errors
/// The file is none: a broken build.
pub(super) fn get() -> anyhow::Result<&'static Image> {
    static IMAGE: OnceLock<Result<Image, inject::ImageError>> = OnceLock::new();
    IMAGE.get_or_init(|| Image::parse(BYTES)).as_ref().map_err(|why| anyhow!("{why}"))
}

/// What went wrong, in one line: some errors say their source themselves.
pub(super) fn line(error: Error) -> anyhow::Error {
    match error {
        Error::Refused(refused) => anyhow::Error::new(refused),
        Error::Gone => anyhow::Error::new(Ended),
        other => anyhow!("{other}"),
    }
}

/// The process is not there any more.
#[derive(Debug)]
pub(super) struct Ended;

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it has ended")
    }
}

impl std::error::Error for Ended {}

/// A process that is traced.
pub(super) enum Hold<'t, 's, 'r> {
    /// It runs, and is stopped for as short as can be.
    Running(&'t mut Tracer),
    /// It has yet to run.
    Standing(&'t mut Remote<'r, 's>),
}

/// An image in a process that is traced.
pub(super) struct Inside<'t, 's, 'r> {
    pub(super) hold: Hold<'t, 's, 'r>,
    pub(super) mapped: &'t Mapped,
}

impl Inside<'_, '_, '_> {
    /// Lends the image a descriptor that the process has of its list of mappings, or takes it back.
    pub(super) fn lend_maps(&mut self, descriptor: Option<u64>) -> anyhow::Result<()> {
        let word = descriptor.unwrap_or(u64::MAX);
        self.call(image::MAPS, &[word]).map(drop)
    }

    /// Opens the segment, of which the process has descriptors, and starts the engine. `fresh`: the
    /// bits of [`image::fresh`].
    pub(super) fn start(
        &mut self,
        [tables, counters]: [u64; 2],
        word: i64,
        fresh: u64,
    ) -> anyhow::Result<()> {
        let given = self.call(image::START, &[tables, counters, word.cast_unsigned(), fresh])?;
        Ok(Failure::check(given)?)
    }

    /// The process whose segment is in use, if there is one.
    pub(super) fn owner(&mut self) -> anyhow::Result<Option<i32>> {
        if self.mapped.address(image::OWNER).is_none() {
            return Ok(None);
        }
        let owner = self.call(image::OWNER, &[])?;
        Ok(i32::try_from(owner).ok().filter(|pid| *pid > 0))
    }

    /// Arms a process that runs: how many changes were written.
    pub(super) fn arm(&mut self) -> anyhow::Result<usize> {
        self.change(image::ARM)
    }

    /// Takes back everything that is armed in a process that runs: how many changes.
    pub(super) fn disarm(&mut self) -> anyhow::Result<usize> {
        self.change(image::DISARM)
    }

    /// What is to be written for everything to be armed: [`write_standing`] does, and then
    /// [`Inside::written`] says whether it did.
    pub(super) fn changes(&mut self) -> anyhow::Result<Vec<Change>> {
        let given = self.call(image::ARM, &[])?;
        self.list(given)
    }

    /// Tells the image whether its list was written.
    pub(super) fn written(&mut self, ok: bool) -> anyhow::Result<()> {
        let told = self.call(image::WRITTEN, &[u64::from(ok)])?;
        Ok(Failure::check(told)?)
    }

    fn call(&mut self, name: &str, arguments: &[u64]) -> anyhow::Result<u64> {
        let address = self.mapped.address(name);
        let address = address.with_context(|| format!("the image has no function {name}"))?;
        let given = match &mut self.hold {
            Hold::Running(tracer) => {
                tracer.limit_calls(LIMIT);
                tracer.call(self.mapped, address, arguments)
            }
            Hold::Standing(remote) => remote.call_function(self.mapped, address, arguments),
        };
        given.map_err(line)
    }

    fn change(&mut self, name: &str) -> anyhow::Result<usize> {
        let given = self.call(name, &[])?;
        let written = self.list(given).and_then(|changes| self.write(&changes));
        let told = self.written(written.is_ok());
        let written = written?;
        told.map(|()| written)
    }

    /// The changes that the image wants. Whatever stands in the process's memory, they are of code
    /// of files that it has mapped.
    fn list(&self, header: u64) -> anyhow::Result<Vec<Change>> {
        if header == 0 {
            return Err(Failure::Other.into());
        }
        let mut words = [0; Header::WORDS];
        self.read(header, &mut words)?;
        let header = Header::parse(words)?;
        let mut words = vec![0; usize::try_from(header.count)?];
        for (n, part) in words.chunks_mut(CHUNK).enumerate() {
            self.read(header.words + (8 * CHUNK * n) as u64, part)?;
        }
        let changes = image::decode(&words)?;
        let code = self.code()?;
        let inside = |change: &Change| {
            let end = change.address + change.old.len() as u64;
            code.iter().any(|part| part.start <= change.address && end <= part.end)
        };
        match changes.iter().find(|change| !inside(change)) {
            Some(change) => Err(anyhow!("{:#x} is no code of a file", change.address)),
            None => Ok(changes),
        }
    }

    fn read(&self, address: u64, words: &mut [u64]) -> anyhow::Result<()> {
        let mut bytes = vec![0; 8 * words.len()];
        let read = match &self.hold {
            Hold::Running(tracer) => tracer.read(address, &mut bytes),
            Hold::Standing(remote) => remote.read(address, &mut bytes),
        };
        read.map_err(line)?;
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
        }
        Ok(())
    }

    /// Memory with code of files, neighbours as one.
    fn code(&self) -> anyhow::Result<Vec<Range<u64>>> {
        let pid = match &self.hold {
            Hold::Running(tracer) => tracer.target().pid(),
            Hold::Standing(remote) => remote.pid(),
        };
        let maps = processes::maps(pid).map_err(|_| Ended)?;
        anyhow::ensure!(!maps.is_empty(), Ended);
        let mut joined: Vec<Range<u64>> = Vec::new();
        for part in code_of_files(&maps) {
            match joined.last_mut() {
                Some(last) if last.end == part.start => last.end = part.end,
                _ => joined.push(part),
            }
        }
        Ok(joined)
    }

    /// Writes all changes while all threads stand, or none.
    fn write(&mut self, changes: &[Change]) -> anyhow::Result<usize> {
        if changes.is_empty() {
            return Ok(0);
        }
        let patches: Vec<Patch> = changes.iter().map(patch).collect();
        let windows: Vec<Window> = changes.iter().filter_map(window).collect();
        let Hold::Running(tracer) = &mut self.hold else { anyhow::bail!("it has yet to run") };
        let mut tries = 0;
        loop {
            let stopped = tracer.stop_all();
            match stopped.and_then(|mut stopped| stopped.patch(&patches, &windows)) {
                Ok(_) => return Ok(changes.len()),
                Err(Error::Standing { .. } | Error::Busy) if tries < TRIES => tries += 1,
                Err(why) => return Err(line(why)),
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Writes all changes to a program that has yet to run, or none.
pub(super) fn write_standing(stopped: &mut Stopped<'_>, changes: &[Change]) -> anyhow::Result<()> {
    let patches: Vec<Patch> = changes.iter().map(patch).collect();
    let windows: Vec<Window> = changes.iter().filter_map(window).collect();
    stopped.patch(&patches, &windows).map(drop).map_err(line)
}

fn patch(change: &Change) -> Patch {
    Patch { address: change.address, old: change.old.clone(), new: change.new.clone() }
}

fn window(change: &Change) -> Option<Window> {
    let Change { window: range, moved, .. } = change;
    (!range.is_empty()).then(|| Window { range: range.clone(), moved: moved.clone() })
}

#[cfg(test)]
mod tests {
    use super::{BYTES, get};
    use crate::symbols::elf::Elf;
    use wire::image::{ARM, DISARM, START, WRITTEN};

    #[test]
    fn the_image_is_one_and_has_its_functions() {
        let image = get().expect("an image");
        for name in [START, ARM, DISARM, WRITTEN] {
            assert!(image.symbol(name).is_some(), "{name}");
        }
    }

    #[test]
    fn its_code_is_at_most_256_kib() {
        let elf = Elf::parse(BYTES).expect("an ELF file");
        let code = elf.section(".text").expect("code").data.len();
        assert!(code > 100_000 && code < 256 << 10, "{code} bytes");
    }
}
