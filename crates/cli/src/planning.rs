//! How functions are probed: decided from the file that they are in, once for all processes of a
//! run.

use crate::select::Function;
use crate::symbols::elf::{Elf, RawSymbol, SHT_DYNSYM, SHT_SYMTAB};
use crate::symbols::go::{self, GoFunction, Origin};
use crate::symbols::object::Object;
use crate::symbols::table::STT_FUNC;
use patch::{Catalogue, Convention, Decision, Image, Options, Refusal, branches_elsewhere};
use std::cell::OnceCell;
use std::os::unix::ffi::OsStrExt as _;
use wire::hook;

/// Bytes behind a function that an agent probes for itself that may be padding: the planner looks
/// whether they are.
const AFTER_WATCHED: u64 = 15;

/// What is decided for each of some functions of an object, in their order; `runs`: for processes
/// that run already.
pub(crate) fn decide(object: &Object, functions: &[Function], runs: bool) -> Vec<Decision> {
    let elf = &object.elf;
    let mut decisions = vec![Err(Refusal::Empty); functions.len()];
    let inside = functions.iter().enumerate().filter_map(|(i, f)| Some((i, code(elf, f)?)));
    let (places, code): (Vec<usize>, Vec<patch::Function<'_>>) = inside.unzip();
    for (place, decision) in places.into_iter().zip(decide_all(elf, &code, runs)) {
        decisions[place] = decision;
    }
    decisions
}

/// The bytes by which agents probe these functions, and those that they need themselves; `runs`: in
/// processes that run already.
pub(crate) fn catalogue(object: &Object, functions: &[Function], runs: bool) -> Catalogue {
    let elf = &object.elf;
    let mut all: Vec<patch::Function<'static>> =
        functions.iter().filter_map(|f| code(elf, f)).collect();
    all.extend(
        watched(object).map(|symbol| bytes(elf, symbol.address, symbol.size, AFTER_WATCHED, 0)),
    );
    all.sort_unstable_by_key(|function| (function.address, function.site));
    all.dedup_by_key(|function| (function.address, function.site));
    let mut catalogue = Catalogue::default();
    for (function, decision) in all.iter().zip(decide_all(elf, &all, runs)) {
        catalogue.add(function.address, function.site, &decision);
    }
    catalogue
}

fn decide_all(
    elf: &Elf<'static>,
    functions: &[patch::Function<'static>],
    runs: bool,
) -> Vec<Decision> {
    let file = File { elf, relative: OnceCell::new() };
    let branch_targets = branches_elsewhere(functions, |_| true, &file);
    let options = Options { branch_targets: &branch_targets, ..Options::default() };
    let gos = go::functions(elf);
    let decide = |function: &patch::Function<'_>| {
        let at = gos.binary_search_by_key(&function.address, |go| go.address).ok();
        match at.map(|at| &gos[at]) {
            Some(go) => decide_go(go, function, Options { put_aside: runs, ..options }),
            None => patch::plan(function, &options),
        }
    };
    functions.iter().map(decide).collect()
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
            let put_aside = options.put_aside && go.preempted;
            let convention = Convention::Go;
            patch::plan(function, &Options { convention, put_aside, ..options })
        }
    }
}

/// A function's bytes in the file. `None`: the place that is to be probed is not in it.
fn code(elf: &Elf<'static>, function: &Function) -> Option<patch::Function<'static>> {
    let site = u32::try_from(function.offset).ok()?;
    Some(bytes(elf, function.address, function.size, function.padding, site))
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
