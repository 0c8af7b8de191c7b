//! A profile for `go tool pprof` and all that reads its format:
//! <https://github.com/google/pprof/blob/main/proto/profile.proto>, compressed by gzip.

mod proto;

use crate::model::recording::{Frame, Recording, Symbol, Thread, Weight};
use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

/// The bytes of the file.
pub(crate) fn render(recording: &Recording) -> anyhow::Result<Vec<u8>> {
    let mut file = GzEncoder::new(Vec::new(), Compression::default());
    file.write_all(&profile(recording).encode_to_vec())?;
    Ok(file.finish()?)
}

fn profile(recording: &Recording) -> Profile {
    let header = &recording.header;
    let mut writer = Writer::new(recording);
    let labels: Vec<Vec<Label>> =
        recording.threads.iter().map(|thread| writer.labels(thread)).collect();
    let mut sample: BTreeMap<(Vec<u64>, Vec<Label>), Vec<i64>> = BTreeMap::new();
    for (thread, line) in recording.lines_by_thread() {
        let root = line.root.as_deref().map(|name| writer.placeholder(name));
        let location_id =
            line.frames.iter().rev().map(|&at| writer.location(at)).chain(root).collect();
        let value = match header.weight {
            Weight::Calls => vec![signed(line.calls)],
            Weight::Time => vec![signed(line.calls), signed(line.weight)],
        };
        let label = thread.map_or(Vec::new(), |thread| labels[thread as usize].clone());
        // Two stacks can have the same frames; as one sample they are smaller.
        let sum = sample.entry((location_id, label)).or_insert_with(|| vec![0; value.len()]);
        sum.iter_mut().zip(value).for_each(|(sum, value)| *sum = sum.saturating_add(value));
    }
    let sample = sample.into_iter();
    writer.profile.sample =
        sample.map(|((location_id, label), value)| Sample { location_id, value, label }).collect();

    let calls = ValueType { r#type: writer.string("calls"), unit: writer.string("count") };
    let time = ValueType { r#type: writer.string("time"), unit: writer.string("nanoseconds") };
    let (types, preferred) = match header.weight {
        Weight::Calls => (vec![calls], calls),
        Weight::Time => (vec![calls, time], time),
    };
    let comment = comments(recording).iter().map(|text| writer.string(text)).collect();
    Profile {
        sample_type: types,
        time_nanos: signed(header.started.saturating_mul(1_000_000_000)),
        duration_nanos: signed(header.elapsed_ns),
        // Every hit is recorded.
        period_type: Some(calls),
        period: 1,
        comment,
        default_sample_type: preferred.r#type,
        ..writer.profile
    }
}

/// What the samples do not say, a line each.
fn comments(recording: &Recording) -> Vec<String> {
    let header = &recording.header;
    let mut lines =
        vec![format!("trapline {} on {}, Linux {}", header.trapline, header.host, header.kernel)];
    lines.extend(
        (!header.command.is_empty()).then(|| format!("command: {}", header.command_line())),
    );
    lines.extend((!header.specs.is_empty()).then(|| format!("probed: {}", header.specs.join(" "))));
    lines.extend((!header.stack.is_empty()).then(|| format!("stacks: {}", header.stack)));
    lines.extend(
        recording
            .cuts()
            .into_iter()
            .map(|(reason, count)| format!("stacks cut off: {count} ({reason})")),
    );
    lines.extend(
        recording
            .no_stack
            .reasons
            .iter()
            .map(|(reason, count)| format!("without a stack: {count} ({reason})")),
    );
    lines.extend(
        recording.lost.iter().map(|(reason, count)| format!("not counted: {count} ({reason})")),
    );
    lines.extend(
        header.recovered.then(|| "recovered from a run that did not end by itself".to_string()),
    );
    lines
}

/// The profile under construction, and what is in it already.
struct Writer<'a> {
    recording: &'a Recording,
    profile: Profile,
    strings: HashMap<String, i64>,
    /// By name, file and module.
    functions: HashMap<(String, String, u64), u64>,
    /// By index of the frame.
    frames: HashMap<u32, u64>,
    placeholders: HashMap<String, u64>,
}

impl<'a> Writer<'a> {
    fn new(recording: &'a Recording) -> Self {
        let mut writer = Self {
            recording,
            profile: Profile::default(),
            strings: HashMap::new(),
            functions: HashMap::new(),
            frames: HashMap::new(),
            placeholders: HashMap::new(),
        };
        writer.string("");
        for (index, module) in recording.modules.iter().enumerate() {
            let frames = || {
                recording.frames.iter().filter(|frame| frame.module == u32::try_from(index).ok())
            };
            // Readers want an address range, and a place in it for each location.
            let memory_start = frames().map(Frame::place).min().unwrap_or(0) & !0xfff;
            let memory_limit =
                (frames().map(Frame::place).max().unwrap_or(0) | 0xfff).saturating_add(1);
            let symbols = || frames().flat_map(|frame| &frame.symbols);
            let mapping = Mapping {
                id: index as u64 + 1,
                memory_start,
                memory_limit,
                file_offset: memory_start,
                filename: writer.string(&module.path),
                build_id: writer.string(&module.build_id),
                // Nobody has to look for symbols again: what is missing here was not found.
                has_functions: true,
                has_filenames: symbols().any(|symbol| symbol.file.is_some()),
                has_line_numbers: symbols().any(|symbol| symbol.line.is_some()),
                has_inline_frames: frames().any(|frame| frame.symbols.len() > 1),
            };
            writer.profile.mapping.push(mapping);
        }
        writer
    }

    /// The index of a string.
    fn string(&mut self, text: &str) -> i64 {
        if let Some(&at) = self.strings.get(text) {
            return at;
        }
        let at = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_string());
        self.strings.insert(text.to_string(), at);
        at
    }

    /// What tags show of a thread. Numbers are texts, too: they are no quantities.
    fn labels(&mut self, thread: &Thread) -> Vec<Label> {
        let number = |n: u32| if n == 0 { String::new() } else { n.to_string() };
        let all = [
            ("process", thread.process_name.clone()),
            ("pid", number(thread.process)),
            ("thread", thread.thread_name.clone()),
            ("tid", number(thread.thread)),
        ];
        all.iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(key, text)| Label { key: self.string(key), str: self.string(text) })
            .collect()
    }

    fn location(&mut self, at: u32) -> u64 {
        if let Some(&id) = self.frames.get(&at) {
            return id;
        }
        let recording = self.recording;
        let frame = &recording.frames[at as usize];
        let mapping_id = frame.module.map_or(0, |module| u64::from(module) + 1);
        let line = if frame.symbols.is_empty() {
            let name = frame.names(recording).concat();
            vec![Line {
                function_id: self.function(&Symbol { name, ..Symbol::default() }, mapping_id, 0),
                line: 0,
            }]
        } else {
            let entry = entry_line(frame);
            frame
                .symbols
                .iter()
                .map(|symbol| Line {
                    function_id: self.function(symbol, mapping_id, entry),
                    line: symbol.line.map_or(0, i64::from),
                })
                .collect()
        };
        let id = self.add_location(mapping_id, frame.place(), line);
        self.frames.insert(at, id);
        id
    }

    /// A location that stands for what is not known.
    fn placeholder(&mut self, name: &str) -> u64 {
        if let Some(&id) = self.placeholders.get(name) {
            return id;
        }
        let function_id =
            self.function(&Symbol { name: name.to_string(), ..Symbol::default() }, 0, 0);
        let id = self.add_location(0, 0, vec![Line { function_id, line: 0 }]);
        self.placeholders.insert(name.to_string(), id);
        id
    }

    fn add_location(&mut self, mapping_id: u64, address: u64, line: Vec<Line>) -> u64 {
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, mapping_id, address, line });
        id
    }

    fn function(&mut self, symbol: &Symbol, mapping_id: u64, start_line: i64) -> u64 {
        let file = symbol.file.clone().unwrap_or_default();
        let key = (symbol.name.clone(), file, mapping_id);
        let id = match self.functions.get(&key) {
            Some(&id) => id,
            None => {
                let id = self.profile.function.len() as u64 + 1;
                let (name, filename) = (self.string(&symbol.name), self.string(&key.1));
                // The mangled name is not known. Where it is said to be the same, pprof takes
                // templates and overloads for one function.
                self.profile.function.push(Function {
                    id,
                    name,
                    system_name: 0,
                    filename,
                    start_line: 0,
                });
                self.functions.insert(key, id);
                id
            }
        };
        if start_line > 0 {
            self.profile.function[id as usize - 1].start_line = start_line;
        }
        id
    }
}

/// The line that a function begins in, where the frame is a function's entry; 0 where that is not
/// known.
fn entry_line(frame: &Frame) -> i64 {
    match &frame.symbols[..] {
        [only] if !frame.returns => only.line.map_or(0, i64::from),
        _ => 0,
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::proto::{Label, Location, Profile};
    use super::{profile, render};
    use crate::model::file::tests::sample;
    use crate::model::recording::{Recording, Weight};
    use flate2::read::GzDecoder;
    use prost::Message;
    use std::collections::BTreeMap;
    use std::io::Read;

    fn read(bytes: &[u8]) -> Profile {
        let mut payload = Vec::new();
        GzDecoder::new(bytes).read_to_end(&mut payload).unwrap();
        Profile::decode(&*payload).unwrap()
    }

    fn string(profile: &Profile, at: i64) -> &str {
        &profile.string_table[usize::try_from(at).unwrap()]
    }

    /// The names of a location, innermost first.
    fn names<'a>(profile: &'a Profile, location: &'a Location) -> Vec<&'a str> {
        let functions =
            location.line.iter().map(|line| &profile.function[line.function_id as usize - 1]);
        functions.map(|function| string(profile, function.name)).collect()
    }

    /// Stacks as text, outermost first, with their values; checks all references on the way.
    fn stacks(profile: &Profile) -> BTreeMap<String, Vec<i64>> {
        assert_eq!(profile.string_table[0], "");
        for (at, function) in profile.function.iter().enumerate() {
            assert_eq!(function.id, at as u64 + 1);
            string(profile, function.filename);
        }
        for (at, mapping) in profile.mapping.iter().enumerate() {
            assert_eq!(mapping.id, at as u64 + 1);
        }
        for (at, location) in profile.location.iter().enumerate() {
            assert_eq!(location.id, at as u64 + 1);
            if let Some(mapping) = location.mapping_id.checked_sub(1) {
                let mapping = &profile.mapping[mapping as usize];
                assert!(
                    (mapping.memory_start..mapping.memory_limit).contains(&location.address),
                    "{location:?} in {mapping:?}"
                );
            }
        }
        let mut stacks = BTreeMap::new();
        for (stack, _, value) in samples(profile) {
            assert_eq!(value.len(), profile.sample_type.len());
            let sums = stacks.entry(stack).or_insert_with(|| vec![0; value.len()]);
            sums.iter_mut().zip(value).for_each(|(sum, value)| *sum += value);
        }
        stacks
    }

    /// Each sample with its stack, outermost first, and its labels.
    fn samples(profile: &Profile) -> Vec<(String, Vec<String>, Vec<i64>)> {
        let each = profile.sample.iter().map(|sample| {
            let locations = sample.location_id.iter().map(|id| &profile.location[*id as usize - 1]);
            let mut names: Vec<&str> =
                locations.flat_map(|location| names(profile, location)).collect();
            names.reverse();
            let label = |label: &Label| {
                format!("{}={}", string(profile, label.key), string(profile, label.str))
            };
            (names.join(";"), sample.label.iter().map(label).collect(), sample.value.clone())
        });
        each.collect()
    }

    #[test]
    fn samples_say_whose_they_are() {
        let mut recording = sample();
        recording.threads[1].thread_name = String::new();
        let profile = profile(&recording);
        let of = |wanted: &str| {
            let all = samples(&profile).into_iter().filter(|(stack, ..)| stack == wanted);
            let mut all: Vec<_> =
                all.map(|(_, labels, value)| (labels.join(" "), value[0])).collect();
            all.sort();
            all
        };
        let (first, second) =
            ("process=server pid=10 thread=server tid=10", "process=server pid=10 tid=11");
        let owned = |all: &[(&str, i64)]| -> Vec<(String, i64)> {
            all.iter().map(|(labels, calls)| ((*labels).to_string(), *calls)).collect()
        };
        assert_eq!(of("a+0x1000;main;f;malloc"), owned(&[(first, 1), (second, 2)]));
        assert_eq!(of("a+0x1000;main;g<int>;malloc"), owned(&[(second, 4)]));
        assert_eq!(of("[no stack];malloc"), owned(&[("", 2)]));
        // In files of versions that did not keep threads.
        recording.threads.clear();
        recording.stacks.iter_mut().for_each(|stack| stack.threads.clear());
        assert!(super::profile(&recording).sample.iter().all(|sample| sample.label.is_empty()));
    }

    #[test]
    fn all_stacks_are_there_with_their_calls() {
        let profile = read(&render(&sample()).unwrap());
        let expected = [
            ("[no stack];malloc", 2),
            ("[no unwind information];main;g<int>;malloc", 1),
            ("a+0x1000;main;f;malloc", 3),
            ("a+0x1000;main;g<int>;malloc", 4),
        ];
        assert_eq!(
            stacks(&profile),
            expected.map(|(stack, calls)| (stack.to_string(), vec![calls])).into()
        );
        assert_eq!(string(&profile, profile.default_sample_type), "calls");
        assert_eq!(
            (profile.time_nanos, profile.duration_nanos),
            (1_700_000_000_000_000_000, 1_500_000_000)
        );
        let mapping = &profile.mapping[0];
        assert_eq!(
            (string(&profile, mapping.filename), string(&profile, mapping.build_id)),
            ("/bin/a", "abcd")
        );
        assert!(
            mapping.has_functions
                && mapping.has_filenames
                && mapping.has_line_numbers
                && mapping.has_inline_frames
        );
        let malloc = profile
            .function
            .iter()
            .find(|function| string(&profile, function.name) == "malloc")
            .unwrap();
        assert_eq!((string(&profile, malloc.filename), malloc.start_line), ("/src/a.c", 10));
        // The address is that of the call, and the inlined function comes first.
        let inlined = profile.location.iter().find(|location| location.line.len() > 1).unwrap();
        assert_eq!((inlined.address, names(&profile, inlined)), (0x11ff, vec!["g<int>", "main"]));
        let comments: Vec<&str> = profile.comment.iter().map(|&at| string(&profile, at)).collect();
        for expected in [
            "command: ./a -x",
            "probed: libc:malloc",
            "stacks cut off: 1 (no unwind information)",
            "without a stack: 2 (full)",
        ] {
            assert!(comments.contains(&expected), "{expected} in {comments:?}");
        }
    }

    #[test]
    fn times_come_beside_calls() {
        let mut recording = sample();
        recording.header.weight = Weight::Time;
        let profile = profile(&recording);
        let sums = stacks(&profile)
            .values()
            .fold((0, 0), |sum, value| (sum.0 + value[0], sum.1 + value[1]));
        assert_eq!(sums, (10, 1000));
        let types: Vec<(&str, &str)> = profile
            .sample_type
            .iter()
            .map(|t| (string(&profile, t.r#type), string(&profile, t.unit)))
            .collect();
        assert_eq!(types, [("calls", "count"), ("time", "nanoseconds")]);
        assert_eq!(string(&profile, profile.default_sample_type), "time");
    }

    #[test]
    fn extremes_are_survived() {
        let mut recording = sample();
        recording.stacks[0].calls = u64::MAX;
        recording.stacks.push(recording.stacks[0].clone());
        recording.frames[0].address = u64::MAX;
        recording.frames[1].address = 0;
        recording.header.started = u64::MAX;
        assert_eq!(
            profile(&recording).sample.iter().map(|sample| sample.value[0]).max(),
            Some(i64::MAX)
        );
        assert!(profile(&Recording::default()).sample.is_empty());
    }

    /// `go tool pprof` with some arguments on a recording; none without Go.
    fn go(recording: &Recording, arguments: &[&str]) -> Option<String> {
        let present = std::process::Command::new("go")
            .arg("version")
            .output()
            .is_ok_and(|output| output.status.success());
        if !present {
            crate::missing::missing("go");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pb.gz");
        std::fs::write(&path, render(recording).unwrap()).unwrap();
        let mut command = std::process::Command::new("go");
        command
            .args(["tool", "pprof"])
            .args(arguments)
            .arg(&path)
            .env("PPROF_TMPDIR", directory.path())
            .env("HOME", directory.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn go_shows_the_same_totals() {
        let Some(top) = go(&sample(), &["-top", "-nodecount=99"]) else { return };
        assert!(top.contains("Type: calls") && top.contains("of 10 total"), "{top}");
        let cumulated = |name: &str| -> Vec<String> {
            let row = top
                .lines()
                .find(|line| line.split_whitespace().nth(5) == Some(name))
                .unwrap_or_else(|| panic!("{name} in {top}"));
            row.split_whitespace().map(str::to_string).collect()
        };
        assert_eq!(
            (&*cumulated("malloc")[0], &*cumulated("main")[3], &*cumulated("f")[3]),
            ("10", "8", "3")
        );
        let raw = go(&sample(), &["-raw"]).unwrap();
        assert!(
            raw.contains("g<int> /src/a.c:31") && raw.contains("/bin/a abcd [FN][FL][LN][IN]"),
            "{raw}"
        );
        let comments = go(&sample(), &["-comments"]).unwrap();
        assert!(comments.contains("probed: libc:malloc"), "{comments}");
        let tags = go(&sample(), &["-tags"]).unwrap();
        for text in ["thread: Total 8", "(75.00%): worker", "(25.00%): server", "tid: Total 8"] {
            assert!(tags.contains(text), "{text} in {tags}");
        }
        let mut timed = sample();
        timed.header.weight = Weight::Time;
        let top = go(&timed, &["-top", "-nodecount=99"]).unwrap();
        assert!(top.contains("Type: time") && top.contains("of 1000ns total"), "{top}");
        let traces = go(&timed, &["-traces", "-sample_index=calls"]).unwrap();
        assert!(traces.contains("[no stack]"), "{traces}");
    }
}
