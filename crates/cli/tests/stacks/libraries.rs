//! Libraries that come and go: another one in the same place, with the same code but other frames,
//! must not be taken for the one that was there.

use super::recorded::Recorded;
use super::{compare, gdb};
use crate::common::Target;
use crate::common::process::program;

#[test]
fn one_in_the_place_of_another() {
    if !gdb::available() {
        return;
    }
    let plugin = |name: &str, room: &str| {
        Target::new("stacks_plugin.c").shared().named(name).flags(&[room, "-Wl,-z,lazy"]).build()
    };
    let mut command = program(Target::new("stacks_loader.c").flags(&["-rdynamic"]).build());
    command.args([plugin("plugin-a.so", "-DROOM=0x400"), plugin("plugin-b.so", "-DROOM=0x800")]);
    let expected = gdb::stacks(&["t_leaf"], &command);
    let modules = expected.keys().flatten().filter(|place| place.file.starts_with("plugin-"));
    let places: std::collections::BTreeSet<(&str, u64)> =
        modules.map(|place| (&*place.file, place.address)).collect();
    assert!(
        places.len() >= 8
            && places.contains(&("plugin-a.so", places.iter().next_back().expect("some").1)),
        "{places:x?}"
    );
    for options in [
        &["stacks_loader:t_leaf"][..],
        &["--weight", "time", "stacks_loader:*", "plugin-a.so:*", "plugin-b.so:*"],
    ] {
        let recorded = Recorded::run(options, &command);
        compare::same(&format!("libraries {options:?}"), &recorded, &["t_leaf"], &expected, |_| {
            true
        });
    }
}
