//! The few bytes of code of our own that run in the target outside of an image.

/// `syscall; mov $15, %eax; syscall`: a system call, and then `rt_sigreturn` on the frame that the
/// stack pointer is at. While a tracer lives it takes the thread away behind the first.
pub(crate) const CALL_AND_RETURN: [u8; 9] = [0x0f, 0x05, 0xb8, 15, 0, 0, 0, 0x0f, 0x05];

/// Where functions of an image return to: both store the result where rbx says and a 1 behind it.
/// The first, at 0, ends the thread.
/// `mov %rax, (%rbx); movq $1, 8(%rbx)`, then from [`END_THREAD`] on `xor %edi, %edi; mov $60,
/// %eax; syscall`. The second, at [`TO_FRAME`], puts the thread back: the same stores, `mov %r12,
/// %rsp; mov $15, %eax; syscall`. Then `ud2`: neither call comes back.
pub(crate) const RETURNS: [u8; 45] = [
    0x48, 0x89, 0x03, 0x48, 0xc7, 0x43, 0x08, 1, 0, 0, 0, // stores
    0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x0b, // exit(0)
    0x48, 0x89, 0x03, 0x48, 0xc7, 0x43, 0x08, 1, 0, 0, 0, // stores
    0x4c, 0x89, 0xe4, 0xb8, 15, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x0b, // rt_sigreturn()
];
/// See [`RETURNS`].
pub(crate) const END_THREAD: u64 = 11;
/// See [`RETURNS`].
pub(crate) const TO_FRAME: u64 = 22;
