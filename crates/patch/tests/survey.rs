//! The planner over the functions of real programs: it never fails badly, and nearly everything
//! gets a detour.

mod files;

use files::each_function;
use iced_x86::{Decoder, DecoderOptions};
use patch::{Detour, Method, Options};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Default)]
struct Counts {
    detours: usize,
    breakpoints: BTreeMap<String, usize>,
    refused: BTreeMap<String, usize>,
    no_return: BTreeMap<String, usize>,
    loops: usize,
    flags_live: usize,
    rax_live: usize,
}

/// Whether no thread that is below a call of the displaced instructions comes back among them.
fn calls_come_back_behind(detour: &Detour) -> bool {
    let mut decoder = Decoder::with_ip(64, detour.original(), detour.site(), DecoderOptions::NONE);
    let end = detour.site() + detour.window() as u64;
    decoder.iter().all(|i| {
        let near = i.is_call_near() || i.is_call_near_indirect();
        let call = near || i.is_call_far() || i.is_call_far_indirect();
        !call || i.next_ip() == end
    })
}

fn survey(path: &Path, verbose: bool) -> Option<Counts> {
    let mut counts = Counts::default();
    each_function(path, |f, name| {
        let (address, size) = (f.address, f.code.len());
        match patch::plan(f, &Options::default()) {
            Ok(plan) => {
                match &plan.method {
                    Method::Detour(d) => {
                        counts.detours += 1;
                        let mut out = Vec::new();
                        let at = d.reach().start.max(address.saturating_sub(1 << 20));
                        let body = d.emit_body(at, &mut out).expect("the address is within reach");
                        assert_eq!(body.size as usize, out.len());
                        assert_eq!(body.relocated(plan.site), Some(0));
                        assert!(calls_come_back_behind(d), "{address:x} {name}");
                    }
                    Method::Breakpoint(b) => {
                        *counts.breakpoints.entry(b.why().to_string()).or_default() += 1;
                        let mut out = Vec::new();
                        b.emit_slot(b.reach().start.max(address.saturating_sub(1 << 20)), &mut out)
                            .expect("the address is within reach");
                        if verbose {
                            println!(
                                "  {address:x}+{size} {name}: {} {:?} {:02x?}",
                                plan.method,
                                b.resume(),
                                &f.code[..f.code.len().min(16)]
                            );
                        }
                    }
                }
                if let Err(why) = plan.returns {
                    *counts.no_return.entry(why.to_string()).or_default() += 1;
                    if verbose {
                        println!("  {address:x}+{size} {name}: no return probe: {why}");
                    }
                }
                let back = plan.back.iter().flatten().filter_map(|back| back.detour.as_ref());
                back.for_each(|d| assert!(calls_come_back_behind(d), "{address:x} {name}"));
                counts.loops += usize::from(plan.loops);
                counts.flags_live += usize::from(plan.live.flags);
                counts.rax_live += usize::from(plan.live.rax);
            }
            Err(refusal) => {
                *counts.refused.entry(refusal.to_string()).or_default() += 1;
                if verbose {
                    println!(
                        "  {address:x}+{size} {name}: refused: {refusal} {:02x?}",
                        &f.code[..f.code.len().min(16)]
                    );
                }
            }
        }
    })?;
    Some(counts)
}

/// Over `SURVEY` (paths, separated by colons), or a few programs and libraries that every system
/// has. `SURVEY_VERBOSE` names every function without a detour.
#[test]
fn real_programs() {
    let given = std::env::var("SURVEY").ok();
    let default = "/bin/bash:/lib/x86_64-linux-gnu/libc.so.6:/lib/x86_64-linux-gnu/libm.so.6:\
        /lib/x86_64-linux-gnu/libstdc++.so.6:/usr/lib/x86_64-linux-gnu/libstdc++.so.6";
    let verbose = std::env::var_os("SURVEY_VERBOSE").is_some();
    let mut paths: Vec<PathBuf> =
        given.as_deref().unwrap_or(default).split(':').map(PathBuf::from).collect();
    // The test itself: Rust code with a full symbol table.
    paths.extend(std::env::current_exe().ok());
    for path in paths {
        let started = std::time::Instant::now();
        let Some(c) = survey(&path, verbose) else { continue };
        let all =
            c.detours + c.breakpoints.values().sum::<usize>() + c.refused.values().sum::<usize>();
        println!(
            "{}: {all} functions in {:?}: {:.2} % detours; breakpoints {:?}; refused {:?}; no \
                return probe {:?}; loops {}; flags live {}, rax live {}",
            path.display(),
            started.elapsed(),
            100.0 * c.detours as f64 / all.max(1) as f64,
            c.breakpoints,
            c.refused,
            c.no_return,
            c.loops,
            c.flags_live,
            c.rax_live
        );
        assert!(
            given.is_some() || all == 0 || c.detours * 10 >= all * 9,
            "{} of {all} functions of {} have a detour",
            c.detours,
            path.display()
        );
    }
}
