//! What is measured of a pool of one size.

use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use mp::Pool;

use crate::measure::spread::Spread;
use crate::measure::{Failure, size};

#[mp::process_fn]
fn square(x: i64) -> i64 {
    x * x
}

/// The columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// `Pool::new` and one result.
    Start,
    /// Until every worker is there.
    AllStarted,
    /// One call there and back, all others idle.
    Apply,
    /// `submit` of many and `join` of each, by a pool that is idle otherwise.
    Submit,
    /// An item of a `map`.
    Map,
    /// `Pool::join`, nothing to do.
    Stop,
    /// PSS of a worker: its own pages, and its part of those that several have. In bytes.
    Memory,
}

impl What {
    pub(crate) const ALL: [What; 7] = [
        What::Start,
        What::AllStarted,
        What::Apply,
        What::Submit,
        What::Map,
        What::Stop,
        What::Memory,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            What::Start => "start, one result",
            What::AllStarted => "all started",
            What::Apply => "one call",
            What::Submit => "submit, join: each",
            What::Map => "map: each",
            What::Stop => "stop",
            What::Memory => "memory of a worker",
        }
    }
}

/// A pool of one size, round by round.
pub(crate) struct Size {
    pub(crate) workers: usize,
    samples: [Vec<f64>; What::ALL.len()],
}

impl Size {
    pub(crate) fn new(workers: usize) -> Size {
        let samples = Default::default();
        Size { workers, samples }
    }

    /// What the rounds so far have shown.
    pub(crate) fn spread(&self, what: What) -> Option<Spread> {
        Spread::of(&self.samples[what as usize])
    }

    /// A pool from its start to its end.
    pub(crate) fn measure(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        let pool = Pool::new(self.workers)?;
        black_box(pool.apply(square, (12,))?);
        self.add(What::Start, start.elapsed());
        let ids = all_workers(&pool, self.workers)?;
        self.add(What::AllStarted, start.elapsed());
        self.measure_calls(&pool)?;
        let memory = ids.iter().map(|&id| proportional_set_bytes(id));
        let memory = memory.collect::<Result<Vec<_>, _>>()?;
        let median = Spread::of(&memory).ok_or("there are no workers")?.median;
        self.samples[What::Memory as usize].push(median);
        let start = Instant::now();
        pool.join()?;
        self.add(What::Stop, start.elapsed());
        Ok(())
    }

    fn measure_calls(&mut self, pool: &Pool) -> Result<(), Failure> {
        let calls = size(1000, 50);
        let each = |took: Duration, count: usize| took / count as u32;
        // Once for nothing: caches, pages, chunk sizes.
        pool.map(square, 0..calls as i64)?;

        let start = Instant::now();
        for _ in 0..calls {
            black_box(pool.apply(square, (12,))?);
        }
        self.add(What::Apply, each(start.elapsed(), calls));

        let start = Instant::now();
        let tasks = (0..calls as i64).map(|x| pool.submit(square, (x,)));
        for task in tasks.collect::<Result<Vec<_>, _>>()? {
            black_box(task.join()?);
        }
        self.add(What::Submit, each(start.elapsed(), calls));

        let items = size(100_000, 2_000);
        let start = Instant::now();
        black_box(pool.map(square, 0..items as i64)?);
        let took = start.elapsed();
        self.samples[What::Map as usize].push(took.as_secs_f64() / items as f64);
        Ok(())
    }

    fn add(&mut self, what: What, took: Duration) {
        self.samples[what as usize].push(took.as_secs_f64());
    }
}

/// The processes of a pool, when all of them are there.
fn all_workers(pool: &Pool, count: usize) -> Result<Vec<u32>, Failure> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let workers = pool.workers();
        if workers.len() >= count {
            return Ok(workers.iter().map(|worker| worker.id).collect());
        }
        if Instant::now() > deadline {
            return Err(format!("{} of {count} workers came", workers.len()).into());
        }
        thread::sleep(Duration::from_micros(200));
    }
}

fn proportional_set_bytes(process: u32) -> Result<f64, Failure> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: f64 = kilobytes.ok_or("smaps_rollup has no Pss")?.parse()?;
    Ok(kilobytes * 1024.0)
}
