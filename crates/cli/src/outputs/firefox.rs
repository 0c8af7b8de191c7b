//! A profile for <https://profiler.firefox.com>, in its processed format
//! (<https://github.com/firefox-devtools/profiler/blob/main/docs-developer/processed-profile-format.md>).
//!
//! Each thread has its stacks, each as one sample with its weight. Their times mean nothing: a
//! recording counts stacks and keeps no order, so the samples are spread evenly. What no thread is
//! known of (hits without a stack, recordings of old versions) is in one of its own.

mod complete;

use crate::model::counters::sum;
use crate::model::recording::{Line, Recording, Weight};
use complete::{Place, Track, complete};
use fxprof_processed_profile::debugid::DebugId;
use fxprof_processed_profile::{
    CategoryColor, CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, LibraryHandle,
    LibraryInfo, ProcessHandle, Profile, ReferenceTimestamp, SamplingInterval, Symbol, SymbolTable,
    Timestamp, WeightType,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Threads that are shown at first: the others are in the menu of tracks.
const MOST_SHOWN: usize = 20;

/// Those the profiler has; grey means "other".
const COLORS: [CategoryColor; 9] = [
    CategoryColor::Blue,
    CategoryColor::Green,
    CategoryColor::Orange,
    CategoryColor::Purple,
    CategoryColor::Yellow,
    CategoryColor::LightBlue,
    CategoryColor::Red,
    CategoryColor::Brown,
    CategoryColor::Magenta,
];

/// The bytes of the file.
pub(crate) fn render(recording: &Recording) -> anyhow::Result<Vec<u8>> {
    let header = &recording.header;
    let tracks = tracks(recording);
    let all: usize = tracks.iter().map(|track| track.lines.len()).sum();
    let between = |samples: usize| header.elapsed_ns / (samples as u64).max(1);
    let started = ReferenceTimestamp::from_millis_since_unix_epoch(header.started as f64 * 1000.0);
    let name =
        if header.command.is_empty() { "trapline".to_string() } else { header.command_line() };
    let interval = SamplingInterval::from_nanos(between(all).max(1));
    let mut profile = Profile::new(&name, started, interval);
    profile.set_os_name(&format!("Linux {}", header.kernel));
    profile.set_symbolicated(true);
    let start = Timestamp::from_nanos_since_reference(0);
    let end = Timestamp::from_nanos_since_reference(header.elapsed_ns);
    let weight_type = match header.weight {
        Weight::Time => WeightType::TracingMs,
        Weight::Calls => WeightType::Samples,
    };
    let mut processes: HashMap<u32, ProcessHandle> = HashMap::new();
    let mut threads = Vec::new();
    for (index, track) in tracks.iter().enumerate() {
        let process = *processes.entry(track.process).or_insert_with(|| {
            let process = profile.add_process(&track.process_name, track.process, start);
            profile.set_process_end_time(process, end);
            process
        });
        let thread = profile.add_thread(process, track.thread, start, false);
        // [`complete()`] finds it by this name, in whatever order they are written.
        profile.set_thread_name(thread, &index.to_string());
        profile.set_thread_samples_weight_type(thread, weight_type.clone());
        threads.push(thread);
    }
    for at in by_weight(&tracks).into_iter().take(MOST_SHOWN) {
        profile.add_initial_visible_thread(threads[at]);
    }
    by_weight(&tracks)
        .first()
        .into_iter()
        .for_each(|at| profile.add_initial_selected_thread(threads[*at]));

    let places = Place::all(recording);
    let frames = frames(&mut profile, recording, &places)?;
    for (track, thread) in tracks.iter().zip(threads) {
        let between = between(track.lines.len());
        for (at, line) in (0..).zip(&track.lines) {
            let root =
                line.root.as_ref().map(|name| label(&mut profile, name, CategoryHandle::OTHER));
            let inner = line.frames.iter().flat_map(|&at| frames[at as usize].iter().cloned());
            let stack: Vec<FrameInfo> = root.into_iter().chain(inner).collect();
            let stack = profile.intern_stack_frames(thread, stack.into_iter());
            // The weight follows below: here it could have 32 bits.
            profile.add_sample(
                thread,
                Timestamp::from_nanos_since_reference(at * between),
                stack,
                CpuDelta::ZERO,
                1,
            );
        }
    }

    let mut profile = serde_json::to_value(&profile)?;
    complete(&mut profile, recording, &places, &tracks)?;
    Ok(crate::text::to_json(&profile)?.into_bytes())
}

/// The tracks of a recording: one for each thread that has samples, and one for what is nobody's.
fn tracks(recording: &Recording) -> Vec<Track<'_>> {
    let header = &recording.header;
    let mut of_thread: BTreeMap<Option<u32>, Vec<Line<'_>>> = BTreeMap::new();
    for (thread, line) in recording.lines_by_thread() {
        of_thread.entry(thread).or_default().push(line);
    }
    let program =
        header.command.first().map_or("trapline", |path| path.rsplit('/').next().unwrap_or(path));
    // A number of no process, and of no thread.
    let nobody = |lines, name: &str| Track {
        process: 1,
        process_name: program.to_string(),
        thread: 1,
        name: name.to_string(),
        lines,
    };
    if recording.threads.is_empty() {
        // One process and one thread stand for all.
        return vec![nobody(of_thread.into_values().flatten().collect(), program)];
    }
    let track = |(thread, lines): (Option<u32>, _)| {
        let Some(thread) = thread.and_then(|at| recording.threads.get(at as usize)) else {
            return nobody(lines, "(thread not known)");
        };
        let named = |name: &str, number: u32, several: &str| match (name, number) {
            ("", 0) => several.to_string(),
            ("", number) => number.to_string(),
            (name, _) => name.to_string(),
        };
        Track {
            process: thread.process,
            process_name: named(&thread.process_name, thread.process, "(several processes)"),
            thread: thread.thread,
            name: named(&thread.thread_name, thread.thread, "(several threads)"),
            lines,
        }
    };
    of_thread.into_iter().map(track).collect()
}

/// Tracks, the heaviest first.
fn by_weight(tracks: &[Track<'_>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tracks.len()).collect();
    let weight = |at: &usize| sum(tracks[*at].lines.iter().map(|line| line.weight));
    order.sort_by_key(|at| std::cmp::Reverse(weight(at)));
    order
}

/// What is shown of each of the recording's frames, outermost first. Instead of an address it has
/// its place's index, which [`complete()`] replaces.
fn frames(
    profile: &mut Profile,
    recording: &Recording,
    places: &[Place<'_>],
) -> anyhow::Result<Vec<Vec<FrameInfo>>> {
    let modules: Vec<(LibraryHandle, CategoryHandle)> = (0..recording.modules.len())
        .map(|module| {
            let color = COLORS[module % COLORS.len()];
            (
                profile.add_lib(library(recording, module, places)),
                profile.add_category(recording.modules[module].name(), color),
            )
        })
        .collect();
    let mut frames = vec![Vec::new(); recording.frames.len()];
    for (serial, place) in places.iter().enumerate() {
        let frame = match place.module {
            Some(module) => {
                let (library, category) = modules[module];
                let frame =
                    Frame::RelativeAddressFromInstructionPointer(library, u32::try_from(serial)?);
                FrameInfo { frame, category_pair: category.into(), flags: FrameFlags::empty() }
            }
            None => label(profile, &place.name, CategoryHandle::OTHER),
        };
        frames[place.frame].push(frame);
    }
    Ok(frames)
}

fn label(profile: &mut Profile, name: &str, category: CategoryHandle) -> FrameInfo {
    FrameInfo {
        frame: Frame::Label(profile.intern_string(name)),
        category_pair: category.into(),
        flags: FrameFlags::empty(),
    }
}

/// A module, and as its symbols the names of its places.
fn library(recording: &Recording, index: usize, places: &[Place<'_>]) -> LibraryInfo {
    let module = &recording.modules[index];
    let of_module = (0..).zip(places).filter(|(_, place)| place.module == Some(index));
    let symbols = of_module
        .map(|(serial, place)| Symbol { address: serial, size: Some(1), name: place.name.clone() })
        .collect();
    LibraryInfo {
        name: module.name().to_string(),
        debug_name: module.name().to_string(),
        path: module.path.clone(),
        debug_path: module.path.clone(),
        debug_id: debug_id(&module.build_id),
        code_id: Some(module.build_id.clone()).filter(|id| !id.is_empty()),
        arch: Some("x86_64".to_string()),
        symbol_table: Some(Arc::new(SymbolTable::new(symbols))),
    }
}

/// A build identifier as Breakpad writes it: the first 16 bytes as a GUID, whose first three parts
/// are little-endian.
fn debug_id(build_id: &str) -> DebugId {
    let mut guid = [0; 16];
    for (at, byte) in guid.iter_mut().enumerate() {
        *byte = build_id
            .get(at * 2..at * 2 + 2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .unwrap_or(0);
    }
    DebugId::from_guid_age(&guid, 0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::model::file::tests::sample;
    use crate::model::recording::{Recording, Weight};
    use serde_json::Value;
    use std::collections::BTreeMap;

    fn read(recording: &Recording) -> Value {
        serde_json::from_slice(&render(recording).unwrap()).unwrap()
    }

    /// The column of a table. All columns of a table are as long as it says.
    fn column<'a>(table: &'a Value, name: &str) -> &'a [Value] {
        let column =
            table[name].as_array().unwrap_or_else(|| panic!("no column {name} in {table}"));
        assert_eq!(column.len() as u64, table["length"].as_u64().unwrap(), "{name}");
        column
    }

    /// Checks that a column holds indices of `length` things; nothing stands for null or -1 where
    /// that is allowed.
    fn indices(table: &Value, name: &str, length: usize, optional: bool) -> Vec<Option<usize>> {
        let each = column(table, name).iter().map(|value| match value.as_u64() {
            Some(at) => {
                assert!((at as usize) < length, "{name} has {at} of {length}");
                Some(at as usize)
            }
            None => {
                assert!(
                    optional && (value.is_null() || value.as_i64() == Some(-1)),
                    "{name} has {value}"
                );
                None
            }
        });
        each.collect()
    }

    fn length(value: &Value) -> usize {
        value.as_array().map_or_else(|| value["length"].as_u64().unwrap() as usize, Vec::len)
    }

    /// What the profiler would show of all threads: weights by stack, a line
    /// `name (library file:line +depth address)` for each frame. Follows every index on the way.
    fn stacks(profile: &Value) -> BTreeMap<String, f64> {
        let mut all = BTreeMap::new();
        for thread in profile["threads"].as_array().unwrap() {
            for (stack, weight) in stacks_of(profile, thread) {
                *all.entry(stack).or_insert(0.0) += weight;
            }
        }
        all
    }

    fn stacks_of(profile: &Value, thread: &Value) -> BTreeMap<String, f64> {
        let (strings, libs, categories) =
            (&thread["stringArray"], &profile["libs"], &profile["meta"]["categories"]);
        let [stack_table, frame_table, func_table, resource_table, native_symbols, samples] =
            ["stackTable", "frameTable", "funcTable", "resourceTable", "nativeSymbols", "samples"]
                .map(|table| &thread[table]);
        let string = |at: usize| strings[at].as_str().unwrap();

        let prefix = indices(stack_table, "prefix", length(stack_table), true);
        let frame = indices(stack_table, "frame", length(frame_table), false);
        assert!(
            prefix.iter().enumerate().all(|(at, prefix)| prefix.is_none_or(|prefix| prefix < at)),
            "callers come before their callees"
        );
        let func = indices(frame_table, "func", length(func_table), false);
        let category = indices(frame_table, "category", length(categories), false);
        for (at, subcategory) in column(frame_table, "subcategory").iter().enumerate() {
            assert!(
                (subcategory.as_u64().unwrap() as usize)
                    < length(&categories[category[at].unwrap()]["subcategories"])
            );
        }
        indices(frame_table, "nativeSymbol", length(native_symbols), true);
        indices(native_symbols, "libIndex", length(libs), false);
        indices(native_symbols, "name", length(strings), false);
        let (address, depth, line) = (
            column(frame_table, "address"),
            column(frame_table, "inlineDepth"),
            column(frame_table, "line"),
        );
        for name in ["column", "innerWindowID"] {
            column(frame_table, name);
        }
        let name = indices(func_table, "name", length(strings), false);
        let file = indices(func_table, "fileName", length(strings), true);
        let resource = indices(func_table, "resource", length(resource_table), true);
        for name in ["isJS", "relevantForJS"] {
            assert!(column(func_table, name).iter().all(|value| value == false));
        }
        for name in ["lineNumber", "columnNumber"] {
            column(func_table, name);
        }
        let lib = indices(resource_table, "lib", length(libs), true);
        indices(resource_table, "name", length(strings), false);
        assert!(column(resource_table, "type").iter().all(|kind| kind == 1), "libraries only");
        column(resource_table, "host");

        let show = |at: usize| {
            let func = func[at].unwrap();
            let lib = resource[func]
                .map_or("-", |resource| libs[lib[resource].unwrap()]["name"].as_str().unwrap());
            let file = file[func].map_or("-", string);
            format!(
                "{} ({lib} {file}:{} +{} {})",
                string(name[func].unwrap()),
                line[at],
                depth[at],
                address[at]
            )
        };
        let mut stacks = BTreeMap::new();
        let stack = indices(samples, "stack", length(stack_table), true);
        let (deltas, weights) = (column(samples, "timeDeltas"), column(samples, "weight"));
        for (sample, stack) in stack.into_iter().enumerate() {
            let path: Vec<String> = std::iter::successors(stack, |&at| prefix[at])
                .map(|at| show(frame[at].unwrap()))
                .collect();
            assert!(deltas[sample].as_f64().unwrap() >= 0.0);
            *stacks.entry(path.into_iter().rev().collect::<Vec<_>>().join("\n")).or_insert(0.0) +=
                weights[sample].as_f64().unwrap();
        }
        stacks
    }

    #[test]
    fn all_tables_hold_together_and_the_stacks_are_there() {
        let profile = read(&sample());
        let main = "main (a /src/a.c:30 +0 4607)\ng<int> (a /src/a.c:31 +1 4607)";
        let malloc = "malloc (libc.so.6 /src/a.c:10 +0 36864)";
        let outermost = "a+0x1000 (a -:null +0 4095)";
        let expected = [
            (format!("[no stack] (- -:null +0 -1)\n{malloc}"), 2.0),
            (format!("[no unwind information] (- -:null +0 -1)\n{main}\n{malloc}"), 1.0),
            (
                format!(
                    "{outermost}\nmain (a /src/a.c:33 +0 4863)\nf (a /src/a.c:20 +0 4351)\n{malloc}"
                ),
                3.0,
            ),
            (format!("{outermost}\n{main}\n{malloc}"), 4.0),
        ];
        assert_eq!(stacks(&profile), expected.into());
    }

    #[test]
    fn threads_have_their_names_and_their_samples() {
        let mut recording = sample();
        // Many, of two processes: in whatever order they are written.
        let mut thread = recording.threads[1].clone();
        for n in 0..12 {
            (thread.process, thread.thread) = (9 - n % 2, 100 + n);
            (thread.process_name, thread.thread_name) = (format!("p{}", n % 2), format!("t{n}"));
            recording.threads.push(thread.clone());
            recording.stacks[0].calls += u64::from(n) + 20;
            recording.stacks[0].threads.push((n + 2, u64::from(n) + 20, 0));
        }
        let profile = read(&recording);
        let mut seen = BTreeMap::new();
        for thread in profile["threads"].as_array().unwrap() {
            let text = |field: &str| thread[field].as_str().unwrap().to_string();
            let key = [text("processName"), text("pid"), text("name"), text("tid")].join(" ");
            let sum = stacks_of(&profile, thread).values().sum::<f64>();
            assert_eq!(thread["isMainThread"], text("pid") == text("tid"), "{key}");
            assert!(seen.insert(key, sum).is_none());
        }
        let mut expected: BTreeMap<String, f64> = (0..12)
            .map(|n| (format!("p{} {} t{n} {}", n % 2, 9 - n % 2, 100 + n), 20.0 + f64::from(n)))
            .collect();
        expected.insert("server 10 server 10".to_string(), 2.0);
        expected.insert("server 10 worker 11".to_string(), 6.0);
        expected.insert("a 1 (thread not known) 1".to_string(), 2.0);
        assert_eq!(seen, expected);
        let selected = profile["meta"]["initialSelectedThreads"][0].as_u64().unwrap() as usize;
        assert_eq!(profile["threads"][selected]["name"], "t11");
        // In files of versions that did not keep threads: one for all.
        recording.threads.clear();
        recording.stacks.iter_mut().for_each(|stack| stack.threads.clear());
        let profile = read(&recording);
        assert_eq!((length(&profile["threads"]), &profile["threads"][0]["name"]), (1, &"a".into()));
    }

    #[test]
    fn meta_is_what_the_profiler_asks_for() {
        let profile = read(&sample());
        let meta = &profile["meta"];
        assert!(meta["version"].is_u64() && meta["preprocessedProfileVersion"].is_u64());
        assert!(
            meta["interval"].as_f64().unwrap() > 0.0
                && meta["startTime"].as_f64() == Some(1_700_000_000_000.0)
        );
        assert_eq!((&meta["product"], &meta["symbolicated"]), (&"./a -x".into(), &true.into()));
        assert!(meta["markerSchema"].is_array() && meta["extensions"]["length"] == 0);
        let categories: Vec<&str> = meta["categories"]
            .as_array()
            .unwrap()
            .iter()
            .map(|category| category["name"].as_str().unwrap())
            .collect();
        assert_eq!(categories, ["Other", "a", "libc.so.6"]);
        assert_eq!(meta["categories"][0]["color"], "grey");
        let probed = meta["extra"][0]["entries"]
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["label"] == "Probed")
            .unwrap();
        assert_eq!(
            (&probed["format"], &probed["value"]),
            (&"string".into(), &"libc:malloc".into())
        );
        let lib =
            profile["libs"].as_array().unwrap().iter().find(|lib| lib["name"] == "a").unwrap();
        assert_eq!((&lib["path"], &lib["codeId"]), (&"/bin/a".into(), &"abcd".into()));
        let thread = &profile["threads"][0];
        for name in [
            "processType",
            "processStartupTime",
            "registerTime",
            "pausedRanges",
            "name",
            "isMainThread",
            "pid",
            "tid",
            "markers",
        ] {
            assert!(!thread[name].is_null(), "{name}");
        }
        assert!(thread["samples"]["threadCPUDelta"].is_null(), "it would be shown as no activity");
    }

    #[test]
    fn weights_add_up() {
        let mut recording = sample();
        recording.stacks[0].calls = 1 << 40;
        let profile = read(&recording);
        assert_eq!(profile["threads"][0]["samples"]["weightType"], "samples");
        assert_eq!(stacks(&profile).values().sum::<f64>(), recording.total() as f64);
        let mut recording = sample();
        recording.header.weight = Weight::Time;
        let profile = read(&recording);
        assert_eq!(profile["threads"][0]["samples"]["weightType"], "tracing-ms");
        let milliseconds = stacks(&profile).values().sum::<f64>();
        assert!((milliseconds * 1e6 - recording.total() as f64).abs() < 1e-3, "{milliseconds}");
    }

    #[test]
    fn frames_without_a_module_and_nothing_at_all_are_shown() {
        let mut recording = sample();
        recording.frames[4].module = None;
        assert!(
            stacks(&read(&recording))
                .keys()
                .any(|stack| stack.starts_with("0x1000 (- -:null +0 -1)\n"))
        );
        let empty = read(&Recording::default());
        assert!(stacks(&empty).is_empty());
        assert_eq!(length(&empty["threads"]), 1);
    }

    #[test]
    fn identifiers_are_those_of_breakpad() {
        assert_eq!(
            super::debug_id("b0ba3b4f06c4db6a3c05dc0c1f1c7f3a01020304").breakpad().to_string(),
            "4F3BBAB0C4066ADB3C05DC0C1F1C7F3A0"
        );
        for odd in ["", "abcd", "é", "zz", "abc"] {
            super::debug_id(odd);
        }
    }
}
