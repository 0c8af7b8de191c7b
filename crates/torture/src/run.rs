//! The program: readers, one writer, a thread that ends what others began, and a watch over all of
//! them.

use crate::chance::Chance;
use crate::counts::Counts;
use crate::flavour::{Flavour, Held};
use crate::outcome::Outcome;
use crate::setting::Setting;
use crate::signals::Timer;
use percpu::CachePadded;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Tortures one flavour.
pub(crate) fn run<F: Flavour>(flavour: &'static F, setting: &Setting) -> Outcome {
    let counts: &'static Counts = Box::leak(Box::new(Counts {
        reads: (0..setting.readers).map(|_| CachePadded::default()).collect(),
        ..Counts::default()
    }));
    let begin = Instant::now();
    let (send, receive) = sync_channel::<Box<dyn Held + 'static>>(64);
    let mut threads = Vec::new();
    let seed = setting.seed;
    for seat in 0..setting.readers {
        let send = send.clone();
        let chance = Chance::new(seed, seat as u64 + 1);
        threads.push(spawn(counts, move || reader(flavour, counts, seat, chance, &send)));
    }
    drop(send);
    threads.push(spawn(counts, move || closer(counts, &receive)));
    threads.push(spawn(counts, move || writer(flavour, counts, Chance::new(seed, 0))));

    let mut failure = watch(counts, setting, begin);
    counts.stop.store(true, Ordering::Relaxed);
    if failure.is_none() {
        failure = wait_for_end(counts, setting.stall);
    }
    let stalls = u64::from(failure.is_some());
    if failure.is_none() {
        threads.into_iter().for_each(|t| t.join().expect("panics were caught"));
        failure = flavour.finish().err();
    }
    let max_stage = counts.max_stage.load(Ordering::Relaxed);
    if max_stage > 1 {
        failure = Some(format!(
            "a reader saw an object at stage {max_stage}: it was looking at freed memory"
        ));
    }
    if let Some(message) = counts.panics.lock().expect("nobody panics with the list").first() {
        failure = Some(format!("a thread panicked: {message}"));
    }
    Outcome {
        flavour: flavour.name().to_owned(),
        reads: counts.total_reads(),
        handed_over: counts.handed_over.load(Ordering::Relaxed),
        in_handlers: counts.in_handlers.load(Ordering::Relaxed),
        updates: counts.updates.load(Ordering::Relaxed),
        max_stage,
        stalls,
        seconds: begin.elapsed().as_secs_f64(),
        seed,
        failure,
    }
}

fn spawn(counts: &'static Counts, body: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    counts.running.fetch_add(1, Ordering::Relaxed);
    thread::spawn(move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            counts
                .panics
                .lock()
                .expect("nobody panics with the list")
                .push(text.unwrap_or_else(|| "no message".to_owned()));
            counts.stop.store(true, Ordering::Relaxed);
        }
        counts.running.fetch_sub(1, Ordering::Relaxed);
    })
}

fn reader<F: Flavour>(
    flavour: &'static F,
    counts: &'static Counts,
    seat: usize,
    mut chance: Chance,
    send: &SyncSender<Box<dyn Held>>,
) {
    // The thread's first section should not be in a handler.
    flavour.read(&mut chance, &mut |stage| counts.see(stage.get()));
    let _timer = Timer::start(flavour, counts);
    let sleeps = flavour.readers_may_sleep();
    while !counts.stopped() {
        let delay = chance.below(1024);
        flavour.read(&mut chance, &mut |stage| {
            counts.see(stage.get());
            linger(delay, sleeps);
            counts.see(stage.get());
        });
        counts.reads[seat].fetch_add(1, Ordering::Relaxed);
        let taken = if chance.once_in(128) { flavour.take_away() } else { None };
        if let Some(Err(TrySendError::Full(held) | TrySendError::Disconnected(held))) =
            taken.map(|held| send.try_send(held))
        {
            // No room on the way: let go of it here.
            held.finish(&mut |stage| counts.see(stage.get()));
        }
    }
}

/// Stays inside a section: mostly not at all, sometimes for some hundred nanoseconds, seldom past
/// the end of the time slice, and where readers may sleep, asleep.
fn linger(delay: u64, sleeps: bool) {
    match delay {
        0 if sleeps => thread::sleep(Duration::from_millis(1)),
        1..=3 => thread::yield_now(),
        4..=64 => (0..delay * 4).for_each(|_| std::hint::spin_loop()),
        _ => {}
    }
}

/// Lets go of what readers took, after a while. It ends behind the last reader, with nothing left
/// on its way: the writer may be waiting for a section that is.
fn closer(counts: &'static Counts, receive: &Receiver<Box<dyn Held>>) {
    for held in receive {
        held.finish(&mut |stage| counts.see(stage.get()));
        counts.handed_over.fetch_add(1, Ordering::Relaxed);
    }
}

fn writer<F: Flavour>(flavour: &'static F, counts: &'static Counts, mut chance: Chance) {
    while !counts.stopped() {
        flavour.update(&mut chance);
        counts.updates.fetch_add(1, Ordering::Relaxed);
        if chance.once_in(512) {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Waits until the time is up, a reader has seen too much, or nothing moves. Some: what stands
/// still.
fn watch(counts: &'static Counts, setting: &Setting, begin: Instant) -> Option<String> {
    let mut seen = [(u64::MAX, Instant::now()); 2];
    while begin.elapsed() < setting.time
        && !counts.stopped()
        && counts.max_stage.load(Ordering::Relaxed) <= 1
    {
        thread::sleep(Duration::from_millis(20));
        let now = [counts.total_reads(), counts.updates.load(Ordering::Relaxed)];
        for (what, ((last, since), now)) in
            ["readers", "the writer"].iter().zip(seen.iter_mut().zip(now))
        {
            if *last != now {
                (*last, *since) = (now, Instant::now());
            } else if since.elapsed() > setting.stall {
                return Some(diagnose(
                    &format!("{what} made no progress for {} s", setting.stall.as_secs()),
                    counts,
                ));
            }
        }
    }
    None
}

/// Waits until all threads have seen the stop flag.
fn wait_for_end(counts: &'static Counts, patience: Duration) -> Option<String> {
    let begin = Instant::now();
    while counts.running.load(Ordering::Relaxed) > 0 {
        if begin.elapsed() > patience {
            let running = counts.running.load(Ordering::Relaxed);
            return Some(diagnose(
                &format!("{running} threads did not end within {} s", patience.as_secs()),
                counts,
            ));
        }
        thread::sleep(Duration::from_millis(1));
    }
    None
}

/// What each thread had done, and what the kernel says it is doing.
fn diagnose(what: &str, counts: &Counts) -> String {
    let mut text = what.to_owned();
    let reads: Vec<u64> = counts.reads.iter().map(|n| n.load(Ordering::Relaxed)).collect();
    // Writing into a string cannot fail.
    let _ = write!(
        text,
        "\nreads per reader {reads:?}, updates {}",
        counts.updates.load(Ordering::Relaxed)
    );
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let line = |file: &str| {
            std::fs::read_to_string(task.path().join(file)).unwrap_or_default().trim().to_owned()
        };
        let stat = line("stat");
        let state = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().next().map(str::to_owned))
            .unwrap_or_default();
        let _ = write!(
            text,
            "\nthread {}: state {state}, {}",
            task.file_name().display(),
            line("wchan")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::Setting;
    use crate::chance::Chance;
    use crate::flavour::{Flavour, Held, Visit};
    use crate::stage::Stage;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// A writer that waits until no section is open, as a grace period does, and sections that are
    /// ended slowly on another thread.
    #[derive(Default)]
    struct Slow {
        stage: Stage,
        open: AtomicUsize,
    }

    struct Section<'s>(&'s Slow);

    impl Held for Section<'_> {
        fn finish(self: Box<Self>, visit: Visit<'_>) {
            visit(&self.0.stage);
            std::thread::sleep(Duration::from_millis(1));
            self.0.open.fetch_sub(1, Ordering::AcqRel);
        }
    }

    impl Flavour for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }

        fn readers_may_sleep(&self) -> bool {
            false
        }

        fn read(&self, _: &mut Chance, visit: Visit<'_>) {
            visit(&self.stage);
        }

        fn read_in_handler(&self, _: Visit<'_>) -> bool {
            false
        }

        fn take_away(&self) -> Option<Box<dyn Held + '_>> {
            self.open.fetch_add(1, Ordering::AcqRel);
            Some(Box::new(Section(self)))
        }

        fn update(&self, _: &mut Chance) {
            while self.open.load(Ordering::Acquire) != 0 {
                std::thread::yield_now();
            }
        }

        fn finish(&self) -> Result<(), String> {
            match self.open.load(Ordering::Acquire) {
                0 => Ok(()),
                n => Err(format!("{n} sections are open")),
            }
        }
    }

    #[test]
    fn the_end_waits_for_sections_on_their_way_and_a_writer_that_waits_for_them() {
        let setting = Setting {
            readers: 4,
            time: Duration::from_millis(300),
            stall: Duration::from_secs(60),
            seed: 1,
        };
        let outcome = super::run(Box::leak(Box::new(Slow::default())), &setting);
        assert_eq!(outcome.failure, None);
    }
}
