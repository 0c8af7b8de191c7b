//! The payload of a recording, unpacked within bounds: a small file that unpacks to more than the
//! machine has is no recording.

use flate2::bufread::GzDecoder;
use std::fs::{File, Metadata};
use std::io::{BufRead, Error, Read};

/// Longest payload, in bytes. The largest recordings of the largest programs are a tenth of it.
const LONGEST: u64 = 1 << 30;
/// Recordings are text with many numbers in it, and get about ten times smaller. Beyond
/// [`ANY_RATIO`], what gets so many times smaller is something else.
const MOST_RATIO: u64 = 64;
/// Bytes that a file of any length may unpack to.
const ANY_RATIO: u64 = 16 << 20;
/// Most memory that the values in it may take, in bytes.
const MOST_MEMORY: u64 = 4 << 30;
/// Bytes that a value takes at least, whatever it is, beside its text. Commas count values.
const VALUE: u64 = 32;
/// Bytes that are unpacked at a time.
const STEP: u64 = 1 << 20;

/// Why a payload is none.
#[derive(Debug)]
pub(super) enum Unusable {
    /// The checksum, the length or the format is wrong.
    Damaged(Error),
    /// It unpacks to something that no recording is.
    Bomb(String),
}

/// Unpacks `file`, of `packed` bytes, from where it is to its end.
///
/// # Errors
/// See [`Unusable`]. No more memory was used than the bounds allow.
pub(super) fn unpack(file: impl BufRead, packed: u64) -> Result<Vec<u8>, Unusable> {
    let bound = LONGEST.min(packed.saturating_mul(MOST_RATIO).saturating_add(ANY_RATIO));
    within(file, bound, MOST_MEMORY)
}

fn within(file: impl BufRead, bound: u64, memory: u64) -> Result<Vec<u8>, Unusable> {
    let mut decoder = GzDecoder::new(file);
    let (mut payload, mut values) = (Vec::new(), 0);
    loop {
        let before = payload.len();
        decoder.by_ref().take(STEP).read_to_end(&mut payload).map_err(Unusable::Damaged)?;
        let new = &payload[before..];
        if new.is_empty() {
            return Ok(payload);
        }
        values += new.iter().filter(|byte| **byte == b',').count() as u64;
        let bytes = payload.len() as u64;
        if bytes > bound {
            let bound = crate::human::bytes(bound);
            let why = format!("it unpacks to more than the {bound} that so short a recording has");
            return Err(Unusable::Bomb(why));
        }
        if bytes + values * VALUE > memory {
            return Err(Unusable::Bomb(format!("its {values} values or more are no recording's")));
        }
    }
}

/// Bytes of a file, as far as they are known: a pipe may have any number.
pub(super) fn packed_bytes(file: &File) -> u64 {
    file.metadata().ok().filter(Metadata::is_file).map_or(u64::MAX, |metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::{ANY_RATIO, MOST_RATIO, Unusable, unpack, within};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn packed(payload: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(payload).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, Unusable> {
        unpack(bytes, bytes.len() as u64)
    }

    #[test]
    fn bombs_are_refused() {
        let zeros = vec![b' '; (ANY_RATIO + ANY_RATIO / 2) as usize];
        let bomb = packed(&zeros);
        assert!((bomb.len() as u64) < ANY_RATIO / 2 / MOST_RATIO);
        assert!(matches!(unpacked(&bomb), Err(Unusable::Bomb(_))));
        // Values that take more memory than their text.
        let values = packed(&b"[],".repeat(1000));
        assert!(within(&*values, 1 << 20, 35_000).is_ok());
        assert!(matches!(within(&*values, 1 << 20, 34_999), Err(Unusable::Bomb(_))));
    }

    #[test]
    fn what_is_long_for_good_reasons_is_read() {
        // Every byte different from what is predicted: no ratio to speak of.
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            (state >> 24) as u8
        };
        let noise: Vec<u8> = (0..ANY_RATIO + (1 << 20)).map(|_| next()).collect();
        assert_eq!(unpacked(&packed(&noise)).unwrap(), noise);
        assert_eq!(unpacked(&packed(&noise[..10])).unwrap(), noise[..10]);
        assert!(matches!(unpacked(&packed(&noise)[..1000]), Err(Unusable::Damaged(_))));
    }
}
