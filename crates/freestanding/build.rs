//! Links the program without start files and without libraries; position independent, as an image
//! that is put into any process has to be.
fn main() {
    for argument in ["-nostartfiles", "-nostdlib", "-static-pie", "-Wl,--no-undefined"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
