//! How functions are probed: decided from the file that they are in, once for all processes of a
//! run.

use crate::select::Function;
use crate::spec::Kind;
use crate::symbols::elf::{Elf, RawSymbol, SHT_DYNSYM, SHT_SYMTAB};
use crate::symbols::go::{self, GoFunction, Origin};
use crate::symbols::object::Object;
use crate::symbols::table::{STT_FUNC, Table};
use clap::ValueEnum;
use patch::{
    Catalogue, Convention, Decision, Image, NoReturn, Options, Piece, Refusal, Surroundings,
    branches_elsewhere,
};
use std::cell::OnceCell;
use std::os::unix::ffi::OsStrExt as _;
use wire::hook;

/// Bytes behind a function that an agent probes for itself that may be padding: the planner looks
/// whether they are.
const AFTER_WATCHED: u64 = 15;

/// How returns are seen, where there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Returns {
    /// By probes where a function leaves; of functions where those have no room, entries only.
    Exits,
    /// By putting something in the place of the return address.
    Instances,
}

/// What is planned for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// The processes run already.
    pub(crate) runs: bool,
    /// Only entries are counted.
    pub(crate) entries_only: bool,
    /// By exits where they have room, else by instances, if nothing is asked for.
    pub(crate) returns: Option<Returns>,
    /// A runtime in the process walks or copies its stacks: no instances.
    pub(crate) walked: bool,
}

/// A function of which a plan is wanted.
#[derive(Clone, Copy)]
struct Asked {
    bytes: patch::Function<'static>,
    /// Its exits are wanted.
    exits: bool,
    /// Its return address may be replaced.
    returns: bool,
}

/// What is decided for each of some functions of an object, in their order.
pub(crate) fn decide(object: &Object, functions: &[Function], wanted: Wanted) -> Vec<Decision> {
    let elf = &object.elf;
    let mut decisions = vec![Err(Refusal::Empty); functions.len()];
    let inside =
        functions.iter().enumerate().filter_map(|(i, f)| Some((i, asked(elf, f, wanted)?)));
    let (places, code): (Vec<usize>, Vec<Asked>) = inside.unzip();
    for (place, decision) in places.into_iter().zip(decide_all(object, &code, wanted)) {
        decisions[place] = decision;
    }
    decisions
}

/// The bytes by which agents probe these functions, and those that they need themselves.
pub(crate) fn catalogue(object: &Object, functions: &[Function], wanted: Wanted) -> Catalogue {
    let elf = &object.elf;
    let mut all: Vec<Asked> = functions.iter().filter_map(|f| asked(elf, f, wanted)).collect();
    all.extend(watched(object).map(|symbol| Asked {
        bytes: bytes(elf, symbol.address, symbol.size, AFTER_WATCHED, 0),
        exits: false,
        returns: true,
    }));
    let place = |asked: &Asked| (asked.bytes.address, asked.bytes.site);
    // One that is asked for twice has exits if either asks for them.
    all.sort_unstable_by_key(|asked| (place(asked), !asked.exits));
    all.dedup_by_key(|asked| place(asked));
    let mut catalogue = Catalogue::default();
    for (asked, decision) in all.iter().zip(decide_all(object, &all, wanted)) {
        catalogue.add(asked.bytes.address, asked.bytes.site, &decision);
    }
    catalogue
}

fn decide_all(object: &Object, asked: &[Asked], wanted: Wanted) -> Vec<Decision> {
    let elf = &object.elf;
    let file = File { elf, relative: OnceCell::new() };
    let functions: Vec<_> = asked.iter().map(|asked| asked.bytes).collect();
    let mut branch_targets = branches_elsewhere(&functions, |_| true, &file);
    let around = Around { file: &file, table: object.table() };
    let gos = go::functions(elf);
    if asked.iter().any(|asked| asked.exits) {
        branch_targets.extend(landing_pads(object));
        branch_targets.extend(gos.iter().filter_map(|go| go.recovers));
        branch_targets.sort_unstable();
        branch_targets.dedup();
    }
    let options = Options {
        branch_targets: &branch_targets,
        surroundings: Some(&around),
        ..Options::default()
    };
    let no_instances = if wanted.walked {
        Some(NoReturn::WalkedByRuntime)
    } else {
        (wanted.returns == Some(Returns::Exits)).then_some(NoReturn::Asked)
    };
    let decide = |asked: &Asked| {
        let (function, options) = (&asked.bytes, Options { exits: asked.exits, ..options });
        let looks = (!asked.returns).then_some(NoReturn::ReadsReturnAddress);
        let at = gos.binary_search_by_key(&function.address, |go| go.address).ok();
        let mut decision = match at.map(|at| &gos[at]) {
            Some(go) => decide_go(go, function, Options { put_aside: wanted.runs, ..options }),
            None => patch::plan(function, &options),
        };
        if let Some(why) = looks.or(no_instances)
            && let Ok(plan) = &mut decision
            && plan.returns.is_ok()
        {
            plan.returns = Err(why);
        }
        decision
    };
    let mut decisions: Vec<Decision> = asked.iter().map(decide).collect();
    patch::keep_apart(&mut decisions);
    decisions
}

/// Where exceptions land, in all functions.
fn landing_pads(object: &Object) -> Vec<u64> {
    let mut pads = Vec::new();
    for frame in object.table().frames() {
        if let Some(at) = frame.landing_pads {
            // Of one that cannot be read, the code that it leads to is seen to be reached by
            // nothing else.
            patch::landing_pads(frame.start, at, object.elf.bytes_from(at), &mut pads);
        }
    }
    pads
}

/// What is decided for a function that Go's linker has put into a program.
fn decide_go(
    go: &GoFunction<'_>,
    function: &patch::Function<'_>,
    options: Options<'_>,
) -> Decision {
    match go.origin {
        Origin::C => patch::plan(function, &Options { put_aside: false, ..options }),
        _ if go.is_runtime() => Err(Refusal::GoRuntime),
        Origin::Assembler => Err(Refusal::GoAssembly),
        Origin::Unknown => Err(Refusal::GoVersion),
        Origin::Compiler => {
            let (runs, convention) = (options.put_aside, Convention::Go);
            let (put_aside, exits_put_aside) = (runs && go.preempted, runs);
            patch::plan(function, &Options { convention, put_aside, exits_put_aside, ..options })
        }
    }
}

/// A function's bytes in the file. `None`: the place that is to be probed is not in it.
fn asked(elf: &Elf<'static>, function: &Function, wanted: Wanted) -> Option<Asked> {
    let site = u32::try_from(function.offset).ok()?;
    let entry = wanted.entries_only || function.kind == Kind::Entry || site != 0;
    let exits = !entry && wanted.returns != Some(Returns::Instances);
    let bytes = bytes(elf, function.address, function.size, function.padding, site);
    Some(Asked { bytes, exits, returns: function.returns })
}

fn bytes(
    elf: &Elf<'static>,
    address: u64,
    size: u64,
    padding: u64,
    site: u32,
) -> patch::Function<'static> {
    let bytes = elf.bytes_from(address);
    let cut = |len: u64| usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len());
    let (size, end) = (cut(size), cut(size.saturating_add(padding)));
    patch::Function { address, code: &bytes[..size], after: &bytes[size..end], site }
}

/// Where an image probes functions of an object for itself, by their numbers ([`hook::ALL`]); 0:
/// nowhere.
pub(crate) fn hooks(object: &Object) -> [u64; hook::ALL.len()] {
    let mut places = [0; hook::ALL.len()];
    for symbol in watched(object) {
        if let Some(which) = hook::ALL.iter().position(|name| *name == symbol.name) {
            places[which] = symbol.address;
        }
    }
    places
}

/// The functions that agents and images probe for themselves: of a C library, and of a program that
/// has it in itself.
fn watched(object: &Object) -> impl Iterator<Item = RawSymbol<'static>> {
    let elf = &object.elf;
    let table = match wire::is_c_library(object.path.as_os_str().as_bytes()) {
        true => Some(SHT_DYNSYM),
        false => elf.interpreter().is_none().then_some(SHT_SYMTAB),
    };
    let ours = |symbol: &RawSymbol<'_>| {
        let is_function = symbol.section != 0 && symbol.info & 0xf == STT_FUNC;
        is_function && wire::WATCHED.contains(&symbol.name)
    };
    table.into_iter().flat_map(|table| elf.symbols(table)).filter(ours)
}

/// A file as the loader will have it in memory, at the addresses that it says itself.
struct File<'f> {
    elf: &'f Elf<'static>,
    /// Words that the loader fills, by place.
    relative: OnceCell<Vec<(u64, u64)>>,
}

impl File<'_> {
    /// What the loader writes at an address, if it writes there.
    fn relocated(&self, address: u64) -> Option<u64> {
        let words = self.relative.get_or_init(|| {
            let mut words: Vec<(u64, u64)> = self.elf.relative().collect();
            words.sort_unstable();
            words
        });
        let at = words.binary_search_by_key(&address, |(place, _)| *place).ok()?;
        words.get(at).map(|(_, value)| *value)
    }
}

impl Image for File<'_> {
    fn code(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let code = self.elf.segments.iter().filter(|segment| segment.executable());
        code.map(|segment| (segment.address, self.elf.bytes_from(segment.address)))
    }

    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        if let (Ok(word), Some(value)) =
            (<&mut [u8; 8]>::try_from(&mut *into), self.relocated(address))
        {
            *word = value.to_le_bytes();
            return true;
        }
        let bytes = self.elf.bytes_from(address).get(..into.len());
        bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
    }
}

/// What is around the functions of a file.
struct Around<'f> {
    file: &'f File<'f>,
    table: &'f Table<'static>,
}

impl Surroundings for Around<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        Image::read(self.file, address, into)
    }

    fn piece(&self, address: u64) -> Option<Piece<'_>> {
        let (range, part) = self.table.piece(address)?;
        let len = usize::try_from(range.end - range.start).ok()?;
        let code = self.file.elf.bytes_from(range.start).get(..len)?;
        Some(Piece { address: range.start, code, part })
    }
}
