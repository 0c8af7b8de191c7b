//! The variables that brought us here. The program does not see them; a program that it executes
//! gets them back ([`crate::hooks::exec`]).
#![allow(unsafe_code)]

use crate::fetch;
use std::ffi::{CStr, CString, c_char};
use std::sync::OnceLock;

/// Names the segment's file.
pub(crate) const SEGMENT: &str = "TRAPLINE_SEGMENT";
const PRELOAD: &str = "LD_PRELOAD";

/// What has to be in the environment for us to come along.
#[derive(Debug)]
pub(crate) struct Ours {
    /// `TRAPLINE_SEGMENT=...`
    pub(crate) segment: CString,
    /// Path of this object, as it was preloaded.
    pub(crate) agent: Vec<u8>,
}

impl Ours {
    /// Whether a program that this process executes can open both. It cannot behind the end of a
    /// run, in a root directory or mount namespace of its own, or as another user: it then gets
    /// no variable of ours, for the loader would complain on the program's own stream.
    ///
    /// # Context
    /// Up to four system calls.
    pub(crate) fn reachable(&self) -> bool {
        let segment = self.segment.to_bytes();
        let segment = value(segment, SEGMENT).map(CString::new);
        let agent = CString::new(&*self.agent);
        let (Some(Ok(segment)), Ok(agent)) = (segment, agent) else { return false };
        opens(&agent, libc::O_RDONLY) && fetch::answers(&segment)
    }
}

/// Whether this process, as the effective user, may read the file. `access` would ask for the real
/// user, and filters of system calls know its newer forms less well.
fn opens(path: &CStr, how: libc::c_int) -> bool {
    // SAFETY: a terminated string that outlives the call.
    let fd = unsafe { libc::open(path.as_ptr(), how | libc::O_CLOEXEC) };
    if fd < 0 {
        let why = std::io::Error::last_os_error().raw_os_error();
        // No descriptor is left: the executed program may have one.
        return matches!(why, Some(libc::EMFILE | libc::ENFILE));
    }
    // SAFETY: just opened.
    unsafe { libc::close(fd) };
    true
}

static OURS: OnceLock<Ours> = OnceLock::new();

pub(crate) fn ours() -> Option<&'static Ours> {
    OURS.get()
}

/// The value of `name=value`.
fn value<'v>(variable: &'v [u8], name: &str) -> Option<&'v [u8]> {
    variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

/// `value` of LD_PRELOAD without the agent; entries are separated by colons or spaces.
fn without_agent(preload: &[u8], agent: &[u8]) -> Vec<u8> {
    let others: Vec<&[u8]> = preload
        .split(|b| *b == b':' || *b == b' ')
        .filter(|e| !e.is_empty() && *e != agent)
        .collect();
    others.join(&b':')
}

/// LD_PRELOAD with the agent in front of what is there.
pub(crate) fn with_agent(preload: Option<&[u8]>, agent: &[u8]) -> Vec<u8> {
    let mut all = format!("{PRELOAD}=").into_bytes();
    all.extend_from_slice(agent);
    let others = without_agent(preload.unwrap_or_default(), agent);
    if !others.is_empty() {
        all.push(b':');
        all.extend_from_slice(&others);
    }
    all
}

/// The program's LD_PRELOAD and whether a variable is one of ours, for whoever copies an
/// environment.
pub(crate) fn preload_value(variable: &[u8]) -> Option<&[u8]> {
    value(variable, PRELOAD)
}

/// Whether this is the segment's variable.
pub(crate) fn is_segment(variable: &[u8]) -> bool {
    value(variable, SEGMENT).is_some()
}

/// Takes our variables out of the environment, in place, and gives the path of the segment. `None`:
/// nobody wants us here.
///
/// # Safety
/// `environment` is the array that the kernel made, nobody else looks at it yet.
pub(crate) unsafe fn take(environment: *mut *mut c_char, agent: &[u8]) -> Option<Vec<u8>> {
    let mut path = None;
    let mut kept = 0;
    let mut i = 0;
    loop {
        // SAFETY: the array ends with a null, which ends the loop.
        let place = unsafe { environment.add(i) };
        // SAFETY: inside the array.
        let variable = unsafe { place.read() };
        let mut keep = Some(variable);
        if !variable.is_null() {
            // SAFETY: the kernel terminates strings.
            let text = unsafe { CStr::from_ptr(variable) };
            if let Some(v) = value(text.to_bytes(), SEGMENT) {
                path = Some(v.to_vec());
                let _ = OURS.set(Ours { segment: text.to_owned(), agent: agent.to_vec() });
                keep = None;
            } else if let Some(v) = value(text.to_bytes(), PRELOAD) {
                let left = without_agent(v, agent);
                if left.is_empty() {
                    keep = None;
                } else if left.len() < v.len() {
                    let mut new = format!("{PRELOAD}=").into_bytes();
                    new.extend_from_slice(&left);
                    // For ever: the environment is.
                    keep = CString::new(new).ok().map(CString::into_raw);
                }
            }
        }
        if let Some(variable) = keep {
            // SAFETY: `kept` is at most `i`.
            let to = unsafe { environment.add(kept) };
            // SAFETY: inside the array, which is writable.
            unsafe { to.write(variable) };
            kept += 1;
        }
        if variable.is_null() {
            break;
        }
        i += 1;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::{take, with_agent};
    use std::ffi::{CStr, CString, c_char};

    fn taken(variables: &[&str]) -> (Option<Vec<u8>>, Vec<String>) {
        let mut array: Vec<*mut c_char> =
            variables.iter().map(|v| CString::new(*v).unwrap().into_raw()).collect();
        array.push(std::ptr::null_mut());
        // SAFETY: an array of its own that ends with a null.
        let path = unsafe { take(array.as_mut_ptr(), b"/x/agent.so") };
        // SAFETY: strings of this test.
        let left = array
            .iter()
            .take_while(|p| !p.is_null())
            .map(|p| unsafe { CStr::from_ptr(*p) }.to_str().unwrap().to_owned())
            .collect();
        (path, left)
    }

    #[test]
    fn our_variables_go_and_the_others_stay() {
        let (path, left) =
            taken(&["A=1", "TRAPLINE_SEGMENT=/dev/shm/s", "LD_PRELOAD=/x/agent.so", "B=2"]);
        assert_eq!(
            (path.as_deref(), left),
            (Some(&b"/dev/shm/s"[..]), vec!["A=1".into(), "B=2".into()])
        );
        let (_, left) = taken(&["LD_PRELOAD=/x/agent.so:/their.so", "TRAPLINE_SEGMENT=s"]);
        assert_eq!(left, ["LD_PRELOAD=/their.so"]);
        assert_eq!(taken(&["LD_PRELOAD=/their.so"]), (None, vec!["LD_PRELOAD=/their.so".into()]));
        assert_eq!(taken(&[]), (None, vec![]));
    }

    #[test]
    fn the_agent_comes_first_and_once() {
        assert_eq!(with_agent(None, b"a"), b"LD_PRELOAD=a");
        assert_eq!(with_agent(Some(b"x a y"), b"a"), b"LD_PRELOAD=a:x:y");
    }
}
