//! `trapline list`: the functions that a spec would match, and how each would be hooked.

use crate::args::ListArgs;
use crate::exit::{Failure, NOT_FOUND, USAGE};
use crate::human;
use crate::out::Out;
use crate::program::{Program, interpreted};
use crate::resolve::Resolution;
use crate::select::Function;
use crate::spec::{Kind, Spec};
use crate::symbols::libraries::{Environment, closure, find};
use crate::symbols::object::Object;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub(crate) fn run(args: &ListArgs) -> anyhow::Result<u8> {
    let mut texts = args.specs.all();
    let objects = match args.command.first() {
        Some(command) => {
            let program = Program::find(command)?;
            let libraries = closure(&program.object, &Environment::current());
            std::iter::once(program.object).chain(libraries).collect()
        }
        None => objects_named_by(&mut texts)?,
    };
    let resolution = Resolution::new(objects, Spec::parse_all(&texts)?)?;
    if let Some(spec) = resolution.unmatched().next() {
        let object = spec.object.as_ref().map_or("", |object| object.text());
        return Err(Failure::error(
            USAGE,
            format!("'{}': {object} is not loaded at start; name the file, as in: trapline list /path/to/{object}", spec.text),
        ));
    }
    if args.verbose {
        print_methods(&resolution)
    } else {
        print_names(&resolution)
    }
    Ok(0)
}

/// Without a command, the objects are what the arguments name: paths, and the object parts of specs. Arguments that are paths alone are taken out.
fn objects_named_by(texts: &mut Vec<String>) -> anyhow::Result<Vec<Object>> {
    let mut objects = Vec::new();
    let mut open = |path: &Path, name: &str| -> anyhow::Result<()> {
        let path = &*interpreted(path.to_path_buf())?;
        let mut object =
            Object::open(path)?.map_err(|why| Failure::error(crate::exit::CANNOT_EXECUTE, format!("{}: {why}", path.display())))?;
        object.called(name);
        objects.push(object);
        Ok(())
    };
    let mut wrong = None;
    texts.retain(|text| {
        // A word without ':' that is the name of a program or library can only be meant as one: there is no object yet that could have such a function.
        let path = if text.contains(':') || text.contains(['*', '?']) { None } else { find(text) };
        if let Some(path) = &path
            && let Err(error) = open(path, text)
        {
            wrong = Some(error);
        }
        path.is_none()
    });
    if let Some(error) = wrong {
        return Err(error);
    }
    for spec in texts.iter().map(|text| Spec::parse(text)).collect::<anyhow::Result<Vec<_>>>()? {
        let Some(pattern) = spec.object.filter(|_| !spec.exclude) else { continue };
        match find(pattern.text()) {
            Some(path) => open(&path, pattern.text())?,
            None => {
                return Err(Failure::error(
                    NOT_FOUND,
                    format!("'{}': no program or library {}; name its path, or a program behind --", spec.text, pattern.text()),
                ));
            }
        }
    }
    if objects.is_empty() {
        return Err(Failure::error(
            USAGE,
            "of which program? name its path, as in: trapline list /usr/bin/ls, or a command: trapline list 'libc:*alloc' -- ls",
        ));
    }
    Ok(objects)
}

fn print_names(resolution: &Resolution) {
    let mut out = Out::stdout();
    for (object, selection) in resolution.objects.iter().zip(&resolution.selections) {
        for function in &selection.functions {
            out.line(&format!("{}:{}", object.name(), function.name));
        }
    }
}

/// What became of one function.
enum Verdict {
    Detour(f64, String),
    Breakpoint(f64, String),
    Not(String),
}

fn print_methods(resolution: &Resolution) {
    let mut out = Out::stdout();
    let mut counts = [0_u64; 3];
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for (object, selection) in resolution.objects.iter().zip(&resolution.selections) {
        for function in &selection.functions {
            let (which, method, cost, note) = match verdict(object, function) {
                Verdict::Detour(cost, note) => (0, "detour", Some(cost), note),
                Verdict::Breakpoint(cost, note) => (1, "breakpoint", Some(cost), note),
                Verdict::Not(reason) => {
                    *reasons.entry(reason.clone()).or_default() += 1;
                    (2, "none", None, reason)
                }
            };
            counts[which] += 1;
            out.line(&row(method, cost, object, &function.name, &note));
        }
        for skipped in &selection.skipped {
            counts[2] += 1;
            *reasons.entry(skipped.reason.clone()).or_default() += 1;
            out.line(&row("none", None, object, &skipped.name, &skipped.reason));
        }
    }
    let [detours, breakpoints, none] = counts.map(human::grouped);
    out.line(&format!("{detours} by detour, {breakpoints} by breakpoint, {none} not at all"));
    for (reason, count) in reasons {
        out.line(&format!("  {:>6} {reason}", human::grouped(count)));
    }
}

fn row(method: &str, cost: Option<f64>, object: &Object, name: &str, note: &str) -> String {
    let cost = cost.map_or_else(String::new, |cost| if cost < 10.0 { format!("{cost:.1} ns") } else { human::time(cost) });
    let mut line = format!("{method:<10} {cost:>8}  {}:{name}", object.name());
    if !note.is_empty() {
        let _ = write!(line, "  ({note})");
    }
    line
}

fn verdict(object: &Object, function: &Function) -> Verdict {
    let plan = match plan(object, function) {
        Ok(plan) => plan,
        Err(refusal) => return Verdict::Not(refusal.to_string()),
    };
    let no_return = plan.returns.err().filter(|_| function.kind != Kind::Entry);
    let timed = function.kind == Kind::Call && no_return.is_none();
    let cost = plan.cost_ns(if timed { patch::Probe::Time } else { patch::Probe::Count });
    let mut notes: Vec<String> = Vec::new();
    notes.extend(function.entry_only.map(str::to_string));
    notes.extend(no_return.map(|why| format!("{why}: entries only")));
    match plan.method {
        patch::Method::Detour(_) => Verdict::Detour(cost, notes.join("; ")),
        patch::Method::Breakpoint(_) if wire::is_c_library(object.path.as_os_str().as_bytes()) => {
            Verdict::Not(wire::NEEDS_TRAP.to_string())
        }
        patch::Method::Breakpoint(breakpoint) => {
            notes.insert(0, breakpoint.why().to_string());
            Verdict::Breakpoint(cost, notes.join("; "))
        }
    }
}

/// What the agent would decide, from the file alone.
fn plan(object: &Object, function: &Function) -> Result<patch::Plan, patch::Refusal> {
    let bytes = object.elf.bytes_from(function.address);
    let size = usize::try_from(function.size).unwrap_or(usize::MAX).min(bytes.len());
    let end = size.saturating_add(usize::try_from(function.padding).unwrap_or(0)).min(bytes.len());
    let site = u32::try_from(function.offset).map_err(|_| patch::Refusal::Empty)?;
    let whole = patch::Function { address: function.address, code: &bytes[..size], after: &bytes[size..end], site };
    patch::plan(&whole, &patch::Options::default())
}
