//! Questions of agents: "this object appeared, what of it shall I probe?"
//!
//! # States of a request, and who may write what when
//! `FREE` -> `CLAIMED` by the agent's compare-and-swap; it fills the entry -> `POSTED`, and rings the bell -> the command line resolves the object, adds it to the tables -> `ANSWERED` with the
//! object's index, and wakes the agent -> the agent reads the answer -> `FREE`. An agent that gave up waiting leaves `ABANDONED`, which the command line turns into `FREE`.

use crate::futex;
use crate::layout::{OBJECT_BYTES, REQUESTS, head};
use crate::object::Identity;
use crate::segment::Segment;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const STATE: usize = OBJECT_BYTES;
const PID: usize = OBJECT_BYTES + 4;
const ANSWER: usize = OBJECT_BYTES + 8;

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const POSTED: u32 = 2;
const ANSWERED: u32 = 3;
const ABANDONED: u32 = 4;
/// The answer when nothing of the object is to be probed.
const NOTHING: u32 = u32::MAX;

/// A question that waits for an answer.
#[derive(Debug)]
pub struct Request {
    index: usize,
    /// Process that asks.
    pub pid: u32,
    /// The object that it has loaded.
    pub object: Identity,
}

impl Segment {
    /// For the agent: asks and waits up to `patience`. `Ok(None)`: nothing of it is to be probed. `Err`: no answer in time, or no room to ask.
    ///
    /// # Errors
    /// `()`: the caller counts [`crate::Loss::Unanswered`].
    ///
    /// # Context
    /// Makes futex system calls.
    #[expect(clippy::result_unit_err, reason = "there is one way to fail")]
    pub fn ask(&self, pid: u32, object: &Identity, patience: Duration) -> Result<Option<usize>, ()> {
        let (at, state) = (0..REQUESTS).find_map(|i| self.claim(i)).ok_or(())?;
        self.write_identity(at, object);
        self.memory.store32(at + PID, pid);
        // Release pairs with the Acquire in `requests`.
        state.store(POSTED, Ordering::Release);
        if let Some(bell) = self.memory.u32(head::BELL) {
            // Relaxed: the state carries the message, the bell only wakes.
            bell.fetch_add(1, Ordering::Relaxed);
            futex::wake(bell);
        }
        futex::wait(state, POSTED, patience);
        // Acquire pairs with the Release in `answer`: the object's functions are in the table.
        if state.load(Ordering::Acquire) == ANSWERED {
            let answer = self.memory.load32(at + ANSWER);
            state.store(FREE, Ordering::Release);
            return Ok((answer != NOTHING).then_some(answer as usize));
        }
        // Either we give up first, or the answer came between the load and this: then it is thrown away.
        if state.compare_exchange(POSTED, ABANDONED, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            state.store(FREE, Ordering::Release);
        }
        Err(())
    }

    fn claim(&self, index: usize) -> Option<(usize, &AtomicU32)> {
        let at = self.layout.request(index)?;
        let state = self.memory.u32(at + STATE)?;
        // Acquire pairs with the Release of whoever freed it.
        state.compare_exchange(FREE, CLAIMED, Ordering::Acquire, Ordering::Relaxed).ok().map(|_| (at, state))
    }

    /// For the command line: the questions that wait. Allocates.
    pub fn requests(&self) -> Vec<Request> {
        let mut found = Vec::new();
        for index in 0..REQUESTS {
            let Some(at) = self.layout.request(index) else { break };
            let Some(state) = self.memory.u32(at + STATE) else { break };
            // Acquire pairs with the Release in `ask`.
            match state.load(Ordering::Acquire) {
                POSTED => found.push(Request { index, pid: self.memory.load32(at + PID), object: self.read_identity(at) }),
                ABANDONED => state.store(FREE, Ordering::Release),
                _ => {}
            }
        }
        found
    }

    /// For the command line: answers with the object's index, after its functions were added.
    pub fn answer(&self, request: &Request, object: Option<usize>) {
        let Some(at) = self.layout.request(request.index) else { return };
        self.memory.store32(at + ANSWER, object.map_or(NOTHING, |o| o as u32));
        let Some(state) = self.memory.u32(at + STATE) else { return };
        // Release pairs with the Acquire in `ask`. A failure means that the agent gave up.
        if state.compare_exchange(POSTED, ANSWERED, Ordering::Release, Ordering::Relaxed).is_err() {
            state.store(FREE, Ordering::Release);
        }
        futex::wake(state);
    }

    /// For the command line: waits until an agent asks something, or up to `patience`. `seen` is what this returned last time, 0 at first.
    pub fn wait_for_requests(&self, seen: u32, patience: Duration) -> u32 {
        let Some(bell) = self.memory.u32(head::BELL) else { return seen };
        futex::wait(bell, seen, patience);
        bell.load(Ordering::Relaxed)
    }
}
