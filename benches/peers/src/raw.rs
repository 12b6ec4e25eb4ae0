//! Processes that exchange numbers over shared memory and look for them all the time: the least that
//! two processors need for it.

use std::array;
use std::hint;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use mp::{Shareable, Shared};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// How often one looks before it lets another process run: on one processor, or on a busy machine,
/// the other side needs it.
const LOOKS: u32 = 1000;

/// The end of everything; no number that is exchanged.
const OVER: u64 = u64::MAX;

fn look_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        for _ in 0..LOOKS {
            if let Some(found) = look() {
                return found;
            }
            hint::spin_loop();
        }
        thread::yield_now();
    }
}

/// What a process can answer at.
pub(crate) trait Answered: Clone {
    fn start(&self) -> Result<mp::Process<()>, mp::Error>;
    fn end(&self);
    /// Comes back when the process answers.
    fn wait_until_answered(&self);
}

/// A process that answers.
pub(crate) struct Answerer<T: Answered> {
    at: T,
    process: mp::Process<()>,
}

impl<T: Answered> Answerer<T> {
    pub(crate) fn start(at: &T) -> Result<Answerer<T>, Failure> {
        let process = at.start()?;
        at.wait_until_answered();
        Ok(Answerer {
            at: at.clone(),
            process,
        })
    }

    pub(crate) fn end(self) -> Result<(), Failure> {
        self.at.end();
        Ok(self.process.join()?)
    }
}

/// A word on a cache line of its own.
#[derive(Shareable)]
#[repr(C, align(128))]
struct Line(AtomicU64);

impl Line {
    fn new(number: u64) -> Line {
        Line(AtomicU64::new(number))
    }
}

/// A number that is passed on: odd for the one who answers, even for the one who calls.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Spin(Shared<Line>);

impl Spin {
    pub(crate) fn new() -> Result<Spin, Failure> {
        Ok(Spin(Shared::new(Line::new(0))?))
    }

    pub(crate) fn call(&self) {
        let word = &self.0.0;
        let next = word.load(Ordering::Relaxed) + 1;
        word.store(next, Ordering::Release);
        look_until(|| (word.load(Ordering::Acquire) != next).then_some(()));
    }

    fn answer(&self) {
        let word = &self.0.0;
        loop {
            let now = look_until(|| Some(word.load(Ordering::Acquire)).filter(|now| now % 2 == 1));
            if now == OVER {
                return;
            }
            word.store(now + 1, Ordering::Release);
        }
    }
}

#[mp::process_fn]
fn answer_spin(spin: Spin) {
    spin.answer();
}

impl Answered for Spin {
    fn start(&self) -> Result<mp::Process<()>, mp::Error> {
        mp::spawn!(answer_spin(self.clone()))
    }

    fn end(&self) {
        self.0.0.store(OVER, Ordering::Release);
    }

    fn wait_until_answered(&self) {
        self.call();
    }
}

const RING: usize = 1024;

/// One writes at the head, one reads at the tail; both only grow.
#[derive(Shareable)]
#[repr(C)]
struct Ring {
    head: Line,
    tail: Line,
    numbers: [AtomicU64; RING],
}

impl Ring {
    fn new() -> Ring {
        Ring {
            head: Line::new(0),
            tail: Line::new(0),
            numbers: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Writes as many as there is room for, and says how many.
    fn fill(&self, numbers: impl Iterator<Item = u64>) -> usize {
        let head = self.head.0.load(Ordering::Relaxed);
        let used = (head - self.tail.0.load(Ordering::Acquire)) as usize;
        let mut written = 0;
        for number in numbers.take(RING - used) {
            let place = (head as usize + written) % RING;
            self.numbers[place].store(number, Ordering::Relaxed);
            written += 1;
        }
        self.head.0.store(head + written as u64, Ordering::Release);
        written
    }

    /// Reads all that there are, and says how many.
    fn drain(&self, mut take: impl FnMut(u64)) -> usize {
        let tail = self.tail.0.load(Ordering::Relaxed);
        let head = self.head.0.load(Ordering::Acquire);
        for index in tail..head {
            take(self.numbers[index as usize % RING].load(Ordering::Relaxed));
        }
        self.tail.0.store(head, Ordering::Release);
        (head - tail) as usize
    }
}

/// A ring there, and one back.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RingPair {
    there: Shared<Ring>,
    back: Shared<Ring>,
}

impl RingPair {
    pub(crate) fn new() -> Result<RingPair, Failure> {
        Ok(RingPair {
            there: Shared::new(Ring::new())?,
            back: Shared::new(Ring::new())?,
        })
    }

    /// Sends so many numbers over the pairs, in bursts, and takes in as many.
    pub(crate) fn exchange(pairs: &[RingPair], count: usize) {
        let (mut sent, mut received, mut sum) = (0, 0, 0u64);
        while received < count {
            let before = (sent, received);
            for pair in pairs {
                sent += pair.there.fill(sent as u64..count as u64);
            }
            for pair in pairs {
                received += pair.back.drain(|number| sum = sum.wrapping_add(number));
            }
            if (sent, received) == before {
                thread::yield_now();
            }
        }
        hint::black_box(sum);
    }

    fn answer(&self) {
        let mut burst = Vec::with_capacity(RING);
        loop {
            look_until(|| (self.there.drain(|number| burst.push(number)) > 0).then_some(()));
            let is_over = burst.last() == Some(&OVER);
            let mut answers = burst.drain(..).map(|x| x.wrapping_mul(x)).peekable();
            while answers.peek().is_some() {
                if self.back.fill(answers.by_ref()) == 0 {
                    thread::yield_now();
                }
            }
            if is_over {
                return;
            }
        }
    }
}

#[mp::process_fn]
fn answer_rings(pair: RingPair) {
    pair.answer();
}

impl Answered for RingPair {
    fn start(&self) -> Result<mp::Process<()>, mp::Error> {
        mp::spawn!(answer_rings(self.clone()))
    }

    fn end(&self) {
        self.there.fill(std::iter::once(OVER));
    }

    fn wait_until_answered(&self) {
        RingPair::exchange(std::slice::from_ref(self), 1);
    }
}
