//! Our side: a recording, read from its file without help of the tool's own code.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::stack::{Place, Stack, Stacks};
use crate::common::process::{run, trapline};

/// The compiler's own start files have a function without unwind information. Stacks of what it
/// calls end there.
const NOT_DESCRIBED: [&str; 1] = ["__do_global_dtors_aux"];

/// A parsed recording.
pub(crate) struct Recorded(Value);

impl Recorded {
    /// Reads a `.tlp` file, and checks what holds for each recording here: nothing is lost, nothing
    /// cut, and it all adds up.
    pub(crate) fn read(path: &Path) -> Self {
        let mut file = BufReader::new(std::fs::File::open(path).expect("a recording"));
        let mut line = String::new();
        file.read_line(&mut line).expect("a first line");
        assert_eq!(line, "trapline recording 1\n");
        let recorded =
            Self(serde_json::from_reader(flate2::bufread::GzDecoder::new(file)).expect("JSON"));
        recorded.check();
        recorded
    }

    /// Records a run of `program` that exits with 0.
    pub(crate) fn run(options: &[&str], program: &Command) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("stacks.tlp");
        let mut command = trapline();
        command
            .arg("record")
            .args(options)
            .arg("-o")
            .arg(&file)
            .arg("--")
            .arg(program.get_program())
            .args(program.get_args());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let finished = run(&mut command, b"");
        assert_eq!(finished.code, 0, "{options:?}\n{}\n{}", finished.stdout, finished.stderr);
        Self::read(&file)
    }

    fn array(&self, name: &str) -> &[Value] {
        self.0[name].as_array().expect("an array")
    }

    /// The name of a frame's function: of a stack's innermost frame, the probed one's.
    fn function(&self, frame: &Value) -> String {
        let symbols = self.frame(frame)["symbols"].as_array();
        symbols.and_then(|all| all.last()?["name"].as_str()).unwrap_or_default().to_owned()
    }

    fn frame(&self, index: &Value) -> &Value {
        &self.0["frames"][index.as_u64().expect("an index") as usize]
    }

    fn check(&self) {
        let mut accounted: BTreeMap<String, u64> = BTreeMap::new();
        let mut cut = Vec::new();
        for stack in self.array("stacks") {
            let frames = stack["frames"].as_array().expect("frames");
            *accounted.entry(self.function(&frames[0])).or_default() +=
                stack["calls"].as_u64().expect("calls");
            if stack["cut"].as_str().is_some_and(|cut| !cut.is_empty())
                && !NOT_DESCRIBED.contains(&&*self.function(&frames[frames.len() - 1]))
            {
                cut.push(format!("{} {:?}", stack["cut"], self.stack(stack)));
            }
        }
        for entry in self.0["no_stack"]["functions"].as_array().expect("an array") {
            *accounted.entry(self.function(&entry[0])).or_default() +=
                entry[1].as_u64().expect("calls");
        }
        let mut called: BTreeMap<String, u64> = BTreeMap::new();
        for function in self.array("functions") {
            *called.entry(function["name"].as_str().expect("a name").to_owned()).or_default() +=
                function["calls"].as_u64().expect("calls");
        }
        assert_eq!(accounted, called, "stacks and what had none add up to the calls");
        assert!(cut.is_empty(), "{} stacks are cut, the first: {}", cut.len(), cut[0]);
        assert_eq!(self.0["no_stack"]["functions"], Value::Array(vec![]), "{}", self.0["no_stack"]);
        let lost = self.0["lost"].as_object().expect("an object");
        assert!(lost.values().all(|n| n == 0), "{lost:?}");
    }

    fn place(&self, frame: &Value) -> Place {
        let frame = self.frame(frame);
        let path = frame["module"]
            .as_u64()
            .map(|index| self.0["modules"][index as usize]["path"].as_str().expect("a path"));
        // The process has its libraries by the names that they were asked for by; the maps, which
        // gdb's side reads, have the files.
        let file = path.map(|path| Path::new(path).canonicalize().unwrap_or_else(|_| path.into()));
        let name = file
            .as_ref()
            .map_or("", |file| file.file_name().and_then(|name| name.to_str()).expect("a name"));
        Place {
            file: name.to_owned(),
            address: frame["address"].as_u64().expect("an address"),
            exact: frame["returns"] == false,
        }
    }

    fn stack(&self, stack: &Value) -> Stack {
        stack["frames"].as_array().expect("frames").iter().map(|frame| self.place(frame)).collect()
    }

    /// The stacks of some of the functions.
    pub(crate) fn stacks_of(&self, functions: &[&str]) -> Stacks {
        let mut stacks = Stacks::new();
        for stack in self
            .array("stacks")
            .iter()
            .filter(|stack| functions.contains(&&*self.function(&stack["frames"][0])))
        {
            *stacks.entry(self.stack(stack)).or_default() +=
                stack["calls"].as_u64().expect("calls");
        }
        stacks
    }

    /// What is known of a place, for messages.
    pub(crate) fn name(&self, place: &Place) -> String {
        let frames = self.array("frames").iter().enumerate();
        let found = frames
            .map(|(index, frame)| (Value::from(index), frame))
            .find(|(index, _)| self.place(index) == *place);
        found.map_or_else(String::new, |(_, frame)| {
            let names = frame["symbols"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|symbol| symbol["name"].as_str());
            names.collect::<Vec<_>>().join(" in ")
        })
    }
}
