//! Processes: fork, vfork, exec in all its forms, daemons.

use crate::common::process::wait_until;
use crate::common::{Case, Mode, Target, tools};

#[test]
fn fork_in_mid_call() {
    Target::new("fork.c").check();
    Target::new("fork.c").flags(&["-O0"]).check();
    Target::new("fork.c").case().modes(&[Mode::WithLibc]).check();
}

#[test]
fn starting_other_programs() {
    Target::new("spawn.c").check();
}

#[test]
fn starting_other_programs_with_libc() {
    Target::new("spawn.c").case().modes(&[Mode::WithLibc]).check();
}

/// The daemon outlives the program that was started, and the report; what it did before is counted, and it does not notice.
#[test]
fn a_daemon_lives_on() {
    let case = Target::new("daemon.c").case();
    let directory = tempfile::tempdir().expect("a temporary directory");
    for specs in [vec!["t_*".to_owned()], vec![]] {
        let file = directory.path().join(format!("daemon{}", specs.len()));
        let (probed, report) = case.clone().arg(&file).probed(&specs);
        assert_eq!((probed.code, probed.stdout.as_str(), probed.stderr.as_str()), (0, "daemon started\n", ""));
        let counted = report.expect("a report").calls("t_work");
        assert!((1010..=2010).contains(&counted), "{counted} calls of t_work");
        wait_until("the daemon finishes", || std::fs::read_to_string(&file).is_ok_and(|text| text == "daemon finished: 1001000\n"));
    }
}

/// Programs that cannot be followed run as ever when a probed one starts them: static ones, setuid ones, scripts.
#[test]
fn children_that_cannot_be_followed() {
    let sh = tools::find("sh").expect("a shell");
    let fixed = Target::new("mutual_recursion.c").named("fixed").flags(&["-static"]).build();
    let followed = Target::new("mutual_recursion.c").build();
    let script = format!("{} | head -1; su --version >/dev/null; echo $?; {}; {}", fixed.display(), followed.display(), fixed.display());
    let report = Case::new(&sh).arg("-c").arg(script).specs(&["*:*"]).check_output_only();
    assert_eq!(report.calls("t_fib"), 57_313);
}
