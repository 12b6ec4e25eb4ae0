//! The round trip of one small message over a pipe, against eight bytes there and back.

mod measure;

use measure::{Contest, Echo, Failure, size};
use mp::Connection;

#[mp::process_fn]
fn echo(end: Connection<u64, u64>) {
    while let Ok(number) = end.recv() {
        end.send(number).expect("who asks receives the answer");
    }
}

fn main() -> Result<(), Failure> {
    measure::be_raw_if_told()?;
    mp::init();
    let calls = size(5000, 100);
    let (here, there) = mp::pipe::<u64, u64>()?;
    let process = mp::spawn!(echo(there))?;
    let mut raw = Echo::start_packets(8)?;
    let mut contest = Contest::new("one small message, there and back", calls);
    contest.enter("here.send(12)?; here.recv()?", || {
        for _ in 0..calls {
            here.send(12)?;
            here.recv()?;
        }
        Ok(())
    });
    contest.enter("raw: 8 bytes over a pair of seqpacket sockets", || {
        (0..calls).try_for_each(|_| raw.round_trip())
    });
    contest.run(21, "pipe_round_trip.py", &[calls])?;
    drop(here);
    Ok(process.join()?)
}
