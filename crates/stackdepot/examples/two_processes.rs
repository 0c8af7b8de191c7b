//! A process saves stacks into shared memory and is killed; another one reads them.
//!
//! `cargo run -p trapline-stackdepot --example two_processes`

#[cfg(not(loom))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use stackdepot::{Depot, Flags, Reader, Region};
    use std::ptr::NonNull;

    const BYTES: usize = 1 << 20;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    let base =
        NonNull::new(base.cast::<u8>()).filter(|_| base != libc::MAP_FAILED).ok_or("no memory")?;

    // SAFETY: the child only uses the depot, and does not return.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: the mapping is not unmapped before the process ends.
        let region = unsafe { Region::shared(base, BYTES) };
        if let Ok(depot) = Depot::builder().expected_stacks(100).build_in(region) {
            for i in 0..3 {
                depot.save(&[0x40_1136 + i, 0x40_1200, 0x40_1010], Flags::GET | Flags::CAN_GROW);
            }
        }
        // SAFETY: signal 9 to itself.
        unsafe { libc::raise(libc::SIGKILL) };
    }
    // SAFETY: waits for the own child; its status is not asked for.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };

    // SAFETY: the mapping is not unmapped before the process ends.
    let reader = unsafe { Reader::new(base, BYTES) }?;
    for entry in reader.iter() {
        println!("{:?}, {:?}", entry.handle, entry.refs);
        println!(
            "{}\n",
            reader.display(entry.handle, |addr, f| write!(f, "prog+{:#x}", addr - 0x40_0000))
        );
    }
    println!(
        "{} stacks, {} bytes of pool used",
        reader.stats().stacks(),
        reader.stats().pool_used_bytes
    );
    Ok(())
}

#[cfg(loom)]
fn main() {}
