//! The formats, and how one is told.

use crate::exit::{Failure, USAGE};
use clap::ValueEnum;
use std::path::Path;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A recording for `trapline report`.
    Tlp,
    /// A flame graph that opens in a browser.
    Svg,
    /// One page: flame graph, table, histograms.
    Html,
    /// A line per stack, for flamegraph.pl, inferno and speedscope.
    Folded,
    /// For `go tool pprof`.
    Pprof,
    /// For profiler.firefox.com.
    Firefox,
    /// Needs events with times, which a recording does not have.
    Perfetto,
}

impl Format {
    /// The format that was asked for, or else the one that the file's name ends in.
    pub(crate) fn of(asked: Option<Self>, path: &Path) -> anyhow::Result<Self> {
        let by_name = || {
            let name = path.file_name()?.to_str()?;
            let endings: [(&str, Self); 9] = [
                (".tlp", Self::Tlp),
                (".svg", Self::Svg),
                (".html", Self::Html),
                (".folded", Self::Folded),
                (".pb.gz", Self::Pprof),
                (".pprof", Self::Pprof),
                (".json", Self::Firefox),
                (".json.gz", Self::Firefox),
                (".txt", Self::Folded),
            ];
            endings.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| format)
        };
        let format = asked.or_else(by_name).ok_or_else(|| {
            let path = path.display();
            Failure::error(
                USAGE,
                format!(
                    "{path}: its ending is that of no format; say -f tlp, \
                svg, html, folded, pprof or firefox"
                ),
            )
        })?;
        if format == Self::Perfetto {
            return Err(Failure::error(
                USAGE,
                "a recording counts stacks and keeps no events, which perfetto shows; -f firefox \
                    or -f pprof have the same data"
                    .to_string(),
            ));
        }
        Ok(format)
    }

    /// What the name of such a file ends in.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::Tlp | Self::Perfetto => "tlp",
            Self::Svg => "svg",
            Self::Html => "html",
            Self::Folded => "folded",
            Self::Pprof => "pb.gz",
            Self::Firefox => "json",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Format;
    use std::path::Path;

    #[test]
    fn formats_are_told_by_name() {
        for (name, expected) in [
            ("a.tlp", Some(Format::Tlp)),
            ("x/redis.svg", Some(Format::Svg)),
            ("a.b.html", Some(Format::Html)),
            ("a.pb.gz", Some(Format::Pprof)),
            ("a.json", Some(Format::Firefox)),
            ("a", None),
            ("svg", None),
            ("-", None),
        ] {
            assert_eq!(Format::of(None, Path::new(name)).ok(), expected, "{name}");
        }
        assert_eq!(Format::of(Some(Format::Folded), Path::new("a.svg")).unwrap(), Format::Folded);
        assert!(Format::of(Some(Format::Perfetto), Path::new("a")).is_err());
    }
}
