//! What goes through a channel, a queue or a pipe must be able to travel.

struct Raw;

fn main() -> Result<(), mp::Error> {
    let (sender, receiver) = mp::channel::<Raw>(1)?;
    sender.send(Raw)?;
    receiver.recv()?;
    mp::Queue::<Raw>::unbounded()?.put(Raw)?;
    let (here, _there) = mp::pipe::<Raw, u8>()?;
    here.send(Raw)?;
    Ok(())
}
