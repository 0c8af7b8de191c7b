//! `probe --stack`: what a hit costs that takes its call stack, keeps each distinct one once, and
//! counts it; beside unwinders that only take it, and bpftrace, which does all of it in the kernel.
#![allow(unsafe_code)]

use super::chain::{self, Chain, FRAMES, LEAF_BYTES};
use super::check::Checks;
use crate::bpftrace as tool;
use crate::group::Group;
use crate::harness::{Campaign, Case, Entry, Job, Role};
use crate::options::Options;
use crate::programs::installed;
use crate::report::{Bound, Report, Target};
use crate::scratch::Scratch;
use crate::stats::Summary;
use recorder::{Loaded, Probe, Recorder};
use std::fs::File;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use unwind::{Method, Module};
use uprobe::{Action, Config, Engine, Hooks, Patching};
use wire::{Segment, Shape, Stacks, cell};

const BARE: &str = "bare call";
const TABLES: &str = "stack by unwind tables, de-duplicated and counted";
const POINTERS: &str = "stack by frame pointers, de-duplicated and counted";
const FRAMEHOP: &str = "framehop, rule cache, unwinding only";
const LIBUNWIND: &str = "libunwind unw_backtrace, unwinding only";
const GLIBC: &str = "glibc backtrace(), unwinding only";
const BPFTRACE: &str = "bpftrace @[ustack(16)] = count()";

/// How many distinct stacks are met in turn, by threads.
#[derive(Clone, Copy, Debug)]
struct StackCase {
    stacks: u64,
    pointers: bool,
    threads: usize,
}

impl Case for StackCase {
    fn threads(&self) -> usize {
        self.threads
    }

    fn title(&self) -> String {
        let frames = if self.pointers { "with frame pointers" } else { "without frame pointers" };
        let stacks = if self.stacks == 1 {
            "one stack".to_owned()
        } else {
            format!("{} stacks", self.stacks)
        };
        let s = if self.threads == 1 { "" } else { "s" };
        format!("stack of {FRAMES} frames {frames}, {stacks}, {} thread{s}", self.threads)
    }
}

/// Measures and reports.
pub(super) fn run(options: &Options) -> Report {
    let plan = options.plan(9, 500, Duration::from_millis(20));
    let checks = Checks::default();
    let threads = options.thread_list(&[1, 2]);
    let mut entries = vec![bare()];
    entries.extend(ours(&checks));
    entries.push(glibc());
    entries.push(libunwind());
    entries.push(framehop());
    entries.push(bpftrace(options.quick, &checks));
    let mut cases = Vec::new();
    for pointers in [false, true] {
        for stacks in [1, 64, 1024] {
            cases.extend(threads.iter().map(|&threads| StackCase { stacks, pointers, threads }));
        }
    }
    let mut campaign = Campaign::run("probe --stack", &entries, &cases, &plan);
    campaign.subtract = campaign.entry(BARE);
    let mut report = Report::new("probe-stack");
    report.settings = options.describe(&plan);
    report.add("", &campaign);
    report.targets = targets(&campaign, &cases);
    report.targets.extend(memory_targets());
    if let Some((sheet, target)) = super::first_sight::measure(options) {
        report.sheets.push(sheet);
        report.targets.push(target);
    }
    report.notes = vec![
        "ns of CPU time per hit over the bare walk down the same chain in the same repeat"
            .to_owned(),
        "several stacks: in an order that the processor cannot predict, so that the bare walk \
            mispredicts, too; what is taken off holds that"
            .to_owned(),
        "the unwinders are called by the leaf in the place of the probe, and keep nothing of what \
            they find"
            .to_owned(),
        "bpftrace follows frame pointers only, and its stacks have the kernel's limit on them; it \
            takes seconds to attach, so it is measured with one thread"
            .to_owned(),
    ];
    report.notes.extend(checks.lines());
    report
}

fn bare() -> Entry<StackCase> {
    Entry::new(BARE, Role::Floor, |case: &StackCase| {
        let (chain, stacks) =
            (if case.pointers { chain::BARE_FP } else { chain::BARE }, case.stacks);
        let job: Job = Box::new(move |_, meter| meter.run(|n| chain.call(n, stacks)));
        Some(job)
    })
}

static SEGMENT: OnceLock<Segment> = OnceLock::new();

fn thread_start() -> *mut u8 {
    let cells = || {
        let segment = SEGMENT.get()?;
        segment.cells(segment.take_block(wire::Owner::current(), 0).ok()?)
    };
    cells().map_or(ptr::null_mut(), |(cells, _)| cells.as_ptr())
}

fn thread_exit(cells: *mut u8) {
    if let Some((segment, block)) = SEGMENT.get().and_then(|s| Some((s, s.block_at(cells.addr())?)))
    {
        segment.release_block(block);
    }
}

/// Hits in the cell at an offset.
fn hits(cell: u32) -> u64 {
    let Some(segment) = SEGMENT.get() else { return 0 };
    (0..segment.blocks_len())
        .filter_map(|block| segment.cells(block))
        .map(|(cells, _)| {
            let at = cells.as_ptr().wrapping_add(cell as usize + cell::CALLS).cast::<AtomicU64>();
            // SAFETY: a cell of a block of the segment.
            unsafe { &*at }.load(Ordering::Relaxed)
        })
        .sum()
}

/// Arms both chains.
fn setup() -> Result<[u32; 2], String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let stacks = Stacks {
        depot_bytes: 64 << 20,
        counts_bytes: 64 << 20,
        depth: FRAMES as u8,
        frame_pointers: false,
        timed: false,
        evict: false,
    };
    let shape = Shape {
        objects: 1,
        functions: 2,
        blocks: 256,
        cell_bytes: 4096,
        budget: 1 << 30,
        per_thread: false,
        scarce: false,
        stacks: Some(stacks),
    };
    let dir = Scratch::new("stacks").map_err(|e| text(&e))?;
    let path = dir.path().join("segment");
    let file =
        File::options().read(true).write(true).create_new(true).open(path).map_err(|e| text(&e))?;
    let segment =
        SEGMENT.get_or_init(|| Segment::create(&file, shape).expect("a file of that size"));
    let hooks = Hooks { thread_start, thread_exit, lost: |_| () };
    let engine = Engine::start(hooks, Config::default()).map_err(|e| text(&e))?;
    let recorder = Recorder::start(segment, || ()).map_err(|e| text(&e))?;
    let loaded = Module::all(&mut |_| 0).into_iter().enumerate();
    recorder.loaded(
        loaded
            .map(|(n, module)| Loaded {
                module,
                file: wire::Identity { ino: n as u64 + 1, ..wire::Identity::default() },
            })
            .collect(),
    );
    let cells = [0, cell::COUNT_BYTES as u32];
    let mut batch = engine.batch();
    for (cell, (chain, method)) in cells
        .into_iter()
        .zip([(&chain::TABLES, Method::Tables), (&chain::POINTERS, Method::FramePointers)])
    {
        let probe = Probe { address: chain.leaf(), entry: true, cell, timed: false };
        batch.add(uprobe::Target::entry(
            chain.leaf(),
            LEAF_BYTES,
            Action::Call(recorder.consumer_by(probe, method)),
        ));
    }
    for armed in batch.commit(Patching::Quiet) {
        match armed.map_err(|e| text(&e))?.method {
            uprobe::Method::Detour => {}
            uprobe::Method::Breakpoint(why) => return Err(format!("no detour: {why}")),
        }
    }
    Ok(cells)
}

fn ours(checks: &Checks) -> Vec<Entry<StackCase>> {
    let cells = match setup() {
        Ok(cells) => cells,
        Err(why) => return vec![Entry::absent(TABLES, Role::Ours, &why)],
    };
    let row = |name: &'static str, chain: &'static Chain, pointers: bool, cell: u32| {
        let checks = checks.clone();
        Entry::new(name, Role::Ours, move |case: &StackCase| {
            if case.pointers != pointers {
                return None;
            }
            let counted = Counted {
                name,
                cell,
                before: hits(cell),
                made: AtomicU64::new(0),
                checks: checks.clone(),
            };
            let stacks = case.stacks;
            let job: Job = Box::new(move |_, meter| {
                let mut made = 0;
                meter.run(|n| {
                    chain.call(n, stacks);
                    made += n;
                });
                // Relaxed: the thread's end orders it before the comparison.
                counted.made.fetch_add(made, Ordering::Relaxed);
            });
            Some(job)
        })
    };
    vec![
        row(TABLES, &chain::TABLES, false, cells[0]),
        row(POINTERS, &chain::POINTERS, true, cells[1]),
    ]
}

/// Compares when the measurement is over.
struct Counted {
    name: &'static str,
    cell: u32,
    before: u64,
    made: AtomicU64,
    checks: Checks,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let (hits, made) = (hits(self.cell) - self.before, *self.made.get_mut());
        if hits != made {
            self.checks.say(format!("WRONG COUNT: {}: {hits} hits of {made}", self.name));
        }
        if let Some(segment) = SEGMENT.get() {
            let (mut stacks, mut all) = (0, 0);
            segment.stack_counts(|count| stacks += count.calls);
            (0..2).for_each(|n| all += self::hits(n * cell::COUNT_BYTES as u32));
            if stacks != all {
                self.checks.say(format!(
                    "WRONG STACKS: {}: {stacks} counted by stack of {all}",
                    self.name
                ));
            }
        }
    }
}

/// A row whose leaf calls an unwinder. `prepare` runs once, before the first measurement, and says
/// whether it can be used.
fn hooked(name: &'static str, hook: extern "C" fn()) -> Entry<StackCase> {
    Entry::new(name, Role::Peer, move |case: &StackCase| {
        if case.pointers || case.threads > 1 {
            return None;
        }
        chain::set_hook(hook);
        let stacks = case.stacks;
        let job: Job = Box::new(move |_, meter| meter.run(|n| chain::HOOKED.call(n, stacks)));
        Some(job)
    })
}

fn glibc() -> Entry<StackCase> {
    extern "C" fn hook() {
        let mut frames = [ptr::null_mut(); FRAMES];
        // SAFETY: room for that many.
        crate::sink::sink(unsafe { libc::backtrace(frames.as_mut_ptr(), FRAMES as i32) } as u64);
    }
    hooked(GLIBC, hook)
}

type Backtrace = unsafe extern "C" fn(*mut *mut libc::c_void, i32) -> i32;

fn libunwind() -> Entry<StackCase> {
    static FUNCTION: OnceLock<Option<Backtrace>> = OnceLock::new();
    extern "C" fn hook() {
        let Some(Some(function)) = FUNCTION.get() else { return };
        let mut frames = [ptr::null_mut(); FRAMES];
        // SAFETY: room for that many.
        crate::sink::sink(unsafe { function(frames.as_mut_ptr(), FRAMES as i32) } as u64);
    }
    let found = FUNCTION.get_or_init(|| {
        // SAFETY: a library without constructors that do harm.
        let library = unsafe { libc::dlopen(c"libunwind.so.8".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return None;
        }
        // SAFETY: a name that lives through the call.
        let symbol = unsafe { libc::dlsym(library, c"unw_backtrace".as_ptr()) };
        // SAFETY: the library's function of that name has this type.
        (!symbol.is_null())
            .then(|| unsafe { std::mem::transmute::<*mut libc::c_void, Backtrace>(symbol) })
    });
    match found {
        Some(_) => hooked(LIBUNWIND, hook),
        None => Entry::absent(LIBUNWIND, Role::Peer, "libunwind8 is not installed"),
    }
}

mod framehop_peer {
    //! framehop in the process that it unwinds: modules from the loader, memory read as it is.

    use super::FRAMES;
    use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
    use framehop::{ExplicitModuleSectionInfo, Module, MustNotAllocateDuringUnwind, Unwinder};
    use std::cell::RefCell;
    use std::ops::Range;

    type Bytes = &'static [u8];
    type Policy = MustNotAllocateDuringUnwind;

    struct State {
        unwinder: UnwinderX86_64<Bytes, Policy>,
        cache: Box<CacheX86_64<Policy>>,
        /// Where the thread's stack ends.
        end: u64,
    }

    thread_local!(static STATE: RefCell<State> = RefCell::new(State {
        unwinder: all(),
        cache: Box::new(CacheX86_64::new_in()),
        end: stack_end(),
    }));

    fn stack_end() -> u64 {
        let (mut start, mut size) = (std::ptr::null_mut(), 0);
        // SAFETY: zero is a valid value, which the call overwrites.
        let mut attributes: libc::pthread_attr_t = unsafe { std::mem::zeroed() };
        // SAFETY: no arguments.
        let own = unsafe { libc::pthread_self() };
        // SAFETY: of the calling thread.
        unsafe { libc::pthread_getattr_np(own, &raw mut attributes) };
        // SAFETY: filled above.
        unsafe {
            libc::pthread_attr_getstack(&raw const attributes, &raw mut start, &raw mut size)
        };
        (start.addr() + size) as u64
    }

    fn all() -> UnwinderX86_64<Bytes, Policy> {
        let mut unwinder = UnwinderX86_64::new();
        for module in unwind::Module::all(&mut |_| 0) {
            let svma =
                |r: &Range<u64>| r.start.wrapping_sub(module.bias)..r.end.wrapping_sub(module.bias);
            let bytes = |r: &Range<u64>| -> Option<Bytes> {
                let end = module.segments.iter().find(|s| s.contains(&r.start))?.end.min(r.end);
                // SAFETY: a readable segment of a loaded module, which stays loaded.
                Some(unsafe {
                    std::slice::from_raw_parts(
                        r.start as usize as *const u8,
                        (end - r.start) as usize,
                    )
                })
            };
            let Some(segment) =
                module.segments.iter().find(|s| s.contains(&module.eh_frame_hdr.start))
            else {
                continue;
            };
            // Version 1, and the distance of the tables from this field as four bytes: what linkers
            // write.
            let Some(&[1, 0x1b, _, _, a, b, c, d, ..]) = bytes(&module.eh_frame_hdr) else {
                continue;
            };
            let distance = i64::from(i32::from_le_bytes([a, b, c, d]));
            let frames = (module.eh_frame_hdr.start + 4).wrapping_add_signed(distance)..segment.end;
            let info = ExplicitModuleSectionInfo {
                base_svma: 0,
                text_svma: Some(svma(&module.range)),
                eh_frame_hdr_svma: Some(svma(&module.eh_frame_hdr)),
                eh_frame_hdr: bytes(&module.eh_frame_hdr),
                eh_frame_svma: Some(svma(&frames)),
                eh_frame: bytes(&frames),
                ..Default::default()
            };
            unwinder.add_module(Module::new(
                String::new(),
                module.range.clone(),
                module.range.start,
                info,
            ));
        }
        unwinder
    }

    pub(super) extern "C" fn hook() {
        let (pc, sp, bp): (u64, u64, u64);
        // SAFETY: reads three registers.
        unsafe {
            std::arch::asm!(
                "lea {0}, [rip]",
                "mov {1}, rsp",
                "mov {2}, rbp",
                out(reg) pc,
                out(reg) sp,
                out(reg) bp,
            )
        };
        let mut frames = [0; FRAMES];
        STATE.with_borrow_mut(|state| {
            let end = state.end - 8;
            let mut read = |at: u64| {
                if at < sp || at > end {
                    return Err(());
                }
                // SAFETY: between the stack pointer and the end of this thread's stack.
                Ok(unsafe { (at as usize as *const u64).read() })
            };
            let mut iter = state.unwinder.iter_frames(
                pc,
                UnwindRegsX86_64::new(pc, sp, bp),
                &mut state.cache,
                &mut read,
            );
            for place in &mut frames {
                match iter.next() {
                    Ok(Some(frame)) => *place = frame.address(),
                    _ => break,
                }
            }
        });
        assert_ne!(
            frames[FRAMES - 1],
            0,
            "framehop finds all frames, or it does less work than the others"
        );
    }
}

fn framehop() -> Entry<StackCase> {
    hooked(FRAMEHOP, framehop_peer::hook)
}

fn bpftrace(quick: bool, checks: &Checks) -> Entry<StackCase> {
    if quick || !super::kernel::permitted() {
        return Entry::absent(BPFTRACE, Role::Peer, "not in a quick run, nor without permission");
    }
    if !installed("bpftrace") {
        return Entry::absent(BPFTRACE, Role::Peer, "bpftrace is not installed");
    }
    let checks = checks.clone();
    Entry::new(BPFTRACE, Role::Peer, move |case: &StackCase| {
        if !case.pointers || case.threads != 1 {
            return None;
        }
        let attach = || -> io::Result<(Mutex<Group>, Scratch)> {
            let dir = Scratch::new("bpftrace")?;
            let program = std::env::current_exe()?;
            Ok((
                Mutex::new(tool::attach(
                    &tool::stacks(&program, chain::KERNEL_FP.symbol),
                    &dir.path().join("log"),
                )?),
                dir,
            ))
        };
        match attach() {
            Ok(attached) => {
                let stacks = case.stacks;
                let job: Job = Box::new(move |_, meter| {
                    let _attached = &attached;
                    meter.run(|n| chain::KERNEL_FP.call(n, stacks));
                });
                Some(job)
            }
            Err(error) => {
                checks.say(format!("{BPFTRACE}: {error}"));
                None
            }
        }
    })
}

fn targets(campaign: &Campaign, cases: &[StackCase]) -> Vec<Target> {
    let ns = |case: usize, row: &str| {
        Summary::of(campaign.cpu(case, campaign.entry(row)?).into_iter().flatten())
    };
    let mut targets = Vec::new();
    for (index, case) in cases.iter().enumerate().filter(|(_, case)| case.threads == 1) {
        let (row, what, limit) = if case.pointers {
            (POINTERS, "frame pointers", 50.0)
        } else {
            (TABLES, "unwind tables", 100.0)
        };
        targets.push(Target::new(
            format!("{FRAMES} frames by {what}, {} stack(s), ns", case.stacks),
            Bound::AtMost(limit),
            ns(index, row),
        ));
        if case.pointers {
            let ratio = campaign.ratio_of(index, BPFTRACE, POINTERS);
            targets.push(Target::new(
                format!("bpftrace ustack / frame pointers, {} stack(s)", case.stacks),
                Bound::AtLeast(10.0),
                ratio,
            ));
        }
    }
    targets
}

/// Bytes of the depot for each byte of bare frames, with the table for stacks that were met.
fn memory_targets() -> Vec<Target> {
    let ratio = || {
        let (base, bytes) = SEGMENT.get()?.depot()?;
        // SAFETY: a part of the segment, which is never unmapped.
        let reader = unsafe { stackdepot::Reader::new(base, bytes) }.ok()?;
        let stats = reader.stats();
        let frames: usize = reader.iter().map(|entry| entry.depth * 8).sum();
        Summary::of([stats.pool_used_bytes as f64 / frames.max(1) as f64])
    };
    vec![Target::new(
        "records of distinct stacks / their bare frames, without the table's fixed part",
        Bound::AtMost(1.15),
        ratio(),
    )]
}
