//! Functions that end in a call of something that looks at its caller.

use super::common::Target;
use super::common::process::{program, run, trapline};

/// `find_next` ends in a jump to `dlsym(RTLD_NEXT, ...)`, which finds its library by its return
/// address.
#[test]
fn the_next_symbol() {
    let library = Target::new("runtimes/next_symbol_library.c").shared().named("libnext.so");
    let library = library.flags(&["-foptimize-sibling-calls"]).build();
    let folder = library.parent().expect("it is in one").display().to_string();
    let paths = [format!("-L{folder}"), format!("-Wl,-rpath,{folder}")];
    let flags = ["-fno-builtin", paths[0].as_str(), paths[1].as_str(), "-lnext"];
    let path = Target::new("runtimes/next_symbol.c").flags(&flags).build();
    let bare = run(&mut program(&path), b"");
    assert_eq!((bare.code, bare.stdout.as_str()), (0, "5335\n"));
    let stat: [&[&str]; 3] = [&["find_next"], &["libnext.so:*"], &["work", "toupper", "find_next"]];
    let sink = tempfile::tempdir().expect("a directory");
    let file = sink.path().join("out.folded");
    let record: &[&str] = &["--weight", "time", "find_next"];
    for (verb, options) in stat.map(|specs| ("stat", specs)).into_iter().chain([("record", record)])
    {
        let mut command = trapline();
        command.arg(verb).args(options).arg("-o").arg(&file).arg("--").arg(&path);
        let probed = run(&mut command, b"");
        let same = (probed.code, &probed.stdout) == (bare.code, &bare.stdout);
        assert!(same, "{verb} {options:?}: {} {}", probed.stdout, probed.stderr);
    }
}
