//! What the format can say and the library that writes it cannot: inlined functions at their
//! address, source lines, files, and weights of more than 32 bits.

use crate::model::recording::{Line, Recording, Weight};
use serde_json::{Value, json};
use std::collections::HashMap;

/// A function at a frame: the frame's own, or one that is inlined there.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// Index of the frame in the recording.
    pub(super) frame: usize,
    pub(super) module: Option<usize>,
    pub(super) name: String,
    address: u64,
    /// 0 for the frame's own function.
    depth: usize,
    file: Option<&'a str>,
    line: Option<u32>,
}

impl<'a> Place<'a> {
    /// Those of all frames, outermost first.
    pub(super) fn all(recording: &'a Recording) -> Vec<Self> {
        let of_frame = |(index, frame): (usize, &'a crate::model::recording::Frame)| {
            let names = frame.names(recording).into_iter().enumerate();
            names.map(move |(depth, name)| {
                let symbol = frame.symbols.iter().rev().nth(depth);
                Self {
                    frame: index,
                    module: frame.module.map(|module| module as usize),
                    name,
                    address: frame.place(),
                    depth,
                    file: symbol.and_then(|symbol| symbol.file.as_deref()),
                    line: symbol.and_then(|symbol| symbol.line),
                }
            })
        };
        recording.frames.iter().enumerate().flat_map(of_frame).collect()
    }
}

/// What one thread of the profile shows.
#[derive(Debug)]
pub(super) struct Track<'a> {
    pub(super) process: u32,
    pub(super) process_name: String,
    pub(super) thread: u32,
    pub(super) name: String,
    pub(super) lines: Vec<Line<'a>>,
}

/// Replaces the indices of places that stand for addresses and those of tracks that stand for
/// names, and adds what is known about them.
pub(super) fn complete(
    profile: &mut Value,
    recording: &Recording,
    places: &[Place<'_>],
    tracks: &[Track<'_>],
) -> anyhow::Result<()> {
    profile["meta"]["extra"] = extra(recording);
    for thread in profile["threads"].as_array_mut().into_iter().flatten() {
        let index: usize = thread["name"].as_str().unwrap_or_default().parse()?;
        let track = &tracks[index];
        thread["name"] = json!(track.name);
        thread["isMainThread"] = json!(track.thread == track.process);
        complete_thread(thread, recording.header.weight, places, &track.lines)?;
    }
    Ok(())
}

fn complete_thread(
    thread: &mut Value,
    weight: Weight,
    places: &[Place<'_>],
    lines: &[Line<'_>],
) -> anyhow::Result<()> {
    let serials: Vec<i64> = serde_json::from_value(thread["frameTable"]["address"].take())?;
    let functions: Vec<usize> = serde_json::from_value(thread["frameTable"]["func"].clone())?;
    let mut strings: Vec<String> = serde_json::from_value(thread["stringArray"].take())?;
    let mut files: Vec<Option<usize>> =
        serde_json::from_value(thread["funcTable"]["fileName"].take())?;
    let mut known: HashMap<&str, usize> = HashMap::new();
    let found: Vec<Option<&Place<'_>>> =
        serials.iter().map(|&serial| places.get(usize::try_from(serial).ok()?)).collect();
    for (place, function) in found.iter().zip(functions) {
        // Functions of one name in one library are one to the library that writes this; the first
        // one's file is shown.
        let (Some(file), None) = (place.and_then(|place| place.file), files[function]) else {
            continue;
        };
        files[function] = Some(*known.entry(file).or_insert_with(|| {
            strings.push(file.to_string());
            strings.len() - 1
        }));
    }
    let table = &mut thread["frameTable"];
    table["address"] =
        found.iter().map(|place| place.map_or(json!(-1), |place| json!(place.address))).collect();
    table["inlineDepth"] =
        found.iter().map(|place| json!(place.map_or(0, |place| place.depth))).collect();
    table["line"] = found.iter().map(|place| json!(place.and_then(|place| place.line))).collect();
    // Where functions begin and how long they are is not recorded.
    table["nativeSymbol"] = found.iter().map(|_| Value::Null).collect();
    thread["nativeSymbols"] =
        json!({ "length": 0, "address": [], "functionSize": [], "libIndex": [], "name": [] });
    thread["funcTable"]["fileName"] = json!(files);
    thread["stringArray"] = json!(strings);

    let samples = &mut thread["samples"];
    samples["weight"] = match weight {
        Weight::Calls => lines.iter().map(|line| line.weight).collect(),
        Weight::Time => lines.iter().map(|line| line.weight as f64 / 1e6).collect(),
    };
    if let Some(samples) = samples.as_object_mut() {
        // All zero, it would be drawn as a thread that does nothing.
        samples.remove("threadCPUDelta");
    }
    Ok(())
}

/// What the profiler shows under "More info".
fn extra(recording: &Recording) -> Value {
    let header = &recording.header;
    let entry =
        |label: &str, value: String| json!({ "label": label, "format": "string", "value": value });
    let mut entries = vec![
        entry("Command", header.command_line()),
        entry("Probed", header.specs.join(" ")),
        entry("Machine", format!("{}, Linux {}", header.host, header.kernel)),
        entry("Stacks", header.stack.clone()),
    ];
    let losses = [
        ("Stacks cut off", recording.cuts()),
        ("Without a stack", by_reason(&recording.no_stack.reasons)),
        ("Not counted", by_reason(&recording.lost)),
    ];
    for (label, reasons) in losses {
        entries.extend(
            reasons.into_iter().map(|(reason, count)| entry(label, format!("{count} ({reason})"))),
        );
    }
    json!([{ "label": format!("Trapline {}", header.trapline), "entries": entries }])
}

fn by_reason(
    reasons: &std::collections::BTreeMap<String, u64>,
) -> std::collections::BTreeMap<&str, u64> {
    reasons.iter().map(|(reason, &count)| (&**reason, count)).collect()
}
