//! How many functions of real programs have all their exits.

mod files;

use files::each_function;
use files::surroundings::File;
use patch::{Function, Leave, Method, Options};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Default)]
struct Counts {
    functions: usize,
    with_exits: usize,
    never: usize,
    exits: usize,
    at_entry: usize,
    tails: usize,
    none: BTreeMap<String, usize>,
    refused: usize,
    flags_dead: usize,
    scratch: [usize; 8],
}

fn survey(path: &Path, verbose: bool) -> Option<Counts> {
    let file = File::read(path)?;
    let mut all: Vec<(Function<'_>, String)> = Vec::new();
    let mut bytes: Vec<(u64, Vec<u8>, Vec<u8>, String)> = Vec::new();
    each_function(path, |f, name| {
        bytes.push((f.address, f.code.to_vec(), f.after.to_vec(), name.to_owned()));
    })?;
    for (address, code, after, name) in &bytes {
        all.push((Function { address: *address, code, after, site: 0 }, name.clone()));
    }
    let mut targets = file.landing_pads.clone();
    let mut tables = Vec::new();
    for (f, _) in &all {
        patch::branch_targets(f.address, f.code, &mut targets, &mut tables);
    }
    targets.sort_unstable();
    targets.dedup();
    let options = Options {
        branch_targets: &targets,
        exits: true,
        surroundings: Some(&file),
        ..Options::default()
    };
    let mut counts = Counts::default();
    for (f, name) in &all {
        if name.contains(".cold") {
            continue;
        }
        counts.functions += 1;
        let Ok(plan) = patch::plan(f, &options) else {
            counts.refused += 1;
            continue;
        };
        match &plan.exits {
            Ok(exits) => {
                counts.with_exits += 1;
                counts.never += usize::from(exits.is_empty());
                let mut taken = match &plan.method {
                    Method::Detour(d) => d.site()..d.site() + d.window() as u64,
                    Method::Breakpoint(b) => b.site()..b.site() + b.original().len() as u64,
                };
                for exit in exits {
                    counts.exits += 1;
                    counts.at_entry += usize::from(exit.at_entry());
                    let d = exit.detour();
                    if exit.at_entry() {
                        assert_eq!(d.site(), plan.site);
                    } else {
                        let window = d.site()..d.site() + d.window() as u64;
                        let apart = window.end <= taken.start || taken.end <= window.start;
                        assert!(apart, "{:x} {name}", f.address);
                        taken = window;
                    }
                    for leaving in exit.leaves() {
                        counts.tails += usize::from(leaving.leave != Leave::Return);
                        counts.flags_dead += usize::from(!leaving.live.flags);
                        let l = leaving.live;
                        let dead = [!l.rcx, !l.rsi, !l.rdi, !l.r8, !l.r9, !l.r10, !l.r11];
                        counts.scratch[dead.iter().filter(|d| **d).count()] += 1;
                    }
                    let mut out = Vec::new();
                    let at = d.reach().start.max(f.address.saturating_sub(1 << 20));
                    let mut hooks = 0;
                    let body = exit.emit(
                        at,
                        &mut |_, _, out| {
                            hooks += 1;
                            out.extend([0x90; 300]);
                        },
                        &mut out,
                    );
                    assert_eq!(body.expect("near").size as usize, out.len());
                    assert_eq!(hooks, exit.leaves().len());
                }
            }
            Err(why) => {
                *counts.none.entry(why.to_string()).or_default() += 1;
                if verbose {
                    println!("  {:x}+{} {name}: {why}", f.address, f.code.len());
                }
            }
        }
    }
    Some(counts)
}

/// Over `SURVEY` (paths, separated by colons), or what every system has. `SURVEY_VERBOSE` names
/// every function without exits.
#[test]
fn real_programs() {
    let given = std::env::var("SURVEY").ok();
    let default = "/bin/bash:/lib/x86_64-linux-gnu/libc.so.6:/lib/x86_64-linux-gnu/libm.so.6:\
        /usr/lib/x86_64-linux-gnu/libstdc++.so.6";
    let verbose = std::env::var_os("SURVEY_VERBOSE").is_some();
    let mut paths: Vec<PathBuf> =
        given.as_deref().unwrap_or(default).split(':').map(PathBuf::from).collect();
    paths.extend(std::env::current_exe().ok().filter(|_| given.is_none()));
    for path in paths {
        let started = std::time::Instant::now();
        let Some(c) = survey(&path, verbose) else { continue };
        let share = 100.0 * c.with_exits as f64 / c.functions.max(1) as f64;
        println!(
            "{}: {} functions in {:?}: {share:.2} % with exits ({} never left), {} exits of which \
                {} at the entry, {} tail jumps; none {:?}, refused {}; flags dead {}, dead \
                registers {:?}",
            path.display(),
            c.functions,
            started.elapsed(),
            c.never,
            c.exits,
            c.at_entry,
            c.tails,
            c.none,
            c.refused,
            c.flags_dead,
            c.scratch
        );
        assert!(given.is_some() || c.functions == 0 || share > 80.0, "{}", path.display());
    }
}
