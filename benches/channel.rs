//! Numbers through a channel, from one process to one and from three to three, against a channel
//! between the threads of one process.

mod measure;

use std::thread;

use measure::place::Place;
use measure::{Contest, Failure, size};
use mp::{Pool, Receiver, Sender};

const CAPACITY: usize = 1024;
/// Of producers, and of consumers, where there are several.
const SEVERAL: usize = 3;

/// Where somebody begins; `None`: wherever the kernel puts it.
type Start = Option<Place>;

fn begin(start: Start) -> Result<(), String> {
    start.map_or(Ok(()), |place| place.meet().map_err(|e| e.to_string()))
}

#[mp::process_fn]
fn produce(to: Sender<u64>, start: Start, count: u64) -> Result<(), String> {
    begin(start)?;
    (0..count).try_for_each(|x| to.send(x).map_err(|error| error.to_string()))
}

/// The sum of all it gets, and of ones.
#[mp::process_fn]
fn consume(from: Receiver<u64>, start: Start) -> Result<(u64, u64), String> {
    begin(start)?;
    Ok(from.iter().fold((0, 0), |(sum, n), x| (sum + x, n + 1)))
}

/// How the contestants are set up.
#[derive(Clone, Copy)]
struct Setting {
    /// So many producers, and so many consumers.
    sides: usize,
    is_bounded: bool,
    /// The two sides have a core each.
    is_placed: bool,
}

impl Setting {
    fn starts(self) -> Result<[Start; 2], Failure> {
        match self.is_placed {
            true => Ok(Place::two()?.map(Some)),
            false => Ok([None, None]),
        }
    }
}

fn check(sums: impl IntoIterator<Item = (u64, u64)>, sides: usize, count: u64) {
    let (sum, n) = sums.into_iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let sides = sides as u64;
    assert_eq!((sum, n), (sides * (count * (count - 1) / 2), sides * count));
}

/// So many processes on each side, and each producer sends so many.
fn by_processes(
    pool: &Pool,
    (tx, rx): (Sender<u64>, Receiver<u64>),
    setting: Setting,
    count: u64,
) -> Result<(), Failure> {
    let sides = setting.sides;
    let [left, right] = setting.starts()?;
    let consumers: Vec<_> = (0..sides)
        .map(|_| pool.submit(consume, (rx.clone(), right.clone())))
        .collect::<Result<_, _>>()?;
    let producers: Vec<_> = (0..sides)
        .map(|_| pool.submit(produce, (tx.clone(), left.clone(), count)))
        .collect::<Result<_, _>>()?;
    // What this process has of the channel would keep it open.
    drop((tx, rx));
    for producer in producers {
        producer.join()??;
    }
    let mut sums = Vec::new();
    for consumer in consumers {
        sums.push(consumer.join()??);
    }
    check(sums, sides, count);
    Ok(())
}

type Threads = (
    crossbeam_channel::Sender<u64>,
    crossbeam_channel::Receiver<u64>,
);

fn by_threads((tx, rx): Threads, setting: Setting, count: u64) -> Result<(), Failure> {
    let sides = setting.sides;
    let [left, right] = setting.starts()?;
    let send = |to: crossbeam_channel::Sender<u64>, start| {
        begin(start)?;
        (0..count).try_for_each(|x| to.send(x).map_err(|error| error.to_string()))
    };
    let receive = |from: crossbeam_channel::Receiver<u64>, start| {
        begin(start)?;
        Ok(from.iter().fold((0, 0), |(sum, n), x| (sum + x, n + 1)))
    };
    let sums = thread::scope(|scope| {
        let mut consumers = Vec::new();
        let mut producers = Vec::new();
        for _ in 0..sides {
            let (rx, start) = (rx.clone(), right.clone());
            consumers.push(scope.spawn(move || receive(rx, start)));
            let (tx, start) = (tx.clone(), left.clone());
            producers.push(scope.spawn(move || send(tx, start)));
        }
        drop((tx, rx));
        for producer in producers {
            producer.join().map_err(|_| "a producer panicked")??;
        }
        let sum = |consumer: thread::ScopedJoinHandle<'_, Result<_, String>>| {
            consumer.join().map_err(|_| "a consumer panicked")?
        };
        consumers
            .into_iter()
            .map(sum)
            .collect::<Result<Vec<_>, _>>()
    })?;
    check(sums, sides, count);
    Ok(())
}

fn contest(title: &str, setting: Setting, items: usize) -> Result<(), Failure> {
    let Setting {
        sides, is_bounded, ..
    } = setting;
    let count = (items / sides) as u64;
    let pool = Pool::new(2 * sides)?;
    let mut contest = Contest::new(title, items / sides * sides);
    let name = match is_bounded {
        true => "mp::channel(1024), processes",
        false => "mp::unbounded_channel(), processes",
    };
    contest.enter(name, || {
        let ends = match is_bounded {
            true => mp::channel(CAPACITY)?,
            false => mp::unbounded_channel()?,
        };
        by_processes(&pool, ends, setting, count)
    });
    contest.enter("crossbeam-channel, the same, threads", || {
        let ends = match is_bounded {
            true => crossbeam_channel::bounded(CAPACITY),
            false => crossbeam_channel::unbounded(),
        };
        by_threads(ends, setting, count)
    });
    let capacity = if is_bounded { CAPACITY } else { 0 };
    contest.run(15, "channel.py", &[items / 50, sides, capacity])
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    let items = size(1_000_000, 30_000);
    let one = Setting {
        sides: 1,
        is_bounded: true,
        is_placed: false,
    };
    contest("a u64, one to one", one, items)?;
    let placed = Setting {
        is_placed: true,
        ..one
    };
    contest("a u64, one to one, each on its core", placed, items)?;
    let unbounded = Setting {
        is_bounded: false,
        ..one
    };
    contest("a u64, one to one, unbounded", unbounded, items)?;
    let several = Setting {
        sides: SEVERAL,
        ..one
    };
    contest("a u64, three to three", several, items)
}
