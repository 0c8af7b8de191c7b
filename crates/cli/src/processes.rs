//! Running processes that are to be looked at: by number, by the name of their program.

use crate::args::ProcessArgs;
use crate::exit::{Failure, USAGE};
use crate::pattern::Pattern;
use crate::sys;
use crate::text::visible;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A process, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    /// The name of its first thread, of at most 15 bytes.
    comm: String,
    /// The file name of the first word of its command line; empty: a thread of the kernel's, or one
    /// that has ended.
    command: String,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let folder = Path::new("/proc").join(pid.to_string());
        let stat = fs::read(folder.join("stat")).ok()?;
        // The name stands in parentheses, and may have more of them in it.
        let behind = stat.iter().rposition(|byte| *byte == b')')?;
        let fields = String::from_utf8_lossy(stat.get(behind + 1..)?);
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let comm = String::from_utf8_lossy(&fs::read(folder.join("comm")).ok()?).into_owned();
        let line = fs::read(folder.join("cmdline")).unwrap_or_default();
        let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
        let first = if matches!(state, "Z" | "X") { &[] } else { first };
        Some(Self {
            pid,
            parent,
            comm: comm.trim_end_matches('\n').to_string(),
            command: program(first),
        })
    }
}

/// The program's name in the first word of a command line. Programs that write their state there
/// (`postgres: checkpointer`, `redis-server *:6379`) are called what stands in front of it.
fn program(word: &[u8]) -> String {
    let word = String::from_utf8_lossy(word);
    let word = word.split(": ").next().unwrap_or_default().trim_end_matches(':');
    let name = word.rsplit('/').next().unwrap_or_default();
    let name = name.split(' ').next().unwrap_or_default();
    // A shell that was logged in with.
    name.strip_prefix('-').unwrap_or(name).to_string()
}

/// The numbers of the processes that are meant, each once, in the order in which they were named.
///
/// # Errors
/// A pattern that is none, and names that no process has.
pub(crate) fn chosen(args: &ProcessArgs) -> anyhow::Result<Vec<i32>> {
    let mut found: Vec<i32> = args.pid.clone();
    if !args.name.is_empty() || !args.comm.is_empty() {
        let patterns = args.name.iter().map(|text| Pattern::new(text));
        let patterns = patterns.collect::<anyhow::Result<Vec<_>>>()?;
        let all = all();
        let own = with_ancestors(&all, std::process::id().cast_signed());
        let others: Vec<&Process> = all
            .iter()
            .filter(|process| !process.command.is_empty() && !own.contains(&process.pid))
            .collect();
        for pattern in &patterns {
            let is = |process: &Process| {
                pattern.matches(&process.command) || pattern.matches(&process.comm)
            };
            take(&others, is, ("--name", pattern.text()), &mut found)?;
        }
        for name in &args.comm {
            take(&others, |process| process.comm == *name, ("--comm", name), &mut found)?;
        }
    }
    let mut known = BTreeSet::new();
    found.retain(|pid| known.insert(*pid));
    Ok(found)
}

fn take(
    others: &[&Process],
    is: impl Fn(&Process) -> bool,
    (option, text): (&str, &str),
    found: &mut Vec<i32>,
) -> anyhow::Result<()> {
    let before = found.len();
    found.extend(others.iter().filter(|process| is(process)).map(|process| process.pid));
    if found.len() == before {
        let text = visible(text);
        let message = format!(
            "no running process is called '{text}' ({option}); `ps -eo pid,comm` lists them"
        );
        return Err(Failure::error(USAGE, message));
    }
    Ok(())
}

/// All processes, by number.
fn all() -> Vec<Process> {
    all_numbers().into_iter().filter_map(Process::read).collect()
}

/// The numbers of all processes, ascending.
pub(crate) fn all_numbers() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let number = |entry: fs::DirEntry| {
        std::str::from_utf8(entry.file_name().as_bytes()).ok()?.parse::<i32>().ok()
    };
    let mut pids: Vec<i32> = entries.filter_map(number).collect();
    pids.sort_unstable();
    pids
}

/// A process and those that have started it: whoever names a pattern does not mean the shell that
/// it stands in.
fn with_ancestors(all: &[Process], pid: i32) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    let mut next = Some(pid);
    while let Some(pid) = next.filter(|pid| found.insert(*pid)) {
        next = all.iter().find(|process| process.pid == pid).map(|process| process.parent);
    }
    found
}

/// The folder in /proc of a thread of the process that lives: that of the process shows nothing
/// once its first thread has ended. It is the one that has lived for the longest: of threads that
/// come and go, another one might have ended before its folder is used.
pub(crate) fn folder(pid: i32) -> PathBuf {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let lives = |folder: &PathBuf| fs::read_link(folder.join("exe")).is_ok();
    if lives(&process) {
        return process;
    }
    let living = || {
        let tasks = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
        let living = tasks.map(|task| task.path()).filter(lives);
        living.min_by_key(|folder| started(folder).unwrap_or(u64::MAX))
    };
    while_it_lives(pid, living).unwrap_or(process)
}

/// What a look at the threads of a process finds, whose first one has ended. All that are listed
/// may end before they are looked at, and leave others: then it is looked again, as long as there
/// can be some.
fn while_it_lives<T>(pid: i32, look: impl Fn() -> Option<T>) -> Option<T> {
    /// Nothing may be said of threads that are there, too.
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        let goes_on = sys::goes_on_without_its_first_thread(pid.cast_unsigned());
        let found = look();
        if found.is_some() || !goes_on {
            return found;
        }
        std::thread::yield_now();
    }
    None
}

/// When a process or thread was started, in ticks since the machine was.
fn started(folder: &Path) -> Option<u64> {
    let stat = fs::read(folder.join("stat")).ok()?;
    // The name is in parentheses, and may hold any byte. Behind it is the third field, and the time
    // is the 22nd (proc_pid_stat(5)).
    let behind = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(&stat[behind + 1..]).ok()?;
    fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// A process's list of mappings (proc_pid_maps(5)): that of a thread which lives, where the first
/// has ended. Empty: it is ending.
///
/// # Errors
/// It is not there, or may not be looked at.
pub(crate) fn maps(pid: i32) -> std::io::Result<Vec<u8>> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    match fs::read(process.join("maps")) {
        // Some kernels show an empty list of a thread that has ended, others none.
        Ok(own) if own.is_empty() => {}
        Err(why) if why.raw_os_error() == Some(libc::ESRCH) => {}
        own => return own,
    }
    let list = || {
        let tasks = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
        let mut lists = tasks.flat_map(|task| fs::read(task.path().join("maps")));
        lists.find(|list| !list.is_empty())
    };
    fs::read_dir(process.join("task"))?;
    Ok(while_it_lives(pid, list).unwrap_or_default())
}

/// What a process is called, for people.
pub(crate) fn name(pid: i32) -> String {
    Process::read(pid).map_or_else(String::new, |process| process.comm)
}

/// Whether it is a trapline that has not ended.
pub(crate) fn is_trapline(pid: i32) -> bool {
    !sys::is_dead(pid.cast_unsigned()) && name(pid) == "trapline"
}

/// What its program is called by whoever has started it.
pub(crate) fn program_name(pid: i32) -> String {
    Process::read(pid).map_or_else(String::new, |process| process.command)
}

/// What is traced, as a command: what was given, or the command line of the first process.
pub(crate) fn command(pids: &[i32], given: &[OsString]) -> Vec<OsString> {
    pids.first().map_or_else(|| given.to_vec(), |pid| command_line(*pid))
}

/// The words of a process's command line.
fn command_line(pid: i32) -> Vec<OsString> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    line.split(|byte| *byte == 0).map(|word| OsStr::from_bytes(word).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Process, chosen, command_line, folder, name, program, started, with_ancestors};
    use crate::args::ProcessArgs;
    use std::process::{Child, Command};

    /// A process of ours that sleeps, called `name`.
    struct Sleeper(Child);

    impl Sleeper {
        fn called(name: &str) -> Self {
            use std::os::unix::process::CommandExt as _;
            Self(Command::new("sleep").arg0(name).arg("1000").spawn().expect("sleep"))
        }

        fn pid(&self) -> i32 {
            self.0.id().cast_signed()
        }
    }

    /// Of threads whose names look like more of the file.
    #[test]
    fn threads_are_as_old_as_they_are() {
        let own = folder(std::process::id().cast_signed());
        let first = started(&own).expect("a time");
        let thread = std::thread::Builder::new().name("a) S (1 2 3".to_owned());
        // Longer than a tick, so that it is later.
        std::thread::sleep(std::time::Duration::from_millis(30));
        let later = thread.spawn(|| started("/proc/thread-self".as_ref())).expect("a thread");
        assert!(later.join().expect("no panic").is_some_and(|later| later > first));
        assert_eq!(started(&own.join("none")), None);
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn named(names: &[&str]) -> ProcessArgs {
        ProcessArgs {
            name: names.iter().map(ToString::to_string).collect(),
            ..ProcessArgs::default()
        }
    }

    #[test]
    fn names_of_programs() {
        for (word, expected) in [
            ("/usr/bin/redis-server", "redis-server"),
            ("postgres: checkpointer ", "postgres"),
            ("nginx: master process /usr/sbin/nginx", "nginx"),
            ("redis-server *:6379", "redis-server"),
            ("/usr/bin/redis-server 127.0.0.1:6379", "redis-server"),
            ("-bash", "bash"),
            ("", ""),
        ] {
            assert_eq!(program(word.as_bytes()), expected, "{word}");
        }
    }

    #[test]
    fn by_pattern_and_by_number() {
        let sleepers = ["/x/trapline-test-one", "trapline-test-two"].map(Sleeper::called);
        let [one, two] = [sleepers[0].pid(), sleepers[1].pid()];
        let pids = |args: &ProcessArgs| chosen(args).expect("found");
        assert_eq!(pids(&named(&["trapline-test-o*"])), [one]);
        let mut both = pids(&named(&["/trapline-test-(one|two)/", "trapline-test-one"]));
        both.sort_unstable();
        let mut expected = [one, two];
        expected.sort_unstable();
        assert_eq!(both, expected);
        let numbers = ProcessArgs { pid: vec![two, one, two], ..ProcessArgs::default() };
        assert_eq!(pids(&numbers), [two, one]);
        let comm = ProcessArgs { comm: vec!["sleep".to_string()], ..ProcessArgs::default() };
        assert!(pids(&comm).contains(&one) && name(one) == "sleep");
        assert_eq!(command_line(one), ["/x/trapline-test-one", "1000"]);
    }

    #[test]
    fn what_nobody_is_called() {
        let error = chosen(&named(&["nosuch-trapline*"])).expect_err("nobody").to_string();
        assert!(error.contains("'nosuch-trapline*' (--name)"), "{error}");
        let comm = ProcessArgs { comm: vec!["slee".to_string()], ..ProcessArgs::default() };
        assert!(chosen(&comm).is_err(), "exact");
        assert!(chosen(&named(&["/(/"])).is_err(), "no regular expression");
    }

    #[test]
    fn neither_this_process_nor_who_started_it() {
        let process =
            |pid, parent| Process { pid, parent, comm: String::new(), command: String::new() };
        let all = [process(1, 0), process(5, 1), process(6, 5), process(7, 1)];
        assert_eq!(with_ancestors(&all, 6), [0, 1, 5, 6].into());
        // Two that are each other's parents, as could be read while numbers are given again.
        let all = [process(5, 6), process(6, 5)];
        assert_eq!(with_ancestors(&all, 6), [5, 6].into());
        let own = std::process::id().cast_signed();
        let own_name = program(command_line(own)[0].as_encoded_bytes());
        let found = chosen(&named(&[&own_name])).unwrap_or_default();
        assert!(!found.contains(&own));
    }
}
