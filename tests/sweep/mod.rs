//! Killing a process after every instruction of an operation.
//!
//! The victim is a raw fork of the test, so that it has all that the test has mapped, and runs
//! nothing but the operation. It stops itself before the operation and after it; in between it is
//! stepped, one instruction after the other, and killed where the sweep wants it. A system call
//! is one step, and so is each round of an instruction that repeats itself.
//!
//! How many steps apart the kills are follows from the length of the operation, so that a sweep has
//! about [`KILLS`] of them: a prime number, from a random start; a failure prints both.
//! `MP_SWEEP=all` kills at every step, `MP_SWEEP=17+5` at 5, 22, 39, …

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// About so many kills a sweep has when it does not kill everywhere.
const KILLS: usize = 24;
/// About so many steps it takes then; long operations have fewer kills.
const STEPS: usize = 20_000;
/// But not fewer than this.
const KILLS_LEAST: usize = 2;
/// Who takes more steps than this waits for something that never comes.
const STEP_LIMIT: usize = 400_000;

/// Sweeps are taken one at a time: forks of a process whose other threads hold locks of the
/// allocator of shared memory would find them held for ever.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A victim that was killed.
#[derive(Debug)]
pub(crate) struct Kill {
    pub(crate) pid: u32,
    /// How many steps of the operation it has done.
    pub(crate) steps: usize,
    /// Whether that was all of it.
    pub(crate) is_complete: bool,
}

/// Where to kill.
#[derive(Clone, Copy, Debug)]
struct Plan {
    stride: usize,
    start: usize,
}

impl Plan {
    fn of(length: usize) -> Plan {
        let text = std::env::var("MP_SWEEP").unwrap_or_default();
        if text == "all" {
            return Plan {
                stride: 1,
                start: 1,
            };
        }
        if let Some((stride, start)) = text.split_once('+') {
            let number = |text: &str| text.parse().expect("MP_SWEEP is `all` or `17+5`");
            let (stride, start) = (number(stride), number(start));
            return Plan { stride, start };
        }
        let stride = next_prime(length / (STEPS / length).clamp(KILLS_LEAST, KILLS));
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let random = now.map_or(0, |now| now.subsec_nanos()) as usize / 7;
        Plan {
            stride,
            start: 1 + random % stride,
        }
    }
}

fn next_prime(from: usize) -> usize {
    let is_prime = |n: usize| {
        (2..)
            .take_while(|d| d * d <= n)
            .all(|d| !n.is_multiple_of(d))
    };
    (from.max(2)..)
        .find(|&n| is_prime(n))
        .expect("there is always a larger one")
}

/// Tells where a sweep failed.
struct Report<'p> {
    plan: &'p Plan,
    steps: usize,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Plan { stride, start } = self.plan;
            eprintln!(
                "the victim was killed after {} steps (MP_SWEEP={stride}+{start})",
                self.steps
            );
        }
    }
}

/// An operation, and what surrounds it.
pub(crate) struct Sweep<'s> {
    begin: Box<dyn Fn() + 's>,
    warm: Box<dyn Fn() + 's>,
    before_step: Box<dyn Fn(usize) + 's>,
    operation: Box<dyn Fn() + 's>,
}

impl<'s> Sweep<'s> {
    /// Of what runs in the victim.
    pub(crate) fn of(operation: impl Fn() + 's) -> Sweep<'s> {
        Sweep {
            begin: Box::new(|| {}),
            warm: Box::new(|| {}),
            before_step: Box::new(|_| {}),
            operation: Box::new(operation),
        }
    }

    /// Runs in the test before each victim is made.
    pub(crate) fn begin(self, begin: impl Fn() + 's) -> Sweep<'s> {
        Sweep {
            begin: Box::new(begin),
            ..self
        }
    }

    /// Runs in the victim before steps are counted.
    pub(crate) fn warm(self, warm: impl Fn() + 's) -> Sweep<'s> {
        Sweep {
            warm: Box::new(warm),
            ..self
        }
    }

    /// Is called in the test before each step, with the number of those before it.
    pub(crate) fn before_step(self, before_step: impl Fn(usize) + 's) -> Sweep<'s> {
        Sweep {
            before_step: Box::new(before_step),
            ..self
        }
    }

    /// Kills a victim after the whole operation, and others after more and more steps of it. After
    /// each kill `check` looks at what it left behind.
    pub(crate) fn run(&self, mut check: impl FnMut(&Kill)) {
        let _pinned = Pinned::here();
        let first = self.kill_after(STEP_LIMIT, false, &mut check);
        assert!(first.is_complete, "it waits for what never comes");
        let plan = Plan::of(first.steps);
        let mut steps = plan.start;
        let mut is_collected_late = false;
        // With others at work, one victim takes more steps than another.
        while steps < first.steps {
            let report = Report { plan: &plan, steps };
            self.kill_after(steps, is_collected_late, &mut check);
            drop(report);
            steps += plan.stride;
            is_collected_late = !is_collected_late;
        }
    }

    /// Kills a victim as soon as `is_there`, which is asked after each step, and calls `check`.
    #[allow(dead_code, reason = "not every file knows where")]
    #[track_caller]
    pub(crate) fn kill_when(&self, is_there: impl Fn() -> bool, mut check: impl FnMut(&Kill)) {
        let _pinned = Pinned::here();
        (self.begin)();
        let victim = Victim::start(&self.warm, &self.operation);
        let kill = victim.step(STEP_LIMIT, &self.before_step, is_there);
        let is_there = !kill.is_complete && kill.steps < STEP_LIMIT;
        assert!(is_there, "it never comes there");
        victim.kill();
        check(&kill);
        victim.collect();
    }

    /// Kills a victim, and calls `check`, before the body is collected or after that.
    fn kill_after(
        &self,
        steps: usize,
        is_collected_late: bool,
        mut check: impl FnMut(&Kill),
    ) -> Kill {
        (self.begin)();
        let victim = Victim::start(&self.warm, &self.operation);
        let kill = victim.step(steps, &self.before_step, || false);
        victim.kill();
        if !is_collected_late {
            victim.collect();
        }
        check(&kill);
        if is_collected_late {
            victim.collect();
        }
        kill
    }
}

/// Keeps this thread, and the victims it makes, on one processor: a step from one to the other and
/// back takes several times as long.
struct Pinned(CpuSet);

impl Pinned {
    fn here() -> Pinned {
        let this_thread = Pid::from_raw(0);
        let before = sched_getaffinity(this_thread).expect("a thread can ask for it");
        let mut one = CpuSet::new();
        let here = sched_getcpu().expect("it runs somewhere");
        one.set(here).expect("there is such a processor");
        sched_setaffinity(this_thread, &one).expect("it runs there");
        Pinned(before)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        sched_setaffinity(Pid::from_raw(0), &self.0).expect("it ran there before");
    }
}

/// A traced child. It dies with the test.
struct Victim(Pid);

impl Victim {
    fn start(warm: impl Fn(), operation: impl Fn()) -> Victim {
        let pid = forked(|| {
            warm();
            ptrace::traceme().expect("a child may ask for it");
            raise(Signal::SIGSTOP).expect("a process can stop itself");
            operation();
            raise(Signal::SIGSTOP).expect("a process can stop itself");
        });
        let victim = Victim(pid);
        assert_eq!(victim.wait(), WaitStatus::Stopped(pid, Signal::SIGSTOP));
        ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL).expect("it is stopped");
        victim
    }

    fn wait(&self) -> WaitStatus {
        waitpid(self.0, None).expect("it is our child")
    }

    /// Lets it take so many steps, or fewer if it `is_there` before.
    fn step(&self, steps: usize, before_step: impl Fn(usize), is_there: impl Fn() -> bool) -> Kill {
        let kill = |steps, is_complete| Kill {
            pid: self.0.as_raw().cast_unsigned(),
            steps,
            is_complete,
        };
        for done in 0..steps {
            before_step(done);
            ptrace::step(self.0, None).expect("it is stopped");
            match self.wait() {
                WaitStatus::Stopped(_, Signal::SIGTRAP) if is_there() => {
                    return kill(done + 1, false);
                }
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
                WaitStatus::Stopped(_, Signal::SIGSTOP) => return kill(done + 1, true),
                other => panic!("the operation failed: {other:?}"),
            }
        }
        kill(steps, false)
    }

    /// Kills it, and waits until it is dead.
    fn kill(&self) {
        kill(self.0, Signal::SIGKILL).expect("it was not collected");
        let id = Id::Pid(self.0);
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(id, flags).expect("it is our child");
    }

    fn collect(&self) {
        waitpid(self.0, None).expect("it is our child");
    }
}

/// A child that does something beside the victims, until this is dropped.
pub(crate) struct Companion(Pid);

impl Companion {
    pub(crate) fn start(act: impl Fn()) -> Companion {
        Companion(forked(|| {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("it is a signal");
            loop {
                act();
            }
        }))
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // Should it have failed, the test has seen that nothing went on.
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// Runs `act` in a child that ends then, and waits for its end.
pub(crate) fn in_child(act: impl FnOnce()) -> u32 {
    let pid = forked(act);
    let status = waitpid(pid, None).expect("it is our child");
    assert_eq!(status, WaitStatus::Exited(pid, 0));
    pid.as_raw().cast_unsigned()
}

/// Runs `act` in a child.
fn forked(act: impl FnOnce()) -> Pid {
    // SAFETY: the child runs `act` alone, and leaves by `_exit`. What it needs of locks of this
    // process is free: see `alone`, and glibc keeps the allocator's own in order.
    match unsafe { fork() }.expect("there is room for a process") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let code = match catch_unwind(AssertUnwindSafe(act)) {
                Ok(()) => 0,
                Err(_) => 101,
            };
            leave(code)
        }
    }
}

/// Ends this process without running anything more of it.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: it takes an integer and does not return.
    unsafe { libc::_exit(code) }
}
