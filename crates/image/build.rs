//! Links the image without start files and without libraries; position independent. Nothing in it
//! calls its functions: whoever puts it into a process does, by their names (`wire::image`).
fn main() {
    for argument in ["-nostartfiles", "-nostdlib", "-static-pie", "-Wl,--no-undefined"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    for name in ["maps", "start", "arm", "disarm", "written", "owner", "early"] {
        println!("cargo::rustc-link-arg-bins=-Wl,-u,trapline_{name}");
    }
    println!("cargo::rustc-link-arg-bins=-Wl,-e,trapline_start");
    println!("cargo::rerun-if-changed=build.rs");
}
