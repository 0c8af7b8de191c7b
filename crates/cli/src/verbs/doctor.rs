//! `trapline doctor`: what would stop a run here, and the command that fixes it.

mod found;
mod kernel_uprobes;
mod output;
mod trial;

use crate::args::DoctorArgs;
use crate::exit::{Failure, USAGE};
use crate::out::Out;
use crate::program::Program;
use crate::run::agent::{self, Place};
use crate::run::attached;
use crate::run::c_library::CLibrary;
use crate::run::loaded::Objects;
use crate::symbols::libraries::{Environment, closure};
use crate::symbols::object::Object;
use crate::sys;
use found::Found::{self, Good, Less, Stops};
use std::collections::BTreeMap;
use std::fs;

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<u8> {
    let mut findings: Vec<(&str, Found)> = vec![
        ("processor", processor()),
        ("kernel", kernel()),
        ("clock", clock()),
        ("preload", preload()),
        ("agent file", agent_file()),
        ("counters", counters()),
        ("membarrier", membarrier()),
        ("rseq", rseq()),
        ("shadow stack", shadow_stack()),
        ("seccomp", seccomp("self")),
        ("ptrace_scope", ptrace_scope()),
        ("kernel uprobes", kernel_uprobes::kernel_uprobes()),
        ("output", output::output()),
        ("trial run", trial::trial()),
    ];
    if let Some(pid) = args.pid {
        findings.extend(process(pid)?);
    }
    if let Some(command) = args.command.first() {
        findings.extend(program(command));
    }
    let mut out = Out::stdout()?;
    let mut stops = 0;
    for (what, found) in findings {
        let (mark, text, fix) = match found {
            Good(text) => ("ok", text, None),
            Less(text, fix) => ("less", text, fix),
            Stops(text, fix) => {
                stops += 1;
                ("STOP", text, Some(fix))
            }
        };
        out.line(&format!("{mark:<5} {what:<15} {text}"));
        if let Some(fix) = fix {
            out.line(&format!("{:21} fix: {fix}", ""));
        }
    }
    out.line(match stops {
        0 => "nothing here stops a run",
        _ => "a run is stopped here: see STOP",
    });
    out.finish()?;
    Ok(u8::from(stops > 0))
}

fn processor() -> Found {
    if cfg!(target_arch = "x86_64") {
        Good("x86-64".to_string())
    } else {
        Stops("not x86-64".to_string(), "run it on an x86-64 machine".to_string())
    }
}

fn kernel() -> Found {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < (4, 16) => Less(
            format!(
                "Linux {release} is older than 4.16: no barrier for patching while threads run"
            ),
            Some("boot a newer kernel".to_string()),
        ),
        _ => Good(format!("Linux {release}")),
    }
}

fn clock() -> Found {
    let info = read("/proc/cpuinfo").unwrap_or_default();
    let flags: Vec<&str> = info
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        .unwrap_or_default();
    if flags.contains(&"constant_tsc") && flags.contains(&"nonstop_tsc") {
        return Good(format!(
            "the time-stamp counter is invariant (the kernel's clock source: {source})"
        ));
    }
    let text = "the time-stamp counter is not said to be invariant: durations may be off when the \
        processor changes its frequency";
    Less(
        text.to_string(),
        Some("trapline stat 'entry:SPEC' -- CMD counts without a clock".to_string()),
    )
}

fn preload() -> Found {
    match std::env::var_os("LD_PRELOAD").filter(|value| !value.is_empty()) {
        Some(value) => {
            Good(format!("LD_PRELOAD is set and will be kept: {}", value.to_string_lossy()))
        }
        None => Good("LD_PRELOAD is free".to_string()),
    }
}

fn agent_file() -> Found {
    match agent::install() {
        Ok(Place::File(path)) => Good(format!("the agent is at {}", path.display())),
        Ok(Place::Memory { .. }) => Less(
            "the agent is loaded from memory: programs in other user or process namespaces are not \
             followed"
                .to_string(),
            Some(format!("mount -o remount,exec {}", agent::DIRECTORY)),
        ),
        Err(error) => {
            Stops(format!("the agent cannot be installed: {error:#}"), "chmod 1777 /tmp, or mount \
                -t proc proc /proc".to_string())
        }
    }
}

fn counters() -> Found {
    match sys::growing_memory_file(c"trapline-doctor") {
        Ok(_) => Good("memory files, which no file system's size limits".to_string()),
        Err(error) => Stops(
            format!("no memory file can be made: {error}"),
            "docker run --security-opt seccomp=unconfined".to_string(),
        ),
    }
}

fn membarrier() -> Found {
    match sys::membarrier_commands() {
        Some(bits) if bits & sys::MEMBARRIER_SYNC_CORE != 0 => {
            Good("private expedited with core serialisation".to_string())
        }
        Some(_) => Less(
            "no core serialisation: functions are armed only before threads run".to_string(),
            Some("boot Linux 4.16 or later".to_string()),
        ),
        None => Less(
            "the system call is refused (seccomp?): functions are armed only before threads run"
                .to_string(),
            Some("docker run --security-opt seccomp=unconfined".to_string()),
        ),
    }
}

fn rseq() -> Found {
    if sys::rseq_known() {
        Good("the kernel has restartable sequences".to_string())
    } else {
        Less(
            "no restartable sequences (needs Linux 4.18): nothing that stat needs".to_string(),
            None,
        )
    }
}

fn shadow_stack() -> Found {
    let status = read("/proc/self/status").unwrap_or_default();
    match field(&status, "x86_Thread_features:") {
        Some(features) if features.contains("shstk") => Stops(
            "shadow stacks are enabled: a return probe would be a fault".to_string(),
            "GLIBC_TUNABLES=glibc.cpu.x86_shstk=off trapline stat ...".to_string(),
        ),
        _ => Good("no shadow stack in use".to_string()),
    }
}

fn seccomp(process: &str) -> Found {
    let status = read(&format!("/proc/{process}/status")).unwrap_or_default();
    match field(&status, "Seccomp:") {
        Some("0") | None => Good("no filter".to_string()),
        Some(_) => Less(
            "a filter is active: the probe path makes no system call, the start of the agent \
                needs mmap, mprotect, membarrier and futex"
                .to_string(),
            Some(
                "docker run --security-opt seccomp=unconfined, if the agent's log says that one \
                was refused"
                    .to_string(),
            ),
        ),
    }
}

fn ptrace_scope() -> Found {
    match read("/proc/sys/kernel/yama/ptrace_scope").as_deref() {
        Some(scope @ ("2" | "3")) => Less(
            format!("{scope}: programs that are started can be traced, running ones only by root"),
            Some("sysctl kernel.yama.ptrace_scope=0".to_string()),
        ),
        Some("1") => Less(
            "1: programs that are started can be traced, running ones only by root".to_string(),
            Some("sysctl kernel.yama.ptrace_scope=0".to_string()),
        ),
        Some(scope) => Good(format!("{scope}: running processes of one's own can be traced")),
        None => {
            Good("no such restriction: running processes of one's own can be traced".to_string())
        }
    }
}

fn process(pid: u32) -> anyhow::Result<Vec<(&'static str, Found)>> {
    let status = read(&format!("/proc/{pid}/status"))
        .ok_or_else(|| Failure::error(USAGE, format!("no process {pid}")))?;
    let mut findings =
        vec![("process", Good(format!("{pid} is {}", field(&status, "Name:").unwrap_or("?"))))];
    findings.push(("attach", attach(pid)));
    let mut objects = Objects::default();
    match i32::try_from(pid).map_err(anyhow::Error::new).and_then(|pid| objects.add(pid)) {
        Ok(_) => findings.extend(of_process(objects)),
        Err(error) => findings.push((
            "its program",
            Stops(format!("{error:#}"), format!("sudo trapline doctor {pid}")),
        )),
    }
    Ok(findings)
}

/// Whether the process may be attached to.
fn attach(pid: u32) -> Found {
    let target = attached::probe(pid.cast_signed(), false);
    match target {
        Ok(_) => Good(format!("trapline stat -p {pid} SPEC")),
        Err(refused) => {
            let text = refused.to_string();
            let (what, fix) = text.split_once(": ").unwrap_or((&text, "name another process"));
            Stops(what.to_string(), fix.to_string())
        }
    }
}

/// What a running process has mapped.
fn of_process(objects: Objects) -> Vec<(&'static str, Found)> {
    let (unread, objects, mains) = objects.in_order();
    let mut findings = Vec::new();
    for main in &objects[..mains] {
        findings.push(("its program", Good(main.path.display().to_string())));
        findings.push(("symbols", symbols(main)));
        let known = CLibrary::of_program(&main.elf);
        findings.push((
            "C library",
            if known == Some(CLibrary::Go) {
                Good("none: Go's own runtime, whose threads are looked at again".to_string())
            } else if known.is_some() || main.elf.interpreter().is_none() {
                Good("looked at again in every thread, when it is attached to".to_string())
            } else {
                Less("neither glibc nor musl by its loader: it is refused".to_string(), None)
            },
        ));
    }
    findings.extend(without_symbols(&objects[mains..]));
    if !unread.is_empty() {
        findings.push(("files", Less(format!("cannot be read: {}", unread.join(", ")), None)));
    }
    findings
}

fn program(command: &std::ffi::OsStr) -> Vec<(&'static str, Found)> {
    let program = match Program::find(command) {
        Ok(program) => program,
        Err(error) => {
            let text = error.to_string();
            let (what, fix) = text.split_once("; ").unwrap_or((&text, "name another program"));
            return vec![("program", Stops(what.to_string(), fix.to_string()))];
        }
    };
    let mut findings = vec![("program", Good(program.object.path.display().to_string()))];
    if program.object.elf.shadow_stack() {
        findings.push((
            "shadow stack",
            Good(
                "built to work with one; used only where GLIBC_TUNABLES or the kernel turns it on"
                    .to_string(),
            ),
        ));
    }
    findings.push(("symbols", symbols(&program.object)));
    let libraries = closure(&program.object, &Environment::current());
    findings.extend(without_symbols(&libraries));
    findings
}

fn without_symbols(libraries: &[Object]) -> Option<(&'static str, Found)> {
    let without: Vec<&str> = libraries
        .iter()
        .filter(|library| library.table().sites().next().is_none())
        .map(Object::name)
        .collect();
    let found = || ("libraries", Less(format!("no symbols in {}", without.join(", ")), None));
    (!without.is_empty()).then(found)
}

fn symbols(object: &Object) -> Found {
    let table = object.table();
    let mut kinds: BTreeMap<bool, usize> = BTreeMap::new();
    for site in table.sites() {
        *kinds.entry(site[0].kind == crate::symbols::table::SymbolKind::Function).or_default() += 1;
    }
    let (named, unnamed) = (kinds.get(&true).copied().unwrap_or(0), table.unnamed().len());
    let from =
        object.debug_file().map(|file| format!(" (with {})", file.display())).unwrap_or_default();
    let text = format!("{named} functions with names, {unnamed} without{from}");
    if unnamed > named {
        let fix = "install its debug symbols (Debian: apt install PACKAGE-dbgsym), or build it \
            without strip";
        return Less(format!("{text}: those are called func@0x1234"), Some(fix.to_string()));
    }
    Good(text)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_string())
}

/// The value of a line of `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}
