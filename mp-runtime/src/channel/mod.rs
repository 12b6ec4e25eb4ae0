//! Channels and queues, which are rings of bytes in shared memory, and pipes, which are sockets.
//!
//! | file | holds |
//! | --- | --- |
//! | `bounds.rs` | how large a ring is, and its parts |
//! | `room.rs` | where in a ring the next message goes |
//! | `ring.rs` | the protocol: who may write what, and what is left when somebody dies |
//! | `wait.rs` | how long somebody looks before it sleeps |
//! | `takers.rs` | who has values of a queue in hand |
//! | `codec.rs` | values in messages |
//! | `values.rs` | values over a ring, and its errors |
//! | `sender.rs` | `Sender` and `Receiver`; who has an end of a channel |
//! | `queue.rs` | `Queue` |
//! | `letter.rs` | a message of a pipe, and the packets it travels in |
//! | `line.rs` | the protocol of a pipe: who waits for whom, and what is left when somebody dies |
//! | `pipe.rs` | `Connection` |

mod bounds;
mod room;
mod wait;
mod takers;
mod ring;
mod codec;
mod error;
mod values;
mod sender;
mod queue;
mod letter;
mod line;
mod pipe;
#[cfg(test)]
mod tests;

pub use codec::Portable;
pub use error::SendError;
pub use pipe::{Connection, pipe};
pub use queue::Queue;
pub use sender::{IntoIter, Iter, Receiver, Sender, channel, unbounded_channel};
