//! Files that are no images.

use super::common::image_file;
use inject::{Image, ImageError};

#[test]
fn the_tests_image() {
    let image = Image::parse(image_file()).expect("an image");
    assert!(image.size().is_multiple_of(4096) && image.symbol("image_calculate").is_some());
    assert_eq!(image.symbol("image_stub").map(|symbol| symbol.size), Some(64));
    assert_eq!(image.symbol("image_nowhere"), None);
}

#[test]
fn every_truncation_is_refused_or_lacks_only_symbols() {
    let whole = image_file();
    for length in 0..whole.len() {
        if let Ok(image) = Image::parse(&whole[..length]) {
            panic!("{length} of {} bytes: {} bytes of memory", whole.len(), image.size());
        }
    }
}

/// Every byte of the headers and tables, with every bit changed: no panic, no endless memory.
#[test]
fn damaged_files_are_refused_or_harmless() {
    let whole = image_file();
    let tables = (0..0x400).chain(0x2f00..0x3040.min(whole.len()));
    let mut refused = 0;
    for at in tables.chain(whole.len() - 0x600..whole.len()) {
        for value in [0, 1, 0x7f, 0x80, 0xff, whole[at] ^ 1, whole[at] ^ 0x40] {
            let mut damaged = whole.to_vec();
            damaged[at] = value;
            match Image::parse(&damaged) {
                Ok(image) => assert!(image.size() <= Image::LIMIT),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn programs_and_libraries_say_what_is_wrong() {
    let parse = |path: &std::path::Path| Image::parse(&std::fs::read(path).expect("a file"));
    let own = parse(&std::env::current_exe().expect("this test"));
    assert!(matches!(own, Err(ImageError::Wants(_))), "{own:?}");
    use super::common::{Kind, program};
    let fixed = parse(&program("odd", Kind::Static).expect("a C compiler"));
    assert!(matches!(fixed, Err(ImageError::Fixed | ImageError::Wants(_))), "{fixed:?}");
    let threads = parse(&program("odd", Kind::StaticPie).expect("a C compiler"));
    assert!(matches!(threads, Err(ImageError::Wants("thread-local storage"))), "{threads:?}");
    assert!(matches!(Image::parse(b"#!/bin/sh\n"), Err(ImageError::Damaged(_))));
}
