//! Links the shared object so that its constructor runs before those of all others: functions that
//! they call are counted, too.
fn main() {
    println!("cargo::rustc-link-arg-cdylib=-Wl,-z,initfirst");
    println!("cargo::rerun-if-changed=build.rs");
}
