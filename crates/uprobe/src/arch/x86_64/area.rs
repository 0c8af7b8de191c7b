//! The area of return instances: 16 MiB of code and, at a constant distance, 16 MiB of records.
//!
//! A timed call returns to a stub of its own: 64 bytes of code whose record lies at the same offset
//! in the other half. As the distance is constant, all stubs have the same bytes, so that one small
//! file, mapped again and again, is the whole code half ([`map`]).
//!
//! ```text
//!  0  call [rip + record.target]      the return address lands where the program's own one was
//!  6  lea rsp, [rsp - 8]              (nothing of the program's flags or registers is touched)
//! 11  push rax
//! 12  lea rax, [rip + record]
//! 19  jmp [rip + record.on_return]
//! ```
//!
//! It has two bodies: in the object that the engine is linked into, whose loader shows it to
//! unwinders (`linked`), and none (`none`), in an image that no loader knows: exceptions could not
//! pass through its stubs. There are no return instances then.

#[cfg(feature = "std")]
mod linked;
#[cfg(not(feature = "std"))]
mod none;
mod size;

#[cfg(feature = "std")]
use linked as place;
#[cfg(not(feature = "std"))]
use none as place;

pub(crate) use place::{EXIST, code, map, offset_of, records};
pub(crate) use size::{HALF, RETURN, STUB};
