//! The crate's own sources, built for a modelled machine.

fn main() {
    println!("cargo::rustc-cfg=simulated");
    println!("cargo::rerun-if-changed=../build.rs");
}
