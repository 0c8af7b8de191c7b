//! `trapline report`: what a recording has, as text, in other formats, and as a page.

mod choose;
mod json;
pub(crate) mod serve;

use crate::args::ReportArgs;
use crate::exit::{Failure, USAGE};
use crate::model::compare::Compared;
use crate::model::functions::Functions;
use crate::model::recording::Recording;
use crate::model::tree::{Order, Part, Tree};
use crate::out::{colours, say, width};
use crate::outputs::{self, Format, difference};
use crate::recording;
use crate::render::{self, Look};
use crate::target::Target;
use crate::text;
use std::path::Path;

pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<u8> {
    let stdout = Path::new("-");
    let path = args.output.as_deref().unwrap_or(stdout);
    let view = args.json || args.tree || args.callers.is_some() || args.callees.is_some();
    // Before anything is read: a format that cannot be is known now.
    let conversion = match args.format {
        None if view || path == stdout => None,
        format => Some(Format::of(format, path)?),
    };
    if let Some(older) = &args.diff {
        return compare(args, older, conversion, path);
    }
    let recording = recording::load(&args.file)?;
    if let Some(format) = conversion {
        outputs::write(&recording, format, path)?;
        return Ok(0);
    }
    if let Some(address) = args.serve {
        let server = serve::Server::bind(address, recording)?;
        say(&format!("serving {} (^C ends)", server.url()));
        if !server.is_local() {
            say("this address is not of this machine alone: who reaches it can read the recording");
        }
        server.run();
    }
    let target = Target::of(path);
    let bold = target == Target::Stdout && colours(&std::io::stdout());
    let width =
        if target == Target::Stdout && !args.wide { width(&std::io::stdout()) } else { None };
    let lines = lines(args, &recording, Look { limit: args.limit, all: args.all, bold, width })?;
    target.write(text::lines(&lines, None).as_bytes())?;
    Ok(0)
}

/// The recording beside an older one.
fn compare(
    args: &ReportArgs,
    older: &Path,
    format: Option<Format>,
    path: &Path,
) -> anyhow::Result<u8> {
    if let Some(other) = format.filter(|format| !matches!(format, Format::Svg | Format::Html)) {
        let other = other.ending();
        return Err(Failure::error(
            USAGE,
            format!("a difference is a table, svg or html, not {other}; say -f svg or -f html"),
        ));
    }
    let [before, after] = [recording::load(older)?, recording::load(&args.file)?];
    let compared = Compared::of(&before, &after).map_err(|why| Failure::error(USAGE, why))?;
    let written = match format {
        Some(Format::Svg) => difference::svg(&before, &after, &compared),
        Some(_) => difference::html(&before, &after, &compared),
        None => {
            let limit = if args.all { usize::MAX } else { args.limit };
            let lines = render::compare(&after, &compared, &difference::order(&compared), limit);
            text::lines(&lines, None)
        }
    };
    Target::of(path).write(written.as_bytes())?;
    Ok(0)
}

fn lines(args: &ReportArgs, recording: &Recording, look: Look) -> anyhow::Result<Vec<String>> {
    let functions = Functions::of(recording);
    if args.json {
        return Ok(vec![json::table(recording, &functions)?]);
    }
    let tree = |part| {
        let tree = Tree::new(recording, &functions, part, Order::Weight);
        render::tree(recording, &functions, &tree, args.min_percent, look)
    };
    let view = match (&args.callers, &args.callees) {
        (Some(function), _) => tree(Part::Callers(&choose::choose(&functions, function)?)),
        (_, Some(function)) => tree(Part::Callees(&choose::choose(&functions, function)?)),
        _ if args.tree => tree(Part::All),
        _ => render::recording::table(recording, &functions, look),
    };
    let mut lines = render::recording::head(recording);
    lines.extend(view);
    lines.extend(render::recording::footer(recording, args.all));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::lines;
    use crate::args::{Cli, Verb};
    use crate::exit::{USAGE, code_of};
    use crate::model::file::{bytes, tests::complete};
    use clap::Parser;

    fn report(arguments: &str) -> anyhow::Result<String> {
        let line = format!("trapline report a.tlp {arguments}");
        let Verb::Report(args) = Cli::try_parse_from(line.split_whitespace())?.verb else {
            unreachable!()
        };
        lines(
            &args,
            &complete(),
            super::Look { limit: args.limit, all: args.all, bold: false, width: None },
        )
        .map(|lines| lines.join("\n"))
    }

    #[test]
    fn views() {
        assert!(report("").unwrap().contains("self   self %  total  total %"));
        assert!(report("-n 1").unwrap().contains("... and 6 more"));
        assert!(report("--tree").unwrap().contains(" 70.0 %      7  _start  (a)\n"));
        assert!(
            report("--callers g").unwrap().contains("\n 50.0 %      5    main"),
            "generics need not be written"
        );
        assert!(report("--callees mai?").unwrap().contains("\n 30.0 %      3    f\n"));
        for view in ["", "--tree", "--callers f"] {
            assert!(report(view).unwrap().contains("\nlost: 0\n"), "{view}");
        }
    }

    #[test]
    fn a_function_that_is_not_there() {
        let error = report("--callers mallok").unwrap_err();
        assert_eq!(code_of(&error), USAGE);
        assert_eq!(
            error.to_string(),
            "'mallok' matches no function of the recording; did you mean malloc?"
        );
        let error = report("--callees completely_different").unwrap_err().to_string();
        assert!(error.ends_with("; `trapline report --all FILE` shows all that it has"), "{error}");
        assert_eq!(code_of(&report("--callees /(/").unwrap_err()), USAGE);
    }

    #[test]
    fn json() {
        let value: serde_json::Value = serde_json::from_str(&report("-j").unwrap()).unwrap();
        assert_eq!(value["functions"][1]["name"], "main");
        assert_eq!(value["functions"][1]["total_percent"], 80.0);
        assert_eq!(
            (&value["unit"], &value["total"], &value["hits"]),
            (&"calls".into(), &10.into(), &10.into())
        );
        assert_eq!(value["cut"]["no unwind information"], 1);
    }

    #[test]
    fn differences() {
        let directory = tempfile::tempdir().unwrap();
        let [old, new, to] =
            ["a.tlp", "b.tlp", "out"].map(|name| directory.path().join(name).display().to_string());
        std::fs::write(&old, bytes(&complete()).unwrap()).unwrap();
        let mut after = complete();
        after.stacks[0].calls = 30;
        std::fs::write(&new, bytes(&after).unwrap()).unwrap();
        let run = |options: &[&str]| {
            let line = [&["trapline", "report", "--diff", &old, &new, "-o", &to], options].concat();
            let Verb::Report(args) = Cli::parse_from(line).verb else { unreachable!() };
            super::run(&args).map(|_| std::fs::read_to_string(&to).unwrap())
        };
        assert!(run(&["-f", "svg"]).unwrap().starts_with("<?xml"));
        assert!(run(&["-f", "html"]).unwrap().starts_with("<!doctype html>"));
        assert_eq!(code_of(&run(&["-f", "folded"]).unwrap_err()), USAGE);
        let to = format!("{to}.svg");
        let line = ["trapline", "report", &new, "--diff", &old, "-o", &to];
        let Verb::Report(args) = Cli::parse_from(line).verb else { unreachable!() };
        super::run(&args).unwrap();
        let [before, after] = [complete(), after];
        let compared = super::Compared::of(&before, &after).unwrap();
        let lines = super::render::compare(
            &after,
            &compared,
            &crate::outputs::difference::order(&compared),
            2,
        );
        assert_eq!(lines[0], "A: 10 calls; B: 37 calls".replace(" calls", ""));
        assert!(lines[2].contains("x3.70") && lines[2].ends_with("malloc"), "{lines:#?}");
        assert!(lines[4].starts_with("... and "), "{lines:#?}");
    }

    #[test]
    fn conversions() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["a.tlp", "b.html"].map(|name| directory.path().join(name));
        std::fs::write(&from, bytes(&complete()).unwrap()).unwrap();
        let run = |arguments: &[&std::ffi::OsStr]| {
            let line = ["trapline", "report"]
                .map(AsRef::as_ref)
                .into_iter()
                .chain(arguments.iter().copied());
            let Verb::Report(args) = Cli::parse_from(line).verb else { unreachable!() };
            super::run(&args)
        };
        run(&[from.as_ref(), "-o".as_ref(), to.as_ref()]).unwrap();
        assert!(std::fs::read_to_string(&to).unwrap().starts_with("<!doctype html>"));
        let unknown = directory.path().join("b.what");
        assert_eq!(
            code_of(&run(&[from.as_ref(), "-o".as_ref(), unknown.as_ref()]).unwrap_err()),
            USAGE
        );
        assert!(!unknown.exists());
        assert_eq!(code_of(&run(&[unknown.as_ref()]).unwrap_err()), USAGE);
    }
}
