//! The recording in a segment that was left behind: by a run of `--segment`, or by a trapline that
//! was killed.

use super::collect::{Known, collect};
use crate::clock::Clock;
use crate::exit::{Failure, USAGE};
use crate::model::meta::Meta;
use crate::model::recording::Recording;
use crate::names;
use crate::run::tables::Tables;
use crate::symbols::object::Object;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a segment begins with.
const MAGIC: &[u8] = b"TRAPLINE";

/// Whether a file begins as a segment does.
pub(super) fn is_segment(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// Makes a recording of what a segment has now. Its program may still run.
///
/// # Errors
/// One line that says what is wrong with the file.
pub(super) fn recover(path: &Path) -> anyhow::Result<Recording> {
    let refuse = |why: String| Failure::error(USAGE, format!("{}: {why}", path.display()));
    let clock = Clock::start();
    let tables = Tables::open(path).map_err(|error| refuse(format!("{:#}", error.root_cause())))?;
    let segment = &tables.segment;
    if segment.stacks().is_none() {
        return Err(refuse("a segment of `trapline stat`: it has no stacks".to_string()));
    }
    let meta: Meta = serde_json::from_slice(&segment.meta()).unwrap_or_default();
    let mut header = meta.header();
    header.recovered = true;
    let mut objects = HashMap::new();
    let functions =
        (0..segment.functions_len()).map(|index| name(&tables, index, &mut objects)).collect();
    Ok(collect(
        &tables,
        Known {
            header,
            functions,
            called: HashMap::new(),
            skipped: Vec::new(),
            also_inlined: (Vec::new(), false),
            ns_per_tick: clock.ns_per_tick(),
        },
    ))
}

/// Object and name of a function, from the file if it is still there.
fn name(
    tables: &Tables,
    index: usize,
    objects: &mut HashMap<usize, Option<Object>>,
) -> (String, String) {
    let segment = &tables.segment;
    let Some((function, number)) = segment.function(index).zip(segment.object_of(index)) else {
        return Default::default();
    };
    let address = function.address.wrapping_add(u64::from(function.offset));
    let identity = segment.object(number).unwrap_or_default();
    let path = Path::new(OsStr::from_bytes(&identity.path));
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let object = objects.entry(number).or_insert_with(|| {
        let same = |object: &Object| {
            (object.device, object.inode) == (identity.dev, identity.ino)
                || object.elf.build_id() == Some(&identity.build_id)
        };
        Object::open(path).ok().and_then(Result::ok).filter(same)
    });
    let found =
        object.as_ref().and_then(|object| object.table().name_at(address)).map(names::display);
    (file, found.unwrap_or_else(|| format!("func@{address:#x}")))
}
