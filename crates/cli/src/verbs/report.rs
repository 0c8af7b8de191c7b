//! `trapline report`: what a recording has, as text, in other formats, and as a page.

mod choose;
mod json;
pub(crate) mod serve;

use crate::args::ReportArgs;
use crate::out::{Out, say};
use crate::outputs::{self, Format};
use crate::recording::functions::Functions;
use crate::recording::tree::{Order, Part, Tree};
use crate::recording::{self, Recording};
use crate::render::{self, Look};
use std::io::IsTerminal;
use std::path::Path;

pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<u8> {
    let stdout = Path::new("-");
    let conversion = match (&args.output, args.format) {
        (None, None) => None,
        (output, format) => {
            let path = output.as_deref().unwrap_or(stdout);
            // Before anything is read: a format that cannot be is known now.
            Some((Format::of(format, path)?, path))
        }
    };
    let recording = recording::load(&args.file)?;
    if let Some((format, path)) = conversion {
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
    let bold = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut out = Out::stdout();
    lines(args, &recording, bold)?.iter().for_each(|line| out.line(line));
    out.flush();
    Ok(0)
}

fn lines(args: &ReportArgs, recording: &Recording, bold: bool) -> anyhow::Result<Vec<String>> {
    let functions = Functions::of(recording);
    if args.json {
        return Ok(vec![json::table(recording, &functions)?]);
    }
    let tree = |part| {
        let tree = Tree::new(recording, &functions, part, Order::Weight);
        render::tree(recording, &functions, &tree, args.min_percent, bold)
    };
    let view = match (&args.callers, &args.callees) {
        (Some(function), _) => tree(Part::Callers(&choose::choose(&functions, function)?)),
        (_, Some(function)) => tree(Part::Callees(&choose::choose(&functions, function)?)),
        _ if args.tree => tree(Part::All),
        _ => render::recording::table(recording, &functions, Look { limit: args.limit, all: args.all, bold }),
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
    use crate::recording::file::{bytes, tests::complete};
    use clap::Parser;

    fn report(arguments: &str) -> anyhow::Result<String> {
        let line = format!("trapline report a.tlp {arguments}");
        let Verb::Report(args) = Cli::try_parse_from(line.split_whitespace())?.verb else { unreachable!() };
        lines(&args, &complete(), false).map(|lines| lines.join("\n"))
    }

    #[test]
    fn views() {
        assert!(report("").unwrap().contains("self   self %  total  total %"));
        assert!(report("-n 1").unwrap().contains("... and 6 more"));
        assert!(report("--tree").unwrap().contains(" 70.0 %      7  _start  (a)\n"));
        assert!(report("--callers g").unwrap().contains("\n 50.0 %      5    main"), "generics need not be written");
        assert!(report("--callees mai?").unwrap().contains("\n 30.0 %      3    f\n"));
        for view in ["", "--tree", "--callers f"] {
            assert!(report(view).unwrap().contains("\nlost: 0\n"), "{view}");
        }
    }

    #[test]
    fn a_function_that_is_not_there() {
        let error = report("--callers mallok").unwrap_err();
        assert_eq!(code_of(&error), USAGE);
        assert_eq!(error.to_string(), "'mallok' matches no function of the recording; did you mean malloc?");
        let error = report("--callees completely_different").unwrap_err().to_string();
        assert!(error.contains("; the nearest names are "), "{error}");
        assert_eq!(code_of(&report("--callees /(/").unwrap_err()), USAGE);
    }

    #[test]
    fn json() {
        let value: serde_json::Value = serde_json::from_str(&report("-j").unwrap()).unwrap();
        assert_eq!(value["functions"][1]["name"], "main");
        assert_eq!(value["functions"][1]["total_percent"], 80.0);
        assert_eq!((&value["unit"], &value["total"], &value["hits"]), (&"calls".into(), &10.into(), &10.into()));
        assert_eq!(value["cut"]["no unwind information"], 1);
    }

    #[test]
    fn conversions() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["a.tlp", "b.html"].map(|name| directory.path().join(name));
        std::fs::write(&from, bytes(&complete()).unwrap()).unwrap();
        let run = |arguments: &[&std::ffi::OsStr]| {
            let line = ["trapline", "report"].map(AsRef::as_ref).into_iter().chain(arguments.iter().copied());
            let Verb::Report(args) = Cli::parse_from(line).verb else { unreachable!() };
            super::run(&args)
        };
        run(&[from.as_ref(), "-o".as_ref(), to.as_ref()]).unwrap();
        assert!(std::fs::read_to_string(&to).unwrap().starts_with("<!doctype html>"));
        let unknown = directory.path().join("b.what");
        assert_eq!(code_of(&run(&[from.as_ref(), "-o".as_ref(), unknown.as_ref()]).unwrap_err()), USAGE);
        assert!(!unknown.exists());
        assert_eq!(code_of(&run(&[unknown.as_ref()]).unwrap_err()), USAGE);
    }
}
