//! `trapline list`: the functions that a spec would match, and how each would be hooked.

use crate::args::ListArgs;
use crate::exit::{FAILED, Failure, NOT_FOUND, USAGE};
use crate::human;
use crate::out::{Out, say, width};
use crate::planning::{self, Returns, Wanted};
use crate::processes;
use crate::program::{Program, interpreted};
use crate::render::columns::within;
use crate::resolve::Resolution;
use crate::run::attached;
use crate::run::loaded::Objects;
use crate::select::Function;
use crate::spec::{Kind, Spec};
use crate::symbols::libraries::{Environment, closure, find};
use crate::symbols::object::Object;
use crate::text::visible;
use patch::Decision;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub(crate) fn run(args: &ListArgs) -> anyhow::Result<u8> {
    let mut texts = args.specs.all();
    let resolution = if args.processes.is_given() {
        running(args, &texts)?
    } else {
        let objects = match args.command.first() {
            Some(command) => {
                let program = Program::find(command)?;
                let libraries = closure(&program.object, &Environment::current());
                std::iter::once(program.object).chain(libraries).collect()
            }
            None => objects_named_by(&mut texts)?,
        };
        Resolution::new(objects, texts.iter().map(|text| Spec::parse(text)).collect())?
    };
    if let Some(spec) = resolution.unmatched().next() {
        let object = spec
            .pattern()
            .and_then(|reading| reading.object.as_ref())
            .map_or("", |object| object.text());
        return Err(Failure::error(
            USAGE,
            format!(
                "'{}': {object} is not loaded at start; name the file, as in: trapline list \
                    /path/to/{object}",
                spec.text
            ),
        ));
    }
    let mut out = Out::stdout()?;
    let width = if args.wide { None } else { width(&std::io::stdout()) };
    if args.verbose {
        let Resolution { runs, walked, .. } = resolution;
        let wanted = Wanted { runs, walked, returns: args.returns, ..Wanted::default() };
        print_methods(&resolution, &mut out, width, wanted)
    } else {
        print_names(&resolution, &mut out, width)
    }
    out.finish()?;
    Ok(0)
}

/// What the specs mean in processes that run.
fn running(args: &ListArgs, texts: &[String]) -> anyhow::Result<Resolution> {
    let mut objects = Objects::default();
    let mut refused = Vec::new();
    let pids = processes::chosen(&args.processes)?;
    for pid in &pids {
        refused.extend(objects.add(*pid).err());
    }
    if refused.len() == pids.len() {
        return Err(Failure::errors(FAILED, refused.iter().map(ToString::to_string).collect()));
    }
    refused.iter().for_each(|why| say(&why.to_string()));
    attached::resolve(objects, texts)
}

/// Without a command, the objects are what the arguments name: paths, and the object parts of
/// specs. Arguments that are paths alone are taken out.
fn objects_named_by(texts: &mut Vec<String>) -> anyhow::Result<Vec<Object>> {
    let mut objects = Vec::new();
    fn open(objects: &mut Vec<Object>, path: &Path, name: &str) -> anyhow::Result<()> {
        let path = &*interpreted(path.to_path_buf())?;
        let mut object = Object::open(path)?.map_err(|why| {
            Failure::error(crate::exit::CANNOT_EXECUTE, format!("{}: {why}", path.display()))
        })?;
        object.called(name);
        objects.push(object);
        Ok(())
    }
    let mut wrong = None;
    texts.retain(|text| {
        // A word without ':' that is the name of a program or library can only be meant as one:
        // there is no object yet that could have such a function.
        let path = if text.contains(':') || text.contains(['*', '?']) { None } else { find(text) };
        if let Some(path) = &path
            && let Err(error) = open(&mut objects, path, text)
        {
            wrong = Some(error);
        }
        path.is_none()
    });
    if let Some(error) = wrong {
        return Err(error);
    }
    let named = objects.len();
    let mut unknown = None;
    for spec in texts.iter().map(|text| Spec::parse(text)) {
        let Some(pattern) = spec
            .pattern()
            .filter(|reading| !reading.measure.exclude)
            .and_then(|reading| reading.object.as_ref())
        else {
            continue;
        };
        // Each once: many specs may name it.
        if objects.iter().any(|object| object.is(pattern)) {
            continue;
        }
        match find(pattern.text()) {
            Some(path) => open(&mut objects, &path, pattern.text())?,
            None => {
                unknown = unknown.or_else(|| Some((spec.text.clone(), pattern.text().to_string())))
            }
        }
    }
    // With a program that was named, it may be a name of one of its functions.
    if let Some((spec, object)) = unknown.filter(|_| named == 0) {
        let message = format!(
            "'{}': no program or library {}; name its path, or a program behind --",
            visible(&spec),
            visible(&object)
        );
        return Err(Failure::error(NOT_FOUND, message));
    }
    if objects.is_empty() {
        return Err(Failure::error(
            USAGE,
            "of which program? name its path, as in: trapline list /usr/bin/ls, or a command: \
                trapline list 'libc:*alloc' -- ls",
        ));
    }
    Ok(objects)
}

fn print_names(resolution: &Resolution, out: &mut Out, width: Option<usize>) {
    for (object, selection) in resolution.objects.iter().zip(&resolution.selections) {
        for function in &selection.functions {
            let name = format!("{}:{}", object.name(), function.name);
            out.line(&width.map_or_else(|| name.clone(), |width| within(&name, width)));
        }
    }
}

/// What became of one function.
enum Verdict {
    Detour(f64, String),
    Breakpoint(f64, String),
    Not(String),
}

/// How returns are seen, of all functions of which they are wanted.
#[derive(Default)]
struct Seen {
    exits: u64,
    sites: u64,
    instances: u64,
    entry_only: u64,
}

impl Seen {
    /// Counts a function, and says how its returns are seen.
    fn of(&mut self, function: &Function, plan: &patch::Plan, wanted: Wanted) -> Option<String> {
        if function.kind == Kind::Entry {
            return None;
        }
        let why = match &plan.exits {
            Ok(exits) => {
                self.exits += 1;
                self.sites += exits.len() as u64;
                let sites = if exits.len() == 1 { "site" } else { "sites" };
                return Some(format!("exits ({} {sites}{})", exits.len(), tails(exits)));
            }
            Err(why) => why,
        };
        let asked = wanted.returns == Some(Returns::Instances);
        if plan.returns.is_ok() {
            self.instances += 1;
            return Some(if asked { "instance".into() } else { format!("instance: {why}") });
        }
        self.entry_only += 1;
        Some(match plan.returns {
            Err(no_return) if asked => format!("entry only: {no_return}"),
            Err(no_return @ patch::NoReturn::WalkedByRuntime) => {
                format!("entry only: {why}, and {no_return}")
            }
            _ => format!("entry only: {why}"),
        })
    }
}

/// What is to be said of exits by which a function goes on in another one.
fn tails(exits: &[patch::Exit]) -> String {
    let leaves = exits.iter().flat_map(|exit| exit.leaves());
    let tails = leaves.filter(|leaves| matches!(leaves.leave, patch::Leave::Tail(_))).count();
    match tails {
        0 => String::new(),
        1 => "; its time ends at a jump to another function".to_string(),
        more => format!("; its time ends at {more} jumps to other functions"),
    }
}

fn print_methods(resolution: &Resolution, out: &mut Out, width: Option<usize>, wanted: Wanted) {
    let mut counts = [0_u64; 3];
    let mut seen = Seen::default();
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for (object, selection) in resolution.objects.iter().zip(&resolution.selections) {
        let decisions = planning::decide(object, &selection.functions, wanted);
        for (function, decision) in selection.functions.iter().zip(decisions) {
            let (which, method, cost, note) =
                match verdict(object, function, decision, &mut seen, wanted) {
                    Verdict::Detour(cost, note) => (0, "detour", Some(cost), note),
                    Verdict::Breakpoint(cost, note) => (1, "breakpoint", Some(cost), note),
                    Verdict::Not(reason) => {
                        *reasons.entry(reason.clone()).or_default() += 1;
                        (2, "none", None, reason)
                    }
                };
            counts[which] += 1;
            out.line(&row(
                method,
                cost,
                &format!("{}:{}", object.name(), function.name),
                &note,
                width,
            ));
        }
        for skipped in &selection.skipped {
            counts[2] += 1;
            *reasons.entry(skipped.reason.clone()).or_default() += 1;
            out.line(&row(
                "none",
                None,
                &format!("{}:{}", object.name(), skipped.name),
                &skipped.reason,
                width,
            ));
        }
    }
    let [detours, breakpoints, none] = counts.map(human::grouped);
    out.line(&format!("{detours} by detour, {breakpoints} by breakpoint, {none} not at all"));
    let Seen { exits, sites, instances, entry_only } = seen;
    if exits + instances + entry_only > 0 {
        let [exits, sites, instances, entry_only] =
            [exits, sites, instances, entry_only].map(human::grouped);
        out.line(&format!(
            "returns: {exits} by exits ({sites} sites), {instances} by instance, {entry_only} \
                entry only"
        ));
    }
    for (reason, count) in reasons {
        out.line(&format!("  {:>6} {reason}", human::grouped(count)));
    }
}

fn row(method: &str, cost: Option<f64>, name: &str, note: &str, width: Option<usize>) -> String {
    let cost = cost.map_or_else(String::new, |cost| {
        if cost < 10.0 { format!("{cost:.1} ns") } else { human::time(cost) }
    });
    let before = format!("{method:<10} {cost:>8}  ");
    let note = if note.is_empty() { String::new() } else { format!("  ({note})") };
    let used = before.chars().count() + note.chars().count();
    let name =
        width.map_or_else(|| name.to_string(), |width| within(name, width.saturating_sub(used)));
    format!("{before}{name}{note}")
}

fn verdict(
    object: &Object,
    function: &Function,
    decision: Decision,
    seen: &mut Seen,
    wanted: Wanted,
) -> Verdict {
    let plan = match decision {
        Ok(plan) => plan,
        Err(refusal) => return Verdict::Not(refusal.to_string()),
    };
    let trap = matches!(plan.method, patch::Method::Breakpoint(_));
    if trap && wire::is_c_library(object.path.as_os_str().as_bytes()) {
        return Verdict::Not(wire::NEEDS_TRAP.to_string());
    }
    let returns = seen.of(function, &plan, wanted);
    let timed = function.kind == Kind::Call && (plan.exits.is_ok() || plan.returns.is_ok());
    let cost = plan.cost_ns(if timed { patch::Probe::Time } else { patch::Probe::Count });
    let mut notes: Vec<String> = Vec::new();
    notes.extend(function.entry_only.map(str::to_string));
    notes.extend(returns);
    match plan.method {
        patch::Method::Detour(_) => Verdict::Detour(cost, notes.join("; ")),
        patch::Method::Breakpoint(breakpoint) => {
            notes.insert(0, breakpoint.why().to_string());
            Verdict::Breakpoint(cost, notes.join("; "))
        }
    }
}
