//! Making all threads of the process see new instructions.

use percpu::OnceLock;

const PRIVATE_EXPEDITED_SYNC_CORE: i32 = 1 << 5;
const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: i32 = 1 << 6;

static REGISTERED: OnceLock<bool> = OnceLock::new();

fn membarrier(command: i32) -> bool {
    sys::thread::membarrier(command, 0).is_ok()
}

/// Registers the process with the kernel, once. False: this kernel cannot do it, code must not be
/// changed under running threads.
pub(crate) fn available() -> bool {
    *REGISTERED.get_or_init(|| membarrier(REGISTER_PRIVATE_EXPEDITED_SYNC_CORE))
}

/// After this every thread executes what was written to code before.
///
/// Context: a system call; 8 to 10 µs when other threads run.
pub(crate) fn sync_core() {
    // A fork child has to register anew.
    if !membarrier(PRIVATE_EXPEDITED_SYNC_CORE) && membarrier(REGISTER_PRIVATE_EXPEDITED_SYNC_CORE)
    {
        membarrier(PRIVATE_EXPEDITED_SYNC_CORE);
    }
}
