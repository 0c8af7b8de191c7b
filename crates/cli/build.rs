//! Builds the agent, so that the one executable carries it: a nested `cargo build` with a profile, flags and a target directory of its own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates that the agent is made of.
const CRATES: &[&str] = &["agent", "recorder", "unwind", "stackdepot", "uprobe", "patch", "wire", "percpu", "objpool", "reclaim"];

/// Variables of cargo that the user sets for every build; the others describe the build that goes on around this one, or would change what is built.
const KEPT: &[&str] = &["CARGO", "CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_INCREMENTAL"];
const KEPT_PREFIXES: &[&str] = &["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let workspace = here.ancestors().nth(2).expect("crates/cli lies in the workspace").to_path_buf();
    for name in CRATES {
        println!("cargo:rerun-if-changed={}", workspace.join("crates").join(name).join("src").display());
        println!("cargo:rerun-if-changed={}", workspace.join("crates").join(name).join("Cargo.toml").display());
        let script = workspace.join("crates").join(name).join("build.rs");
        if script.exists() {
            println!("cargo:rerun-if-changed={}", script.display());
        }
    }
    for file in ["Cargo.toml", "Cargo.lock", "crates/cli/build.rs"] {
        println!("cargo:rerun-if-changed={}", workspace.join(file).display());
    }
    let agent = build(&workspace, &target_directory(&out));
    let bytes = fs::read(&agent).unwrap_or_else(|error| panic!("{}: {error}", agent.display()));
    fs::write(out.join("agent.so"), &bytes).expect("OUT_DIR can be written");
    println!("cargo:rustc-env=TRAPLINE_AGENT_HASH={:016x}", fnv(&bytes));
}

/// Builds the shared object and says where it is.
fn build(workspace: &Path, target: &Path) -> PathBuf {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let kept = KEPT.contains(&&*text) || KEPT_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
        if (text.starts_with("CARGO") && !kept)
            || matches!(&*text, "RUSTFLAGS" | "RUSTDOCFLAGS" | "RUSTC_WORKSPACE_WRAPPER" | "RUSTC_BOOTSTRAP" | "CLIPPY_ARGS")
        {
            cargo.env_remove(&name);
        }
    }
    cargo.current_dir(workspace).args(["build", "--package", "trapline-agent", "--profile", "agent", "--target-dir"]).arg(target);
    if workspace.join("Cargo.lock").exists() {
        cargo.arg("--locked");
    }
    let mut directory = target.to_path_buf();
    let (host, wanted) = (env::var("HOST").expect("cargo sets HOST"), env::var("TARGET").expect("cargo sets TARGET"));
    if host != wanted {
        cargo.args(["--target", &wanted]);
        directory.push(&wanted);
    }
    let output = cargo.output().expect("cargo can be run");
    assert!(output.status.success(), "building the agent failed:\n{}", String::from_utf8_lossy(&output.stderr));
    directory.join("agent").join("libtrapline_agent.so")
}

/// `<target>/agent`: not the directory of the build that goes on, since that is locked.
fn target_directory(out: &Path) -> PathBuf {
    // <target>[/<triple>]/<profile>/build/<package>/out
    let build =
        out.ancestors().find(|path| path.file_name().is_some_and(|name| name == "build")).expect("OUT_DIR lies in a build directory");
    let mut target = build.ancestors().nth(2).expect("the build directory lies in a target directory").to_path_buf();
    if target.file_name().is_some_and(|name| name.to_string_lossy() == env::var("TARGET").unwrap_or_default()) {
        target.pop();
    }
    target.join("agent")
}

/// FNV-1a: names the content, and keeps no secret.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
