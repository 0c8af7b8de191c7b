//! A profile for <https://profiler.firefox.com>, in its processed format
//! (<https://github.com/firefox-devtools/profiler/blob/main/docs-developer/processed-profile-format.md>).
//!
//! One thread has all stacks, each as one sample with its weight. Their times mean nothing: a recording counts stacks and keeps no order, so the samples are spread evenly.

mod complete;

use crate::recording::{Recording, Weight};
use complete::{Place, complete};
use fxprof_processed_profile::debugid::DebugId;
use fxprof_processed_profile::{
    CategoryColor, CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, LibraryHandle, LibraryInfo, Profile, ReferenceTimestamp,
    SamplingInterval, Symbol, SymbolTable, Timestamp, WeightType,
};
use std::sync::Arc;

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
    let lines: Vec<_> = recording.lines().collect();
    let between = header.elapsed_ns / (lines.len() as u64).max(1);
    let started = ReferenceTimestamp::from_millis_since_unix_epoch(header.started as f64 * 1000.0);
    let name = if header.command.is_empty() { "trapline".to_string() } else { header.command_line() };
    let mut profile = Profile::new(&name, started, SamplingInterval::from_nanos(between.max(1)));
    profile.set_os_name(&format!("Linux {}", header.kernel));
    profile.set_symbolicated(true);
    let start = Timestamp::from_nanos_since_reference(0);
    let program = header.command.first().map_or("trapline", |path| path.rsplit('/').next().unwrap_or(path));
    // One process and one thread stand for all.
    let process = profile.add_process(program, 1, start);
    let thread = profile.add_thread(process, 1, start, true);
    profile.set_process_end_time(process, Timestamp::from_nanos_since_reference(header.elapsed_ns));
    profile.add_initial_visible_thread(thread);
    profile.add_initial_selected_thread(thread);
    let by_time = header.weight == Weight::Time;
    profile.set_thread_samples_weight_type(thread, if by_time { WeightType::TracingMs } else { WeightType::Samples });

    let places = Place::all(recording);
    let frames = frames(&mut profile, recording, &places)?;
    for (at, line) in (0..).zip(&lines) {
        let root = line.root.as_ref().map(|name| label(&mut profile, name, CategoryHandle::OTHER));
        let stack = root.into_iter().chain(line.frames.iter().flat_map(|&frame| frames[frame as usize].iter().cloned()));
        let stack: Vec<FrameInfo> = stack.collect();
        let stack = profile.intern_stack_frames(thread, stack.into_iter());
        // The weight follows below: here it could have 32 bits.
        profile.add_sample(thread, Timestamp::from_nanos_since_reference(at * between), stack, CpuDelta::ZERO, 1);
    }

    let weights: Vec<u64> = lines.iter().map(|line| line.weight).collect();
    let mut profile = serde_json::to_value(&profile)?;
    complete(&mut profile, recording, &places, &weights)?;
    Ok(serde_json::to_vec(&profile)?)
}

/// What is shown of each of the recording's frames, outermost first. Instead of an address it has its place's index, which [`complete()`] replaces.
fn frames(profile: &mut Profile, recording: &Recording, places: &[Place<'_>]) -> anyhow::Result<Vec<Vec<FrameInfo>>> {
    let modules: Vec<(LibraryHandle, CategoryHandle)> = (0..recording.modules.len())
        .map(|module| {
            let color = COLORS[module % COLORS.len()];
            (profile.add_lib(library(recording, module, places)), profile.add_category(recording.modules[module].name(), color))
        })
        .collect();
    let mut frames = vec![Vec::new(); recording.frames.len()];
    for (serial, place) in places.iter().enumerate() {
        let frame = match place.module {
            Some(module) => {
                let (library, category) = modules[module];
                let frame = Frame::RelativeAddressFromInstructionPointer(library, u32::try_from(serial)?);
                FrameInfo { frame, category_pair: category.into(), flags: FrameFlags::empty() }
            }
            None => label(profile, &place.name, CategoryHandle::OTHER),
        };
        frames[place.frame].push(frame);
    }
    Ok(frames)
}

fn label(profile: &mut Profile, name: &str, category: CategoryHandle) -> FrameInfo {
    FrameInfo { frame: Frame::Label(profile.intern_string(name)), category_pair: category.into(), flags: FrameFlags::empty() }
}

/// A module, and as its symbols the names of its places.
fn library(recording: &Recording, index: usize, places: &[Place<'_>]) -> LibraryInfo {
    let module = &recording.modules[index];
    let of_module = (0..).zip(places).filter(|(_, place)| place.module == Some(index));
    let symbols = of_module.map(|(serial, place)| Symbol { address: serial, size: Some(1), name: place.name.clone() }).collect();
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

/// A build identifier as Breakpad writes it: the first 16 bytes as a GUID, whose first three parts are little-endian.
fn debug_id(build_id: &str) -> DebugId {
    let mut guid = [0; 16];
    for (at, byte) in guid.iter_mut().enumerate() {
        *byte = build_id.get(at * 2..at * 2 + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).unwrap_or(0);
    }
    DebugId::from_guid_age(&guid, 0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::recording::file::tests::sample;
    use crate::recording::{Recording, Weight};
    use serde_json::Value;
    use std::collections::BTreeMap;

    fn read(recording: &Recording) -> Value {
        serde_json::from_slice(&render(recording).unwrap()).unwrap()
    }

    /// The column of a table. All columns of a table are as long as it says.
    fn column<'a>(table: &'a Value, name: &str) -> &'a [Value] {
        let column = table[name].as_array().unwrap_or_else(|| panic!("no column {name} in {table}"));
        assert_eq!(column.len() as u64, table["length"].as_u64().unwrap(), "{name}");
        column
    }

    /// Checks that a column holds indices of `length` things; nothing stands for null or -1 where that is allowed.
    fn indices(table: &Value, name: &str, length: usize, optional: bool) -> Vec<Option<usize>> {
        let each = column(table, name).iter().map(|value| match value.as_u64() {
            Some(at) => {
                assert!((at as usize) < length, "{name} has {at} of {length}");
                Some(at as usize)
            }
            None => {
                assert!(optional && (value.is_null() || value.as_i64() == Some(-1)), "{name} has {value}");
                None
            }
        });
        each.collect()
    }

    fn length(value: &Value) -> usize {
        value.as_array().map_or_else(|| value["length"].as_u64().unwrap() as usize, Vec::len)
    }

    /// What the profiler would show: weights by stack, a line `name (library file:line +depth address)` for each frame. Follows every index on the way.
    fn stacks(profile: &Value) -> BTreeMap<String, f64> {
        let thread = &profile["threads"][0];
        let (strings, libs, categories) = (&thread["stringArray"], &profile["libs"], &profile["meta"]["categories"]);
        let [stack_table, frame_table, func_table, resource_table, native_symbols, samples] =
            ["stackTable", "frameTable", "funcTable", "resourceTable", "nativeSymbols", "samples"].map(|table| &thread[table]);
        let string = |at: usize| strings[at].as_str().unwrap();

        let prefix = indices(stack_table, "prefix", length(stack_table), true);
        let frame = indices(stack_table, "frame", length(frame_table), false);
        assert!(prefix.iter().enumerate().all(|(at, prefix)| prefix.is_none_or(|prefix| prefix < at)), "callers come before their callees");
        let func = indices(frame_table, "func", length(func_table), false);
        let category = indices(frame_table, "category", length(categories), false);
        for (at, subcategory) in column(frame_table, "subcategory").iter().enumerate() {
            assert!((subcategory.as_u64().unwrap() as usize) < length(&categories[category[at].unwrap()]["subcategories"]));
        }
        indices(frame_table, "nativeSymbol", length(native_symbols), true);
        indices(native_symbols, "libIndex", length(libs), false);
        indices(native_symbols, "name", length(strings), false);
        let (address, depth, line) = (column(frame_table, "address"), column(frame_table, "inlineDepth"), column(frame_table, "line"));
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
            let lib = resource[func].map_or("-", |resource| libs[lib[resource].unwrap()]["name"].as_str().unwrap());
            let file = file[func].map_or("-", string);
            format!("{} ({lib} {file}:{} +{} {})", string(name[func].unwrap()), line[at], depth[at], address[at])
        };
        let mut stacks = BTreeMap::new();
        let stack = indices(samples, "stack", length(stack_table), true);
        let (deltas, weights) = (column(samples, "timeDeltas"), column(samples, "weight"));
        for (sample, stack) in stack.into_iter().enumerate() {
            let path: Vec<String> = std::iter::successors(stack, |&at| prefix[at]).map(|at| show(frame[at].unwrap())).collect();
            assert!(deltas[sample].as_f64().unwrap() >= 0.0);
            *stacks.entry(path.into_iter().rev().collect::<Vec<_>>().join("\n")).or_insert(0.0) += weights[sample].as_f64().unwrap();
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
            (format!("{outermost}\nmain (a /src/a.c:33 +0 4863)\nf (a /src/a.c:20 +0 4351)\n{malloc}"), 3.0),
            (format!("{outermost}\n{main}\n{malloc}"), 4.0),
        ];
        assert_eq!(stacks(&profile), expected.into());
    }

    #[test]
    fn meta_is_what_the_profiler_asks_for() {
        let profile = read(&sample());
        let meta = &profile["meta"];
        assert!(meta["version"].is_u64() && meta["preprocessedProfileVersion"].is_u64());
        assert!(meta["interval"].as_f64().unwrap() > 0.0 && meta["startTime"].as_f64() == Some(1_700_000_000_000.0));
        assert_eq!((&meta["product"], &meta["symbolicated"]), (&"./a -x".into(), &true.into()));
        assert!(meta["markerSchema"].is_array() && meta["extensions"]["length"] == 0);
        let categories: Vec<&str> =
            meta["categories"].as_array().unwrap().iter().map(|category| category["name"].as_str().unwrap()).collect();
        assert_eq!(categories, ["Other", "a", "libc.so.6"]);
        assert_eq!(meta["categories"][0]["color"], "grey");
        let probed = meta["extra"][0]["entries"].as_array().unwrap().iter().find(|entry| entry["label"] == "Probed").unwrap();
        assert_eq!((&probed["format"], &probed["value"]), (&"string".into(), &"libc:malloc".into()));
        let lib = profile["libs"].as_array().unwrap().iter().find(|lib| lib["name"] == "a").unwrap();
        assert_eq!((&lib["path"], &lib["codeId"]), (&"/bin/a".into(), &"abcd".into()));
        let thread = &profile["threads"][0];
        for name in ["processType", "processStartupTime", "registerTime", "pausedRanges", "name", "isMainThread", "pid", "tid", "markers"] {
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
        assert!(stacks(&read(&recording)).keys().any(|stack| stack.starts_with("0x1000 (- -:null +0 -1)\n")));
        let empty = read(&Recording::default());
        assert!(stacks(&empty).is_empty());
        assert_eq!(length(&empty["threads"]), 1);
    }

    #[test]
    fn identifiers_are_those_of_breakpad() {
        assert_eq!(super::debug_id("b0ba3b4f06c4db6a3c05dc0c1f1c7f3a01020304").breakpad().to_string(), "4F3BBAB0C4066ADB3C05DC0C1F1C7F3A0");
        for odd in ["", "abcd", "é", "zz", "abc"] {
            super::debug_id(odd);
        }
    }
}
