//! Large messages through a channel, against copies of as many bytes in one process.

mod measure;

use std::hint::black_box;

use measure::place::Place;
use measure::{Contest, Failure, size};
use mp::{Pool, Receiver, Sender};

/// How much may be on its way, and how many messages in any case.
const ROOM_BYTES: usize = 4 << 20;
const LEAST_CAPACITY: usize = 4;

#[mp::process_fn]
fn produce(to: Sender<Vec<u8>>, place: Place, bytes: usize, count: usize) -> Result<(), String> {
    place.meet().map_err(|error| error.to_string())?;
    for _ in 0..count {
        to.send(vec![7; bytes]).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Takes so many, and tells how many bytes they have.
#[mp::process_fn]
fn consume(from: Receiver<Vec<u8>>, place: Place, count: usize) -> Result<usize, String> {
    place.meet().map_err(|error| error.to_string())?;
    Ok(from.iter().take(count).map(|message| message.len()).sum())
}

fn contest(bytes: usize, total: usize) -> Result<(), Failure> {
    let count = (total / bytes).max(4);
    let title = match bytes >> 20 {
        0 => format!("a message of {} KiB", bytes >> 10),
        mebibytes => format!("a message of {mebibytes} MiB"),
    };
    let capacity = (ROOM_BYTES / bytes).max(LEAST_CAPACITY);
    let pool = Pool::new(2)?;
    let (source, mut target, mut between) =
        (vec![7_u8; bytes], vec![0_u8; bytes], vec![0_u8; bytes]);
    // One for all rounds, so that its memory is warm.
    let (tx, rx) = mp::channel(capacity)?;
    let mut contest = Contest::rated(title, count, bytes);
    contest.enter("made, sent, received and dropped", || {
        let [left, right] = Place::two()?;
        let consumer = pool.submit(consume, (rx.clone(), right, count))?;
        let producer = pool.submit(produce, (tx.clone(), left, bytes, count))?;
        producer.join()??;
        assert_eq!(consumer.join()??, bytes * count);
        Ok(())
    });
    contest.enter("one process: made, copied, copied again, dropped", || {
        for _ in 0..count {
            let message = black_box(vec![7_u8; bytes]);
            between.copy_from_slice(&message);
            drop(message);
            drop(black_box(black_box(&between).to_vec()));
        }
        Ok(())
    });
    contest.enter("raw: one copy, from memory in use to memory in use", || {
        for _ in 0..count {
            target.copy_from_slice(black_box(&source));
            black_box(&mut target);
        }
        Ok(())
    });
    contest.run(
        15,
        "channel_large.py",
        &[bytes, (count / 4).max(2), capacity],
    )
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    let total = size(1 << 30, 1 << 26);
    for bytes in [64 << 10, 1 << 20, 16 << 20] {
        contest(bytes, total)?;
    }
    Ok(())
}
