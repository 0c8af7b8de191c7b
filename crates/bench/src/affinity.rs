//! Which CPUs this process may use, and putting a thread on one of them.
#![allow(unsafe_code)]

/// The CPU numbers this process may run on, in order; at least one.
pub fn allowed() -> Vec<usize> {
    // SAFETY: cpu_set_t is an array of words; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is live and the size is its own.
    let rc = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    // SAFETY: every index is below CPU_SETSIZE.
    let cpus: Vec<usize> = (0..libc::CPU_SETSIZE as usize)
        .filter(|&cpu| rc == 0 && unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// Keeps the calling thread on `cpu`. Best effort: where it is refused the run is merely noisier.
pub fn pin(cpu: usize) {
    pin_thread(0, cpu);
}

/// Keeps the first thread of another process on `cpu`, and what it starts from now on; as best as
/// it can, too.
pub fn pin_process(pid: u32, cpu: usize) {
    // A number that is no process's would be another thread's: 0 is the calling one.
    if pid != 0 {
        pin_thread(pid.cast_signed(), cpu);
    }
}

fn pin_thread(thread: libc::pid_t, cpu: usize) {
    // SAFETY: cpu_set_t is an array of words; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu < libc::CPU_SETSIZE as usize {
        // SAFETY: `cpu` is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(cpu, &mut set) };
        // SAFETY: `set` is live and the size is its own.
        unsafe { libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &set) };
    }
}
