//! The functions that debug information tells of: their names, and what is inlined in them.

use crate::names;
use crate::text::visible;
use gimli::{Attribute, AttributeValue, EndianSlice, LittleEndian, UnitRef};
use gimli::{DebugInfoOffset, constants};
use std::borrow::Cow;
use std::collections::HashMap;

/// References from a function or a type to its declaration that are followed.
const MOST_REFERENCES: usize = 4;
/// Namespaces and types, each in the next, that a name is made of.
const MOST_SCOPES: usize = 32;

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Text<'a> = Option<Cow<'a, str>>;

/// A function's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// The symbol that it has, or would have.
    Linker(&'a str),
    /// As in the source, with what it is in: no other file may use it, and so it has no symbol's.
    /// Nothing tells its parameters.
    Source(Cow<'a, str>),
}

impl Name<'_> {
    pub(super) fn display(&self) -> String {
        match self {
            Name::Linker(raw) => names::display(raw),
            Name::Source(name) => visible(name).into_owned(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Function,
    Namespace,
    /// One that can have functions in it.
    Type,
}

/// A function of the debug information, or what functions can be in.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    kind: Kind,
    /// The linker's, or the source's.
    name: Option<Cow<'a, str>>,
    /// Whether `name` is the linker's.
    linked: bool,
    /// Whether other files may use it.
    external: bool,
    /// What it is an instance or the definition of.
    of: Option<usize>,
    /// What it is in.
    within: Option<usize>,
    /// Whether it stands for all its instances and has no code.
    pub(super) pattern: bool,
}

/// All that is of interest, by offsets in the debug information.
#[derive(Debug, Default)]
pub(super) struct Index<'a> {
    pub(super) entries: HashMap<usize, Entry<'a>>,
    /// What is inlined, and the function that it is in.
    pub(super) places: Vec<(usize, usize)>,
}

impl<'a> Index<'a> {
    /// Adds the functions of a unit and what is inlined in them.
    pub(super) fn read(&mut self, unit: UnitRef<'_, Slice<'a>>) -> gimli::Result<()> {
        let mut entries = unit.entries_raw(None)?;
        // What is around an entry, with the depths.
        let mut around: Vec<(isize, Kind, usize)> = Vec::new();
        while !entries.is_empty() {
            let depth = entries.next_depth();
            let at = entries.next_offset();
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            while around.last().is_some_and(|(outer, ..)| *outer >= depth) {
                around.pop();
            }
            let kind = match abbreviation.tag() {
                constants::DW_TAG_inlined_subroutine => None,
                constants::DW_TAG_subprogram => Some(Kind::Function),
                constants::DW_TAG_namespace => Some(Kind::Namespace),
                constants::DW_TAG_structure_type
                | constants::DW_TAG_class_type
                | constants::DW_TAG_union_type
                | constants::DW_TAG_enumeration_type => Some(Kind::Type),
                _ => {
                    entries.skip_attributes(abbreviation.attributes())?;
                    continue;
                }
            };
            let within = around.last().map(|(.., at)| *at);
            let mut entry = Entry::new(kind.unwrap_or(Kind::Function), within);
            for attribute in abbreviation.attributes() {
                let attribute = entries.read_attribute(*attribute)?;
                entry.note(unit, &attribute);
            }
            if let Some(kind) = kind {
                let Some(DebugInfoOffset(at)) = at.to_debug_info_offset(&unit.header) else {
                    continue;
                };
                around.push((depth, kind, at));
                self.entries.insert(at, entry);
            } else if let Some(of) = entry.of
                && let Some((_, Kind::Function, within)) = around.last()
            {
                self.places.push((of, *within));
            }
        }
        Ok(())
    }

    /// An entry and what it is an instance or the definition of, in this order.
    fn origins(&self, at: usize) -> impl Iterator<Item = &Entry<'a>> {
        let next = |entry: &&Entry<'a>| self.entries.get(&entry.of?);
        std::iter::successors(self.entries.get(&at), next).take(MOST_REFERENCES)
    }

    /// The name of a function: the linker's, if it or what it is an instance of has one.
    pub(super) fn name(&self, at: usize) -> Option<Name<'_>> {
        if let Some(linked) = self.origins(at).find(|entry| entry.linked) {
            return linked.name.as_deref().map(Name::Linker);
        }
        // A definition that stands elsewhere leaves the name, and where it belongs, to the
        // declaration.
        let declared = self.origins(at).filter(|entry| entry.name.is_some()).last()?;
        let name = declared.name.as_deref()?;
        let outer = declared.within.and_then(|outer| self.entries.get(&outer));
        let bare = match outer.map(|outer| outer.kind) {
            // A function of C in a function.
            None | Some(Kind::Function) => true,
            // One of C++ that is for C has its own name for a symbol, and other files see it.
            Some(Kind::Namespace) => declared.external,
            Some(Kind::Type) => false,
        };
        if bare {
            return Some(Name::Linker(name));
        }
        let mut scopes = self.scopes(declared.within);
        scopes.push(name.into());
        Some(Name::Source(scopes.join("::").into()))
    }

    /// The names of what is around something that is in `within`, the outermost first.
    fn scopes(&self, within: Option<usize>) -> Vec<Cow<'_, str>> {
        let mut scopes = Vec::new();
        let mut next = within;
        while let Some(at) = next
            && scopes.len() < MOST_SCOPES
        {
            let Some(entry) = self.origins(at).last() else { break };
            next = entry.within;
            scopes.push(match (entry.kind, entry.name.as_deref()) {
                (Kind::Function, Some(name)) => {
                    next = next.filter(|_| !entry.linked);
                    if entry.linked { names::display(name).into() } else { name.into() }
                }
                (_, Some(name)) => name.into(),
                (Kind::Namespace, None) => "(anonymous namespace)".into(),
                (_, None) => "{unnamed}".into(),
            });
        }
        scopes.reverse();
        scopes
    }
}

impl<'a> Entry<'a> {
    fn new(kind: Kind, within: Option<usize>) -> Self {
        let (linked, external, pattern) = (false, false, false);
        Self { kind, name: None, linked, external, of: None, within, pattern }
    }

    fn note(&mut self, unit: UnitRef<'_, Slice<'a>>, attribute: &Attribute<Slice<'a>>) {
        let value = attribute.value();
        match attribute.name() {
            constants::DW_AT_linkage_name | constants::DW_AT_MIPS_linkage_name => {
                // A type's is not a symbol's.
                let name = text(unit, value).filter(|_| self.kind == Kind::Function);
                self.linked |= name.is_some();
                self.name = name.or(self.name.take());
            }
            constants::DW_AT_name if !self.linked => self.name = text(unit, value),
            constants::DW_AT_abstract_origin | constants::DW_AT_specification => {
                self.of = match value {
                    AttributeValue::UnitRef(at) => at.to_debug_info_offset(&unit.header),
                    AttributeValue::DebugInfoRef(at) => Some(at),
                    _ => None,
                }
                .map(|DebugInfoOffset(at)| at);
            }
            constants::DW_AT_external => self.external = value == AttributeValue::Flag(true),
            constants::DW_AT_inline => self.pattern = true,
            _ => {}
        }
    }
}

/// What an attribute's value spells.
fn text<'a>(unit: UnitRef<'_, Slice<'a>>, value: AttributeValue<Slice<'a>>) -> Text<'a> {
    Some(unit.attr_string(value).ok()?.to_string_lossy())
}
