//! Threads: exact counts, short lives, ends in the middle of calls, code before main and after it.

use crate::common::{Mode, Target};

#[test]
fn eight_threads() {
    Target::new("threads.c").check();
}

#[test]
fn ten_thousand_short_threads() {
    Target::new("short_threads.c").check();
}

#[test]
fn threads_that_end_in_probed_frames() {
    Target::new("thread_end.c").check();
    Target::new("thread_end.c").flags(&["-O0"]).check();
    Target::new("thread_end.c").case().modes(&[Mode::WithLibc]).check();
}

#[test]
fn before_main_and_after() {
    Target::new("late_early.cpp").check();
    Target::new("late_early.cpp").case().modes(&[Mode::WithLibc]).check();
}
