//! Builds the program, looks at what it is made of, and runs it.
#![cfg(target_arch = "x86_64")]

use object::{Object, ObjectSection, ObjectSymbol};
use patch::{Catalogue, Function, Options};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What ends well, or what it said.
fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it can be run");
    let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    stdout
}

fn image() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // Not the directory of the build that goes on, since that is locked: that of the command line's
    // build script, where the image was made of the same crates.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("agent");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--quiet", "--package", "trapline-freestanding"]);
    cargo.args(["--features", "image", "--profile", "image", "--target-dir"]).arg(&target);
    cargo.current_dir(workspace).env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    output(&mut cargo);
    target.join("image/freestanding")
}

/// Decides for the functions that the program wants to be probed, as the command line does; for one
/// of them as if its bytes were others.
fn decide(image: &Path) -> Vec<u8> {
    let bytes = std::fs::read(image).expect("just built");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let mut catalogue = Catalogue::default();
    let mut refused = Vec::new();
    for symbol in file.symbols() {
        let name = symbol.name().unwrap_or_default();
        if !name.starts_with("probe_") || name == "probe_unknown" {
            continue;
        }
        let index = symbol.section_index().expect("defined");
        let section = file.section_by_index(index).expect("there");
        let text = section.data().expect("code");
        let (start, len) =
            ((symbol.address() - section.address()) as usize, symbol.size() as usize);
        let mut code = text[start..start + len].to_vec();
        if name == "probe_other" {
            code[8] ^= 1;
        }
        let behind = text[start + len..].iter().take_while(|byte| **byte == 0xcc).count();
        let after = &text[start + len..start + len + behind];
        let function = Function { address: symbol.address(), code: &code, after, site: 0 };
        let decision = patch::plan(&function, &Options::default());
        let jump = matches!(&decision, Ok(p) if matches!(p.method, patch::Method::Detour(_)));
        if !jump {
            refused.push(name.to_owned());
        }
        catalogue.add(symbol.address(), 0, &decision);
    }
    refused.retain(|name| name != "probe_crowd");
    assert_eq!(refused, ["probe_crowded"]);
    catalogue.bytes().to_vec()
}

#[test]
fn a_program_without_a_c_library() {
    let image = image();
    let asked = |tool: &str, how: &str| output(Command::new(tool).arg(how).arg(&image));

    assert_eq!(asked("nm", "-u"), "", "undefined symbols");
    let dynamic = asked("readelf", "-dW");
    assert!(dynamic.contains("RELA"), "{dynamic}");
    assert!(!dynamic.contains("NEEDED"), "{dynamic}");
    let segments = asked("readelf", "-lW");
    for none in ["INTERP", "TLS"] {
        assert!(!segments.contains(none), "{segments}");
    }
    let relocations = asked("readelf", "-rW");
    for line in relocations.lines().filter(|line| line.contains("R_X86_64")) {
        assert!(line.contains("R_X86_64_RELATIVE"), "{line}");
    }
    let decisions = Path::new(env!("CARGO_TARGET_TMPDIR")).join("decisions");
    std::fs::write(&decisions, decide(&image)).expect("a file");
    // Without restartable sequences, with them, and where no memory becomes executable.
    assert_eq!(output(Command::new(&image).arg("bare").arg(&decisions)), "ok\n");
    assert_eq!(output(Command::new(&image).arg("area").arg(&decisions)), "ok\n");
    let sealed = output(Command::new(&image).arg("sealed").arg(&decisions));
    assert!(["ok\n", "this kernel cannot seal\n"].contains(&&*sealed), "{sealed}");
}
