//! What a recording can be turned into.

#[cfg(test)]
mod browser;
mod colour;
pub(crate) mod difference;
pub(crate) mod firefox;
mod flame;
pub(crate) mod folded;
mod format;
pub(crate) mod html;
pub(crate) mod pprof;
pub(crate) mod svg;

pub(crate) use format::Format;

use crate::model::file;
use crate::model::recording::Recording;
use crate::target::Target;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::path::Path;

impl Format {
    /// The bytes of a recording in this format.
    pub(crate) fn render(self, recording: &Recording) -> anyhow::Result<Vec<u8>> {
        Ok(match self {
            Self::Tlp | Self::Perfetto => file::bytes(recording)?,
            Self::Svg => svg::render(recording).into_bytes(),
            Self::Html => html::render(recording).into_bytes(),
            Self::Folded => folded::render(recording).into_bytes(),
            Self::Pprof => pprof::render(recording)?,
            Self::Firefox => firefox::render(recording)?,
        })
    }
}

/// Writes a recording to a file, whole or not at all, compressed if its name ends in `.gz`; to
/// standard output where the path is `-`.
pub(crate) fn write(recording: &Recording, format: Format, path: &Path) -> anyhow::Result<()> {
    let mut bytes = format.render(recording)?;
    let compressed = bytes.starts_with(&[0x1f, 0x8b]);
    if !compressed && format != Format::Tlp && path.extension().is_some_and(|ending| ending == "gz")
    {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&bytes)?;
        bytes = gzip.finish()?;
    }
    Target::of(path).write(&bytes)
}

#[cfg(test)]
mod tests {
    use super::Format;

    #[test]
    fn names_that_end_in_gz_are_compressed() {
        let directory = tempfile::tempdir().unwrap();
        let recording = crate::model::file::tests::sample();
        let write = |name: &str| {
            let path = directory.path().join(name);
            super::write(&recording, Format::of(None, &path).unwrap(), &path).unwrap();
            std::fs::read(path).unwrap()
        };
        let mut text = Vec::new();
        std::io::Read::read_to_end(
            &mut flate2::read::GzDecoder::new(&write("a.json.gz")[..]),
            &mut text,
        )
        .unwrap();
        assert_eq!(text, write("a.json"));
        // A profile for pprof is compressed anyway, once.
        assert_eq!(write("a.pb.gz"), write("a.pprof"));
    }
}
