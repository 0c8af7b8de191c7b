//! What is loaded, as the kernel and the objects' headers say it, beside what the dynamic loader
//! says.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int, c_void};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::{Mutex, PoisonError};
use unwind::{Bounds, End, Host, Method, Module, ProgramHeader, Start, Unwinder};

/// Loads, or compares: one at a time.
static TURN: Mutex<()> = Mutex::new(());

/// The modules by the dynamic loader's lists, sorted as ours.
fn theirs() -> Vec<Module> {
    unsafe extern "C" fn add(info: *mut libc::dl_phdr_info, _: usize, all: *mut c_void) -> c_int {
        // SAFETY: the vector that is passed below.
        let all = unsafe { &mut *all.cast::<Vec<Module>>() };
        // SAFETY: the loader passes a valid description.
        let info = unsafe { &*info };
        let first = info.dlpi_phdr.cast::<ProgramHeader>();
        // SAFETY: its program headers, which have this layout.
        let headers = unsafe { std::slice::from_raw_parts(first, usize::from(info.dlpi_phnum)) };
        all.extend(Module::of(info.dlpi_addr, headers, 0));
        0
    }
    let mut all: Vec<Module> = Vec::new();
    // SAFETY: the callback gets the vector back, which lives through the call.
    unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut all).cast()) };
    all.sort_by_key(|module| module.range.start);
    all
}

fn ours() -> Vec<Module> {
    Module::all(&mut |_| 0)
}

/// A library that is there, and where it is.
fn a_library() -> (Vec<u8>, Vec<u8>) {
    let mut path = None;
    Module::all(&mut |mapping| {
        if mapping.path.windows(9).any(|part| part == b"libgcc_s.") {
            path = Some(mapping.path.to_vec());
        }
        0
    });
    let path = path.expect("every program in Rust has it");
    let bytes = std::fs::read(std::str::from_utf8(&path).unwrap()).unwrap();
    (path, bytes)
}

fn open(path: &CStr) -> *mut c_void {
    // SAFETY: a name; the library has no harmful constructors.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null(), "{path:?}");
    handle
}

fn close(handle: *mut c_void) {
    // SAFETY: opened, and nobody uses it.
    assert_eq!(unsafe { libc::dlclose(handle) }, 0);
}

#[test]
fn the_same_as_the_loader_knows() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let all = ours();
    assert_eq!(all, theirs());
    assert!(all.len() >= 4, "the program, the C library, the loader, the kernel's own");
    let own = ours as fn() -> Vec<Module> as usize as u64;
    let program = all.iter().find(|module| module.range.contains(&own)).unwrap();
    assert!(!program.eh_frame_hdr.is_empty());
}

#[test]
fn names_and_files_of_the_mappings() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut program = None;
    let own = names_and_files_of_the_mappings as fn() as usize as u64;
    let mut places = Vec::new();
    let all = Module::all(&mut |mapping| {
        places.push((mapping.range.start, mapping.dev, mapping.ino, mapping.path.to_vec()));
        places.len() as u64 - 1
    });
    for module in &all {
        let (start, ..) = places[module.tag as usize];
        assert!(module.range.contains(&start));
        if module.range.contains(&own) {
            program = Some(&places[module.tag as usize]);
        }
    }
    let (_, _, ino, path) = program.expect("this program");
    let exe = std::env::current_exe().unwrap();
    assert_eq!(*path, exe.as_os_str().as_encoded_bytes());
    assert_eq!(*ino, exe.metadata().unwrap().ino());
}

/// From memory files, from files that are gone, and from files that another one has replaced.
#[test]
fn libraries_that_no_name_leads_to() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, bytes) = a_library();
    let before = ours().len();

    // SAFETY: a name.
    let fd = unsafe { libc::memfd_create(c"a library".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: just opened.
    let mut memory = unsafe { File::from_raw_fd(fd) };
    memory.write_all(&bytes).unwrap();
    let in_memory = open(&CString::new(format!("/proc/self/fd/{}", memory.as_raw_fd())).unwrap());
    drop(memory);

    let path = std::env::temp_dir().join(format!("unwind-modules-{}.so", std::process::id()));
    std::fs::write(&path, &bytes).unwrap();
    let gone = open(&CString::new(path.as_os_str().as_encoded_bytes()).unwrap());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"something else").unwrap();

    let all = ours();
    assert_eq!(all, theirs());
    assert_eq!(all.len(), before + 2);
    std::fs::remove_file(&path).unwrap();
    close(gone);
    close(in_memory);
    assert_eq!(ours(), theirs());
    assert_eq!(ours().len(), before);
}

/// Nobody has loaded what is only looked at.
#[test]
fn libraries_that_are_read() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (path, bytes) = a_library();
    let file = File::open(std::str::from_utf8(&path).unwrap()).unwrap();
    for protection in [libc::PROT_READ, libc::PROT_READ | libc::PROT_EXEC] {
        let (len, fd) = (bytes.len(), file.as_raw_fd());
        // SAFETY: a new mapping.
        let at = unsafe { libc::mmap(ptr::null_mut(), len, protection, libc::MAP_PRIVATE, fd, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        assert_eq!(ours(), theirs());
        // SAFETY: ours.
        assert_eq!(unsafe { libc::munmap(at, len) }, 0);
    }
}

/// While others load and unload, what is found is whole.
#[test]
fn beside_threads_that_load() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, bytes) = a_library();
    let path = std::env::temp_dir().join(format!("unwind-beside-{}.so", std::process::id()));
    std::fs::write(&path, &bytes).unwrap();
    let name = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let first = open(&name);
    let with = ours();
    close(first);
    let without = ours();
    assert_eq!(with.len(), without.len() + 1);
    std::thread::scope(|scope| {
        let loads = scope.spawn(|| (0..300).for_each(|_| close(open(&name))));
        while !loads.is_finished() {
            let all = ours();
            // Those that stay are always there.
            assert!(without.iter().all(|module| all.contains(module)), "{all:x?}");
            assert!(all.len() <= with.len());
        }
    });
    std::fs::remove_file(&path).unwrap();
}

struct Plain;

impl Host for Plain {
    fn original(&self, _: u64, _: &mut dyn FnMut(u64, u64)) -> Option<u64> {
        None
    }

    fn slowly(&self, f: &mut dyn FnMut()) {
        f();
    }
}

/// Looks for modules and for its own stack, and ends the process: 0 if both were found.
extern "C" fn look(_: *mut c_void) -> *mut c_void {
    while !is_zombie() {
        std::thread::yield_now();
    }
    let all = ours();
    let unwinder = Unwinder::new().unwrap();
    unwinder.set_modules(all.clone());
    let (pc, sp, bp): (u64, u64, u64);
    // SAFETY: reads three registers.
    unsafe {
        std::arch::asm!(
            "lea {}, [rip]",
            "mov {}, rsp",
            "mov {}, rbp",
            out(reg) pc,
            out(reg) sp,
            out(reg) bp,
        )
    };
    let start = Start { pc, sp, bp, entry: false };
    let mut bounds = Bounds::default();
    let (_, end) = unwinder.walk(&Plain, start, Method::Tables, &mut bounds, &mut [0; 64]);
    let good = all.len() >= 4 && end == End::Complete;
    // SAFETY: ends here.
    unsafe { libc::_exit(if good { 0 } else { 1 }) }
}

/// Whether the first thread of this process has ended.
fn is_zombie() -> bool {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    stat.rsplit(") ").next().unwrap().starts_with('Z')
}

/// Then the list of the process is empty, and those of its threads are not.
#[test]
fn a_process_whose_first_thread_has_ended() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the child starts one thread, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut thread = 0;
        // SAFETY: a function that takes nothing.
        unsafe { libc::pthread_create(&raw mut thread, ptr::null(), look, ptr::null_mut()) };
        // SAFETY: nobody waits for this thread.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    let mut status = 0;
    // SAFETY: a child of ours, and a place for the answer.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
}
