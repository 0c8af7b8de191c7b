//! Symbols of the system's own programs, and of files that were cut and changed.

use super::elf::{Elf, Unreadable};
use super::libraries::{Environment, closure};
use super::object::Object;
use super::table::{SymbolKind, Table};
use super::unwind::Entered;
use std::path::Path;

fn open(path: &str) -> Object {
    Object::open(Path::new(path)).unwrap().unwrap()
}

fn libc() -> Object {
    closure(&open("/bin/true"), &Environment::default())
        .into_iter()
        .find(|object| object.name() == "libc.so.6")
        .expect("/bin/true needs libc")
}

#[test]
fn libc_has_malloc_with_its_size_and_the_better_name_first() {
    let libc = libc();
    let table = libc.table();
    let site = table
        .sites()
        .find(|site| site.iter().any(|symbol| symbol.name == "malloc"))
        .expect("libc has malloc");
    assert_eq!(site[0].name, "malloc");
    assert_eq!(site[0].kind, SymbolKind::Function);
    assert!((16..4096).contains(&table.size(site)), "{}", table.size(site));
    assert_eq!(table.entered(site[0].address), Entered::Called);
    assert!(site.iter().all(|symbol| symbol.address == site[0].address));
}

#[test]
fn an_indirect_function_is_known_as_one() {
    let libc = libc();
    let site = libc
        .table()
        .sites()
        .find(|site| site.iter().any(|symbol| symbol.name == "strlen"))
        .expect("libc has strlen");
    assert_eq!(site[0].kind, SymbolKind::Indirect);
}

#[test]
fn a_stripped_program_has_functions_without_names() {
    let object = open("/bin/true");
    let unnamed = object.table().unnamed();
    assert!(unnamed.len() > 10, "{}", unnamed.len());
    assert!(
        unnamed.iter().all(|frame| frame.start < frame.end && object.elf.executable(frame.start))
    );
    assert!(unnamed.windows(2).all(|pair| pair[0].start < pair[1].start));
    assert!(
        unnamed.iter().filter(|frame| frame.entered == Entered::Called).count() * 2 > unnamed.len()
    );
}

#[test]
fn padding_ends_where_something_begins() {
    let libc = libc();
    let table = libc.table();
    let starts: Vec<u64> = table.sites().map(|site| site[0].address).collect();
    for site in table.sites().filter(|site| site[0].kind == SymbolKind::Function).take(500) {
        let end = site[0].address + table.size(site);
        let behind = end..end + table.padding(end);
        assert!(
            !starts.iter().any(|start| *start != end && behind.contains(start)),
            "{}",
            site[0].name
        );
    }
}

#[test]
fn without_a_section_table_the_unwind_table_is_still_found() {
    let mut data = std::fs::read("/bin/true").unwrap();
    let with = Table::new(Elf::parse(&data).unwrap(), &[]).unnamed().len();
    data[40..48].fill(0);
    data[58..64].fill(0);
    let elf = Elf::parse(&data).unwrap();
    assert!(elf.sections.is_empty());
    let without = Table::new(elf, &[]).unnamed().len();
    assert!(without >= with && with > 0, "{without} against {with}");
}

#[test]
fn what_is_no_program_is_named() {
    let mut program = std::fs::read("/bin/true").unwrap();
    assert_eq!(Elf::parse(b"#!/bin/sh\n").unwrap_err(), Unreadable::NotElf);
    assert_eq!(Elf::parse(b"").unwrap_err(), Unreadable::NotElf);
    assert!(matches!(Elf::parse(&program[..40]).unwrap_err(), Unreadable::Corrupt(_)));
    assert!(matches!(
        Elf::parse(&program[..program.len() / 2]).unwrap().check_loadable().unwrap_err(),
        Unreadable::Corrupt(_)
    ));
    program[18] = 183;
    assert_eq!(Elf::parse(&program).unwrap_err(), Unreadable::Machine(183));
    program[4] = 1;
    assert_eq!(Elf::parse(&program).unwrap_err(), Unreadable::Class32);
}

/// Reads all that the command line reads of a file.
fn read_everything(data: &[u8]) -> usize {
    let Ok(elf) = Elf::parse(data) else { return 0 };
    let _ = (elf.check_loadable(), elf.interpreter(), elf.build_id(), elf.shadow_stack());
    let dynamic = elf.dynamic();
    let _ = elf.dynamic_strings(&dynamic);
    let _ = super::debug_files::packed(&elf);
    let table = Table::new(elf, &[]);
    let mut functions = 0;
    for site in table.sites() {
        let size = table.size(site);
        let _ =
            (table.padding(site[0].address.saturating_add(size)), table.entered(site[0].address));
        functions += 1;
    }
    functions + table.unnamed().len()
}

/// splitmix64: the same bytes each time.
pub(super) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[test]
fn truncated_files_are_survived() {
    let data = std::fs::read("/bin/true").unwrap();
    for cut in (0..data.len()).step_by(997).chain(0..200) {
        read_everything(&data[..cut]);
    }
    assert!(read_everything(&data) > 0);
}

#[test]
fn changed_files_are_survived() {
    let data = std::fs::read("/bin/true").unwrap();
    let mut state = 7;
    for round in 0..1500 {
        let mut changed = data.clone();
        for _ in 0..1 + random(&mut state) % 8 {
            // Half of the changes hit the headers, which lead everywhere else.
            let area = match round % 4 {
                0 => 0..64,
                1 => 64..1024,
                2 => data.len() - 4096..data.len(),
                _ => 0..data.len(),
            };
            let at = area.start + random(&mut state) as usize % area.len();
            changed[at] = match random(&mut state) % 4 {
                0 => 0xff,
                1 => 0,
                _ => random(&mut state) as u8,
            };
        }
        read_everything(&changed);
    }
}

#[test]
fn libraries_are_found_as_the_loader_finds_them() {
    let names: Vec<String> = closure(&open("/bin/sh"), &Environment::default())
        .iter()
        .map(|object| object.name().to_string())
        .collect();
    assert!(names.iter().any(|name| name == "libc.so.6"), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("ld-linux")), "{names:?}");
}
