//! The functions that whoever has put the image there calls: see [`wire::image`].
#![allow(unsafe_code)]

use crate::arm::{self, Armed};
use crate::control::with_own_thread;
use crate::{fresh, host, known, segment};
use alloc::vec::Vec;
use core::mem;
use percpu::Mutex;
use uprobe::{Change, Config, Engine, Hooks, SiteId};
use wire::image::fresh::IS;
use wire::image::{Failure, Header};

/// What a list is about that was given out, until somebody says what became of it.
enum Listed {
    Nothing,
    /// Functions of the segment that are armed by it.
    Armed(Vec<Armed>),
    /// Everything that is armed is taken back.
    Disarmed,
}

/// What is kept between two calls.
struct Between {
    listed: Listed,
    /// Sites whose changes are written, or may be.
    written: Vec<SiteId>,
    /// What takes them back, where that was asked for already, and where.
    reversals: Vec<Change>,
    reversed: Vec<SiteId>,
    words: Vec<u64>,
    header: [u64; Header::WORDS],
}

static BETWEEN: Mutex<Between> = Mutex::new(Between {
    listed: Listed::Nothing,
    written: Vec::new(),
    reversals: Vec::new(),
    reversed: Vec::new(),
    words: Vec::new(),
    header: [0; Header::WORDS],
});

const HOOKS: Hooks = Hooks {
    thread_start: segment::thread_start,
    thread_exit: segment::thread_exit,
    lost: segment::lost,
};

/// A call whose result is whether it could be done.
fn said(f: impl FnOnce() -> Result<(), Failure>) -> u64 {
    let done = with_own_thread(f).unwrap_or(Err(Failure::Forbidden));
    done.err().map_or(0, Failure::word)
}

/// A call whose result is a list: the address of its header.
fn list(f: impl FnOnce(&mut Between) -> Result<(), Failure>) -> u64 {
    let listed = with_own_thread(|| {
        let mut between = BETWEEN.lock();
        between.words.clear();
        between.header = match f(&mut between) {
            Ok(()) => Header::of(&between.words),
            Err(why) => Header::failed(why),
        };
        between.header.as_ptr().expose_provenance() as u64
    });
    listed.unwrap_or(0)
}

/// [`wire::image::MAPS`].
#[unsafe(no_mangle)]
extern "C" fn trapline_maps(descriptor: i64) -> u64 {
    sys::mappings::lend(descriptor as i32);
    0
}

/// [`wire::image::START`].
#[unsafe(no_mangle)]
extern "C" fn trapline_start(tables: u64, counters: u64, distance: i64, state: u64) -> u64 {
    said(|| {
        host::supply(distance)?;
        if segment::get().is_some() {
            return Err(Failure::InUse);
        }
        segment::open(tables as i32, counters as i32)?;
        fresh::begin(state);
        known::forget();
        let engine = Engine::start(HOOKS, Config::default()).map_err(|_| Failure::Memory);
        let engine = engine.inspect_err(|_| segment::leave())?;
        // Threads that came by when there was no segment were refused a block.
        if state & IS == 0 {
            engine.renew_blocks();
        }
        Ok(())
    })
}

/// [`wire::image::ARM`].
#[unsafe(no_mangle)]
extern "C" fn trapline_arm() -> u64 {
    list(|between| {
        let (Some(engine), Some(attached)) = (Engine::get(), segment::get()) else {
            return Err(Failure::Order);
        };
        let Listed::Nothing = between.listed else { return Err(Failure::Order) };
        let armed = arm::arm(engine, attached, &mut between.words)?;
        // Nobody may come back to say whether it was.
        between.written.extend(armed.iter().map(|armed| armed.site));
        between.listed = Listed::Armed(armed);
        Ok(())
    })
}

/// [`wire::image::DISARM`].
#[unsafe(no_mangle)]
extern "C" fn trapline_disarm() -> u64 {
    list(|between| {
        let engine = Engine::get().ok_or(Failure::Order)?;
        let Between { written, reversals, reversed, words, .. } = between;
        reversals.extend(engine.remove_outside(written));
        reversed.append(written);
        arm::list_written(reversals, words);
        between.listed = Listed::Disarmed;
        Ok(())
    })
}

/// [`wire::image::WRITTEN`].
#[unsafe(no_mangle)]
extern "C" fn trapline_written(ok: u64) -> u64 {
    said(|| {
        let mut between = BETWEEN.lock();
        let engine = Engine::get().ok_or(Failure::Order)?;
        match mem::replace(&mut between.listed, Listed::Nothing) {
            Listed::Nothing => return Err(Failure::Order),
            Listed::Armed(armed) => {
                let attached = segment::get().ok_or(Failure::Order)?;
                arm::written(engine, attached, &armed, ok != 0);
                if ok == 0 {
                    between.written.retain(|site| armed.iter().all(|other| other.site != *site));
                }
            }
            Listed::Disarmed if ok != 0 => {
                known::forget();
                fresh::begin(0);
                between.reversals.clear();
                arm::forget(engine, &mem::take(&mut between.reversed));
                segment::leave_with(|| engine.renew_blocks());
            }
            Listed::Disarmed => {}
        }
        Ok(())
    })
}

/// [`wire::image::OWNER`].
#[unsafe(no_mangle)]
extern "C" fn trapline_owner() -> u64 {
    segment::get().map_or(0, |attached| attached.segment.owner().into())
}
