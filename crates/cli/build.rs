//! Builds what gets into targets, so that the one executable carries it: the agent that is
//! preloaded and the image that is put into running processes, by nested builds with profiles,
//! flags and a target directory of their own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates that the two are made of: those that `agent-source` links to.
const CRATES: &[&str] = &[
    "agent",
    "image",
    "recorder",
    "resident",
    "unwind",
    "stackdepot",
    "uprobe",
    "patch",
    "wire",
    "percpu",
    "sys",
    "objpool",
    "reclaim",
];

/// Variables of cargo that the user sets for every build; the others describe the build that goes
/// on around this one, or would change what is built.
const KEPT: &[&str] = &["CARGO", "CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_INCREMENTAL"];
const KEPT_PREFIXES: &[&str] =
    &["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let source = workspace(&here).unwrap_or_else(|| unpacked(&here.join("agent-source"), &out));
    let target = target_directory(&out);
    let built = build(&source, &target, "agent", &["--package", "trapline-agent"]);
    let bytes = read(&built.join("libtrapline_agent.so"));
    fs::write(out.join("agent.so"), &bytes).expect("OUT_DIR can be written");
    println!("cargo:rustc-env=TRAPLINE_AGENT_HASH={:016x}", fnv(&bytes));
    // By itself: in one build with the agent its crates would have the standard library in them.
    let image = ["--package", "trapline-image", "--features", "image"];
    let built = build(&source, &target, "image", &image);
    fs::write(out.join("image"), read(&built.join("image"))).expect("OUT_DIR can be written");
}

fn read(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The workspace, where this package is built in it.
fn workspace(here: &Path) -> Option<PathBuf> {
    let workspace = here.ancestors().nth(2)?;
    let crates = workspace.join("crates");
    if !crates.join("agent").join("Cargo.toml").exists() {
        return None;
    }
    for name in CRATES {
        for part in ["src", "Cargo.toml", "build.rs"] {
            let path = crates.join(name).join(part);
            if path.exists() {
                println!("cargo:rerun-if-changed={}", path.display());
            }
        }
    }
    for file in ["Cargo.toml", "Cargo.lock", "crates/cli/build.rs"] {
        println!("cargo:rerun-if-changed={}", workspace.join(file).display());
    }
    Some(workspace.to_path_buf())
}

/// A workspace of the agent's crates, from the sources that a published package carries.
///
/// `agent-source` is made of symbolic links to the other crates, which cargo packs as files. Its
/// manifests have other names there: a folder with a `Cargo.toml` would be left out of the package.
fn unpacked(packed: &Path, out: &Path) -> PathBuf {
    println!("cargo:rerun-if-changed={}", packed.display());
    let source = out.join("agent-source");
    if source.exists() {
        fs::remove_dir_all(&source).expect("OUT_DIR can be written");
    }
    unpack(packed, &source);
    source
}

fn unpack(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("OUT_DIR can be written");
    let entries = fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    for entry in entries {
        let entry = entry.expect("a folder of the package can be read");
        let name = entry.file_name();
        let to = to.join(match name.to_str() {
            Some("workspace.toml" | "package.toml") => "Cargo.toml".as_ref(),
            Some("workspace.lock") => "Cargo.lock".as_ref(),
            _ => name.as_os_str(),
        });
        if entry.path().is_dir() {
            unpack(&entry.path(), &to);
        } else if name == "package.toml" {
            let text = fs::read_to_string(entry.path()).expect("a manifest of the package");
            fs::write(to, library_only(&text)).expect("OUT_DIR can be written");
        } else {
            fs::copy(entry.path(), to).expect("OUT_DIR can be written");
        }
    }
}

/// Builds a package and says where the result is.
fn build(source: &Path, target: &Path, profile: &str, package: &[&str]) -> PathBuf {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let kept =
            KEPT.contains(&&*text) || KEPT_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
        if (text.starts_with("CARGO") && !kept)
            || matches!(
                &*text,
                "RUSTFLAGS"
                    | "RUSTDOCFLAGS"
                    | "RUSTC_WORKSPACE_WRAPPER"
                    | "RUSTC_BOOTSTRAP"
                    | "CLIPPY_ARGS"
            )
        {
            cargo.env_remove(&name);
        }
    }
    cargo.current_dir(source);
    cargo.arg("build").args(package).args(["--profile", profile, "--target-dir"]).arg(target);
    // Unpacked sources are a part of the workspace, so the lock file has more than they need.
    if source.join("crates").join("cli").exists() {
        cargo.arg("--locked");
    }
    let mut directory = target.to_path_buf();
    let (host, wanted) = (
        env::var("HOST").expect("cargo sets HOST"),
        env::var("TARGET").expect("cargo sets TARGET"),
    );
    if host != wanted {
        cargo.args(["--target", &wanted]);
        directory.push(&wanted);
    }
    let output = cargo.output().expect("cargo can be run");
    assert!(
        output.status.success(),
        "building {} failed:\n{}",
        package[1],
        String::from_utf8_lossy(&output.stderr)
    );
    directory.join(profile)
}

/// `<target>/agent`: not the directory of the build that goes on, since that is locked.
fn target_directory(out: &Path) -> PathBuf {
    // <target>[/<triple>]/<profile>/build/<package>/out
    let build = out
        .ancestors()
        .find(|path| path.file_name().is_some_and(|name| name == "build"))
        .expect("OUT_DIR lies in a build directory");
    let mut target = build
        .ancestors()
        .nth(2)
        .expect("the build directory lies in a target directory")
        .to_path_buf();
    if target
        .file_name()
        .is_some_and(|name| name.to_string_lossy() == env::var("TARGET").unwrap_or_default())
    {
        target.pop();
    }
    target.join("agent")
}

/// FNV-1a: names the content, and keeps no secret.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A manifest without what its tests need: they do not come along.
fn library_only(manifest: &str) -> String {
    let mut kept = true;
    let mut of_library = |line: &&str| {
        if line.starts_with('[') {
            let of_tests = ["[[test]]", "[[bench]]", "[[example]]", "[dev-dependencies"];
            kept = !of_tests.iter().any(|section| line.starts_with(section));
        }
        kept
    };
    manifest.split_inclusive('\n').filter(&mut of_library).collect()
}
