//! The functions of one object: symbols of all its tables, aliases merged, what Go's runtime knows
//! of a program, and unwind entries where there are no symbols.

use super::elf::{Elf, RawSymbol, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB};
use super::go::{self, GoFunction};
use super::parts::only_jumped_to;
use super::unwind::{Entered, Frame, frames};
use crate::names::is_cold_part;
use std::cell::OnceCell;
use std::collections::HashSet;
use std::ops::Range;

const STT_NOTYPE: u8 = 0;
pub(crate) const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;
const STB_LOCAL: u8 = 0;
const STB_WEAK: u8 = 2;
const SHN_ABS: u16 = 0xfff1;

/// Bytes behind a function that are offered as padding.
const MOST_PADDING: u64 = 64;
/// Functions that are looked at for one address, where they lie in one another.
const MOST_NESTED: usize = 64;

/// A symbol that stands for code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol<'a> {
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) name: &'a str,
    pub(crate) kind: SymbolKind,
    /// The lower the better is the name.
    rank: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SymbolKind {
    /// The function behind it is chosen when the program starts. First, since it decides for all
    /// names of its address.
    Indirect,
    Function,
    /// A place in the code: ends what is before it, and no more.
    Label,
}

/// All code symbols of an object, by address.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    elf: Elf<'a>,
    symbols: Vec<Symbol<'a>>,
    frames: OnceCell<Vec<Frame>>,
    spans: OnceCell<Vec<Span>>,
}

/// The bytes of the function that the symbols of one address name.
#[derive(Debug)]
struct Span {
    start: u64,
    end: u64,
    /// The furthest end of this one and all before it: nothing before it goes on behind that.
    reach: u64,
    /// The first of its symbols.
    first: usize,
}

impl<'a> Table<'a> {
    /// Reads the symbol tables of `elf` and of the files that hold more symbols of it.
    pub(crate) fn new(elf: Elf<'a>, more: &[Elf<'a>]) -> Self {
        let mut symbols: Vec<Symbol<'a>> = Vec::new();
        for file in std::iter::once(&elf).chain(more) {
            for table in [SHT_SYMTAB, SHT_DYNSYM] {
                symbols.extend(file.symbols(table).filter_map(|raw| code_symbol(&elf, &raw)));
            }
        }
        symbols.retain(|symbol| !go::is_no_code(symbol.name));
        let named: HashSet<u64> = symbols.iter().map(|symbol| symbol.address).collect();
        symbols.extend(
            go::functions(&elf)
                .iter()
                .filter(|function| !named.contains(&function.address))
                .map(go_symbol),
        );
        let lookups: Vec<Range<u64>> = elf
            .sections
            .iter()
            .filter(|s| s.name.starts_with(".plt"))
            .map(|s| s.address..s.address.saturating_add(s.size))
            .collect();
        symbols.retain(|symbol| !lookups.iter().any(|plt| plt.contains(&symbol.address)));
        symbols.sort_unstable_by(|a, b| {
            (a.address, a.kind as u8, a.rank, a.name).cmp(&(
                b.address,
                b.kind as u8,
                b.rank,
                b.name,
            ))
        });
        symbols.dedup_by(|a, b| a.address == b.address && a.name == b.name);
        Self { elf, symbols, frames: OnceCell::new(), spans: OnceCell::new() }
    }

    /// The symbols, those of one address together, best name first.
    pub(crate) fn sites(&self) -> impl Iterator<Item = &[Symbol<'a>]> {
        self.symbols.chunk_by(|a, b| a.address == b.address)
    }

    /// The best name of the function that `address` lies in; the innermost, where one lies in
    /// another.
    pub(crate) fn name_at(&self, address: u64) -> Option<&'a str> {
        self.span_at(address).map(|span| self.symbols[span.first].name)
    }

    fn span_at(&self, address: u64) -> Option<&Span> {
        let spans = self.spans.get_or_init(|| self.spans());
        let before = spans.partition_point(|span| span.start <= address);
        let reaching = spans[..before].iter().rev().take_while(|span| span.reach > address);
        reaching.take(MOST_NESTED).find(|span| span.end > address)
    }

    /// Where the nameless function begins that `address` lies in, from the unwind table.
    pub(crate) fn unnamed_at(&self, address: u64) -> Option<u64> {
        let frame = self.frame_at(address)?;
        (self.elf.executable(address) && !self.lookups().any(|plt| plt.contains(&address)))
            .then_some(frame.start)
    }

    fn spans(&self) -> Vec<Span> {
        let (mut spans, mut first, mut reach) = (Vec::new(), 0, 0);
        for site in self.sites() {
            if site[0].kind != SymbolKind::Label {
                let start = site[0].address;
                let size = site.iter().map(|symbol| symbol.size).max().filter(|&size| size > 0);
                let end = start.saturating_add(size.unwrap_or_else(|| self.size(site)));
                reach = end.max(reach);
                spans.push(Span { start, end, reach, first });
            }
            first += site.len();
        }
        spans
    }

    /// The procedure linkage tables.
    fn lookups(&self) -> impl Iterator<Item = Range<u64>> + use<'_> {
        let sections = self.elf.sections.iter().filter(|section| section.name.starts_with(".plt"));
        sections.map(|section| section.address..section.address.saturating_add(section.size))
    }

    /// Whether any symbol names a function.
    pub(crate) fn has_names(&self) -> bool {
        self.symbols.iter().any(|symbol| symbol.kind == SymbolKind::Function)
    }

    /// Unwind entries that no symbol covers. Parts of functions are [`Entered::Jumped`], however
    /// they look.
    pub(crate) fn unnamed(&self) -> Vec<Frame> {
        let lookups: Vec<Range<u64>> = self.lookups().collect();
        let mut covered = 0;
        let mut sites = self.sites().peekable();
        let mut unnamed = Vec::new();
        for frame in self.frames() {
            while let Some(site) = sites.next_if(|site| site[0].address <= frame.start) {
                if site[0].kind != SymbolKind::Label {
                    covered = covered.max(site[0].address + self.size(site).max(1));
                }
            }
            if frame.start >= covered
                && self.elf.executable(frame.start)
                && !lookups.iter().any(|plt| plt.contains(&frame.start))
            {
                unnamed.push(*frame);
            }
        }
        if !unnamed.is_empty() {
            let parts = only_jumped_to(&self.elf, self.frames());
            unnamed
                .iter_mut()
                .filter(|frame| parts.contains(frame.start))
                .for_each(|frame| frame.entered = Entered::Jumped);
        }
        unnamed
    }

    /// The bounds of the function, or the part of one, that `address` lies in, and whether it is
    /// known to be a part.
    pub(crate) fn piece(&self, address: u64) -> Option<(Range<u64>, bool)> {
        if let Some(span) = self.span_at(address) {
            return Some((span.start..span.end, is_cold_part(self.symbols[span.first].name)));
        }
        let frame = self.frame_at(address)?;
        let looks_up = self.lookups().any(|plt| plt.contains(&address));
        (!looks_up).then_some((frame.start..frame.end, frame.entered == Entered::Jumped))
    }

    /// Bytes of the function that the symbols of one address name.
    pub(crate) fn size(&self, site: &[Symbol<'a>]) -> u64 {
        let address = site[0].address;
        let room = self.elf.bytes_from(address).len() as u64;
        let size = site.iter().map(|symbol| symbol.size).max().unwrap_or(0);
        if size > 0 {
            return size.min(room);
        }
        match self.frame_at(address) {
            Some(frame) => frame.end - address,
            None => self.next_start(address).map_or(room, |next| next - address),
        }
        .min(room)
    }

    /// Bytes behind `end` that belong to no function.
    pub(crate) fn padding(&self, end: u64) -> u64 {
        let room = (self.elf.bytes_from(end).len() as u64).min(MOST_PADDING);
        if self
            .frames()
            .partition_point(|frame| frame.start < end)
            .checked_sub(1)
            .is_some_and(|before| self.frames()[before].end > end)
        {
            return 0;
        }
        self.next_start(end.wrapping_sub(1)).map_or(room, |next| (next - end).min(room))
    }

    /// How control comes to `address`.
    pub(crate) fn entered(&self, address: u64) -> Entered {
        match self.frame_at(address) {
            Some(frame) if frame.start == address => frame.entered,
            Some(_) => Entered::Jumped,
            // Assembly without unwind information: a function symbol is all there is to go by.
            None => Entered::Called,
        }
    }

    fn frame_at(&self, address: u64) -> Option<Frame> {
        let frames = self.frames();
        let at = frames.partition_point(|frame| frame.start <= address).checked_sub(1)?;
        Some(frames[at]).filter(|frame| address < frame.end)
    }

    /// The first symbol or unwind entry behind `address`.
    fn next_start(&self, address: u64) -> Option<u64> {
        let symbol = self
            .symbols
            .get(self.symbols.partition_point(|s| s.address <= address))
            .map(|s| s.address);
        let frame = self
            .frames()
            .get(self.frames().partition_point(|f| f.start <= address))
            .map(|f| f.start);
        match (symbol, frame) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// All unwind entries.
    pub(crate) fn frames(&self) -> &[Frame] {
        self.frames.get_or_init(|| frames(&self.elf))
    }
}

fn code_symbol<'a>(elf: &Elf<'_>, raw: &RawSymbol<'a>) -> Option<Symbol<'a>> {
    let kind = match raw.info & 15 {
        STT_FUNC => SymbolKind::Function,
        STT_GNU_IFUNC => SymbolKind::Indirect,
        STT_NOTYPE => SymbolKind::Label,
        _ => return None,
    };
    if raw.section == SHN_UNDEF
        || raw.section == SHN_ABS
        || raw.name.is_empty()
        || !elf.executable(raw.address)
    {
        return None;
    }
    Some(Symbol { address: raw.address, size: raw.size, name: raw.name, kind, rank: rank(raw) })
}

/// A function that only the table of Go's runtime names.
fn go_symbol<'a>(function: &GoFunction<'a>) -> Symbol<'a> {
    let GoFunction { address, size, name, .. } = *function;
    Symbol { address, size, name, kind: SymbolKind::Function, rank: 0 }
}

/// Global names without leading underscores are the ones people know.
fn rank(raw: &RawSymbol<'_>) -> u8 {
    let binding = match raw.info >> 4 {
        STB_LOCAL => 2,
        STB_WEAK => 1,
        _ => 0,
    };
    let mangled = raw.name.starts_with("_Z") || raw.name.starts_with("_R");
    let underscores =
        if mangled { 0 } else { raw.name.bytes().take_while(|&b| b == b'_').count().min(8) as u8 };
    let hidden = u8::from(raw.visibility != 0);
    underscores * 8 + binding * 2 + hidden
}
