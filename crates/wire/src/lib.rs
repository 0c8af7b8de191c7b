//! The segment of shared memory through which the command line tells agents what to probe, and
//! agents tell what they counted.
//!
//! The command line makes a [`Segment`] in a file, of which a [`Descriptor`] is all that is needed,
//! adds [`Function`]s object by object, and starts the program; the agent inside maps the file,
//! probes what belongs to the objects that it finds, and counts into blocks (a [`Thread`]'s
//! [`cell`]s). Nothing is streamed: whoever maps the file reads the counts at any time, also after
//! the program was killed.
//!
//! # Trust
//! Each side checks everything it reads: sizes are read and validated once, when the segment is
//! opened, and kept privately; every access is checked against the mapping. Hostile contents give
//! wrong numbers, never a wild access.
//!
//! # Layout
//! | part | what | written by |
//! |---|---|---|
//! | header | magic, version, sizes; control word; losses; log path | command line; agents add losses and bytes |
//! | objects | device, inode, build-id, path, range of functions | command line |
//! | functions | address, size, kind, cell; state and reason | command line; agents |
//! | plans | how the functions of each object are probed | command line |
//! | processes | pid, parent, what was armed and how long it took, program | agents |
//! | requests | objects that appeared, and the answer | agents; command line |
//! | reasons | texts | agents |
//! | modules | device, inode, build-id, path of files that stacks go through | agents |
//! | meta | what the recording is of | command line |
//! | depot, counts | distinct stacks, and how often each thread met them | agents |
//! | blocks | thread, then its cells | agents |
//!
//! # Without a C library
//! Everything here works without `std` and asks the kernel itself: agents are in processes whose C
//! library may be probed, interposed, or not there. It needs an allocator. The feature `std` (on by
//! default) adds what connects it to the standard library: a `&File` is a [`Descriptor`], and
//! errors are in the C library's words.
//!
//! # Examples
//! ```
//! use wire::{Function, Identity, Kind, Segment, Shape, cell};
//!
//! let path = std::env::temp_dir().join(format!("wire-example-{}", std::process::id()));
//! let mut options = std::fs::File::options();
//! let file = options.read(true).write(true).create(true).truncate(true).open(&path)?;
//! let shape = Shape {
//!     objects: 8,
//!     functions: 64,
//!     blocks: 4,
//!     cell_bytes: 1 << 16,
//!     budget: 64 << 20,
//!     per_thread: false,
//!     scarce: false,
//!     stacks: None,
//! };
//! let ours = Segment::create(&file, shape)?;
//! let cell = ours.add_cell(cell::COUNT_BYTES)?;
//! let kind = Kind::Count;
//! let function =
//!     Function { address: 0x1139, size: 40, after: 8, offset: 0, kind, returns: true, cell };
//! ours.add_function(0, &function)?;
//! ours.add_object(&Identity { ino: 7, ..Identity::default() }, 0..1, &[])?;
//!
//! let theirs = Segment::from_file(&file)?;
//! let file = Identity { ino: 7, ..Identity::default() };
//! let object = theirs.find_object(&file).expect("known by its inode");
//! assert_eq!(theirs.functions_of(object), 0..1);
//! # std::fs::remove_file(path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod cell;
pub mod hook;
pub mod image;

mod block;
mod blocks;
mod c_library;
mod descriptor;
mod entry_only;
mod error;
mod function;
mod futex;
mod layout;
mod lock;
mod loss;
mod memory;
mod module;
mod object;
mod owner;
mod process;
mod quiet;
mod request;
mod segment;
mod spaces;
mod stacks;
mod view;

pub use block::{Counts, Thread};
pub use c_library::{NEEDS_TRAP, OVERWRITTEN, WATCHED, is_c_library};
pub use descriptor::Descriptor;
pub use entry_only::{is_entry_only, looks_at_caller};
pub use error::Error;
pub use function::{Function, Kind, State};
pub use layout::{Shape, Stacks, VERSION};
pub use loss::Loss;
pub use module::Frame;
pub use object::{BUILD_ID_ROOM, Identity, build_id_in};
pub use owner::Owner;
pub use process::Process;
pub use request::{Patience, Request, What};
pub use segment::{Files, NOT_FOLLOWED, Segment};
pub use spaces::Places;
pub use stacks::{GONE, NoStack, StackCell, StackCount, StackOwner, StackTable, StackTime};
pub use view::View;

/// A file for a segment of a test's own.
#[cfg(test)]
#[allow(unsafe_code)]
fn test_file() -> Descriptor<'static> {
    let file = sys::file::memfd_create(c"wire-test", sys::file::MFD_CLOEXEC).expect("memory");
    // SAFETY: just opened, and never closed.
    unsafe { Descriptor::borrow(file) }
}
