//! Where exceptions land: read from the tables of language-specific data (LSDA, in
//! `.gcc_except_table`) that unwind entries lead to. Written from the description in the Itanium
//! C++ ABI's exception tables and the DWARF pointer encodings of the LSB.

use alloc::vec::Vec;

/// Encodings of pointers, and "there is none".
const OMITTED: u8 = 0xff;
const FORM: u8 = 0x0f;
const RELATIVE: u8 = 0x70;
const PC_RELATIVE: u8 = 0x10;
const ULEB: u8 = 0x01;
const U2: u8 = 0x02;
const U4: u8 = 0x03;
const U8: u8 = 0x04;
const S2: u8 = 0x0a;
const S4: u8 = 0x0b;
const S8: u8 = 0x0c;

/// Appends the landing pads of the function or part that begins at `function`, by its table:
/// `address` is where that lies, `bytes` begin there and may go on behind it. Some for
/// [`Options::branch_targets`](crate::Options::branch_targets), which are to be sorted.
///
/// Returns whether the table could be read; if not, some may be missing.
///
/// Context: allocates where `pads` grows.
pub fn landing_pads(function: u64, address: u64, bytes: &[u8], pads: &mut Vec<u64>) -> bool {
    read(function, address, bytes, pads).is_some()
}

fn read(function: u64, address: u64, bytes: &[u8], pads: &mut Vec<u64>) -> Option<()> {
    let mut r = Reader { address, bytes, at: 0 };
    let base = match r.byte()? {
        OMITTED => function,
        encoding => r.pointer(encoding)?,
    };
    if r.byte()? != OMITTED {
        r.uleb()?;
    }
    let encoding = r.byte()?;
    let end =
        usize::try_from(r.uleb()?).ok()?.checked_add(r.at).filter(|end| *end <= bytes.len())?;
    while r.at < end {
        let _start = r.pointer(encoding)?;
        let _len = r.pointer(encoding)?;
        let pad = r.pointer(encoding)?;
        let _action = r.uleb()?;
        if pad != 0 {
            pads.push(base.wrapping_add(pad));
        }
    }
    Some(())
}

struct Reader<'b> {
    address: u64,
    bytes: &'b [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn uleb(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn word<const N: usize>(&mut self) -> Option<[u8; N]> {
        let word = self.bytes.get(self.at..)?.first_chunk().copied()?;
        self.at += N;
        Some(word)
    }

    fn pointer(&mut self, encoding: u8) -> Option<u64> {
        let here = self.address.wrapping_add(self.at as u64);
        let value = match encoding & FORM {
            ULEB => self.uleb()?,
            U2 => u16::from_le_bytes(self.word()?).into(),
            U4 => u32::from_le_bytes(self.word()?).into(),
            0 | U8 | S8 => u64::from_le_bytes(self.word()?),
            S2 => i64::from(i16::from_le_bytes(self.word()?)).cast_unsigned(),
            S4 => i64::from(i32::from_le_bytes(self.word()?)).cast_unsigned(),
            _ => return None,
        };
        match encoding & RELATIVE {
            0 => Some(value),
            PC_RELATIVE => Some(here.wrapping_add(value)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::landing_pads;
    use std::vec::Vec;

    fn pads(bytes: &[u8]) -> (bool, Vec<u64>) {
        let mut pads = Vec::new();
        (landing_pads(0x1000, 0x8000, bytes, &mut pads), pads)
    }

    #[test]
    fn tables_as_compilers_write_them() {
        // GCC and LLVM: no base, a type table 20 bytes on, uleb128, 8 bytes of two records: one
        // without a landing pad, one with it at 0x90.
        let table = [0xff, 0x9b, 0x14, 0x01, 9, 0x10, 0x05, 0, 0, 0x20, 0x05, 0x90, 0x01, 0x01];
        assert_eq!(pads(&table), (true, [0x1090].to_vec()));
        // Four bytes each, and behind the table something else.
        let table = [0xff, 0xff, 0x03, 13, 1, 0, 0, 0, 2, 0, 0, 0, 0x44, 0, 0, 0, 0, 0x55];
        assert_eq!(pads(&table), (true, [0x1044].to_vec()));
        // A base of its own, relative to where it stands.
        let table = [0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 4, 1, 2, 3, 0];
        assert_eq!(pads(&table), (true, [0x8003].to_vec()));
    }

    #[test]
    fn what_is_no_table() {
        let table = [0xff, 0xff, 0x01, 4, 1, 2, 3, 0];
        for cut in 0..table.len() {
            assert!(!pads(&table[..cut]).0, "{cut}");
        }
        assert!(!pads(&[0xff, 0xff, 0x06, 4, 1, 2, 3, 0]).0, "no such form");
        assert!(!pads(&[0xff, 0xff, 0x41, 4, 1, 2, 3, 0]).0, "relative to what?");
        assert!(!pads(&[0xff; 40]).0);
    }
}
