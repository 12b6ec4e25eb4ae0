//! Handles of `ipc-channel` as the descriptors they are, so that they can go over a socket of ours.
//!
//! `ipc-channel` gives no descriptor out of its hands and takes none in, except over its own
//! channels. So this process has one, the *tap*, of which it knows the descriptors of both ends: what
//! `ipc-channel` sends over it is received with its descriptors here, and what is sent here, in the
//! same words, is received by `ipc-channel`. Nothing is made up in its format: the bytes of every
//! packet that it receives are those of one that it has just sent.
//!
//! Which descriptors the tap has is found out by a mark that is sent over it: the receiver is the
//! socket of this process in which the mark waits. The sender then goes over the tap itself.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipc_channel::IpcError;
use ipc_channel::ipc::{self, IpcReceiver, IpcSender};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Serialize, Serializer};

use super::frame::{Inbox, Outbox};
use super::{Encoder, Ends, Handles};
use crate::os::packet::{self, Packet, Patience};
use crate::os::thread::PerProcess;
use crate::os::{descriptor, uninterrupted};
use crate::shm::transit::Cargo;

/// Handles of `ipc-channel`, taken apart.
#[derive(Debug, Default)]
pub(crate) struct LooseEnds {
    pub(crate) channels: usize,
    pub(crate) regions: usize,
    /// First the ends of channels, then the regions.
    pub(crate) fds: Vec<OwnedFd>,
}

impl LooseEnds {
    /// Those among `handles`.
    pub(crate) fn of(handles: Option<&Handles>) -> io::Result<LooseEnds> {
        match handles.and_then(|handles| handles.ends.as_ref()) {
            None => Ok(LooseEnds::default()),
            Some(ends) => Ok(LooseEnds {
                channels: ends.channels.len(),
                regions: ends.regions.len(),
                fds: tap()?.lock().take_apart(ends)?,
            }),
        }
    }

    /// Puts them together again, with what came with them.
    ///
    /// # Errors
    ///
    /// If they are not what they should be, or there are not enough free descriptors.
    pub(crate) fn into_handles(self, cargo: Cargo) -> io::Result<Option<Handles>> {
        let ends = match self.channels + self.regions {
            0 => None,
            _ => Some(tap()?.lock().put_together(&self)?),
        };
        Ok(Handles::of(ends, cargo))
    }

    /// What the numbers say is what is there: `ipc-channel` believes them.
    fn are_true(&self) -> io::Result<bool> {
        let Some((channels, regions)) = self.fds.split_at_checked(self.channels) else {
            return Ok(false);
        };
        for channel in channels {
            if !descriptor::is_socket(channel)? {
                return Ok(false);
            }
        }
        for region in regions {
            if !descriptor::is_memory(region)? {
                return Ok(false);
            }
        }
        Ok(regions.len() == self.regions)
    }
}

/// The descriptors of two ends that another process shall have.
///
/// # Errors
///
/// If there are too few descriptors.
pub(crate) fn loosen(inbox: Inbox, outbox: &Outbox) -> io::Result<[OwnedFd; 2]> {
    let tap = tap()?;
    let packet = tap.lock().cross(2, 0, |send| {
        let mut places = Encoder::default();
        places.ignore_handles();
        let pushed = places.value(&inbox).and_then(|()| places.value(outbox));
        pushed.map_err(io::Error::other)?;
        send()
    })?;
    let fds = packet.fds.try_into();
    fds.map_err(|_| io::Error::other("there are not enough free descriptors"))
}

/// Whether a short message can be put into `outbox` without waiting; `false` if that cannot be found
/// out.
pub(crate) fn has_room(outbox: &Outbox) -> bool {
    let Ok(tap) = tap() else { return false };
    let own = Ends {
        channels: vec![outbox.opaque()],
        ..Ends::default()
    };
    let fds = tap.lock().take_apart(&own);
    fds.is_ok_and(|fds| {
        let ready = fds.first().map(packet::readiness);
        ready.is_some_and(|ready| ready.is_ok_and(|ready| ready.to_send))
    })
}

impl Handles {
    /// What the library's own handles refer to.
    pub(crate) fn cargo(&self) -> &Cargo {
        &self.cargo
    }
}

struct Tap(Mutex<Ways>);

impl Tap {
    fn lock(&self) -> MutexGuard<'_, Ways> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ends of the channel, each twice.
struct Ways {
    sender: IpcSender<Crossing>,
    receiver: IpcReceiver<Crossing>,
    into: OwnedFd,
    out_of: OwnedFd,
}

/// The one of this process.
fn tap() -> io::Result<Arc<Tap>> {
    static TAP: PerProcess<Arc<Tap>> = PerProcess::new();
    TAP.get_or_try_init(|| Ok(Arc::new(Tap(Mutex::new(Ways::open()?)))))
}

impl Ways {
    fn open() -> io::Result<Ways> {
        super::prepare()?;
        descriptor::require_room(8)?;
        let (sender, receiver) = ipc::channel()?;
        let words = [(); 2].map(|()| RandomState::new().hash_one(std::process::id()));
        let mark = format!("{:016x}{:016x}", words[0], words[1]);
        let marked = Crossing {
            mark: mark.clone(),
            ..Crossing::default()
        };
        sender.send(marked).map_err(io::Error::other)?;
        let out_of = packet::find_marked(mark.as_bytes())?;
        let mut ways = Ways {
            into: out_of.try_clone()?,
            sender,
            receiver,
            out_of,
        };
        let own_sender = Ends {
            channels: vec![ways.sender.clone().to_opaque()],
            ..Ends::default()
        };
        let fds = ways.take_apart(&own_sender)?;
        ways.into = fds.into_iter().next().ok_or(io::ErrorKind::InvalidData)?;
        Ok(ways)
    }

    fn take_apart(&mut self, ends: &Ends) -> io::Result<Vec<OwnedFd>> {
        let (channels, regions) = (ends.channels.len(), ends.regions.len());
        let packet = self.cross(channels, regions, |send| ends.attach(send)?)?;
        match packet.fds.len() == channels + regions && !packet.is_short {
            true => Ok(packet.fds),
            false => Err(io::Error::other("there are not enough free descriptors")),
        }
    }

    fn put_together(&mut self, loose: &LooseEnds) -> io::Result<Ends> {
        if !loose.are_true()? {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // `ipc-channel` panics where the descriptors of a message find no room.
        descriptor::require_room(loose.fds.len() + 2)?;
        let words = self.cross(loose.channels, loose.regions, |send| send())?;
        let fds: Vec<_> = loose.fds.iter().map(|fd| fd.as_fd()).collect();
        let parts = [IoSlice::new(&words.bytes)];
        packet::send(&self.into, &parts, &fds, Patience::No)?;
        let receive = AssertUnwindSafe(|| {
            uninterrupted(|| match self.receiver.recv() {
                Err(IpcError::Io(error)) => Err(error),
                other => other.map_err(io::Error::other),
            })
        });
        let received = catch_unwind(receive).unwrap_or_else(|_| {
            Err(io::Error::other(
                "the handles of ipc-channel in it were not taken in",
            ))
        });
        received.map(|crossing| crossing.ends)
    }

    /// Has `ipc-channel` send, with what `with` adds, and receives that here.
    fn cross(
        &mut self,
        channels: usize,
        regions: usize,
        with: impl FnOnce(&dyn Fn() -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<Packet> {
        // What is left of something that failed.
        while packet::receive(&self.out_of).is_ok() {}
        with(&|| {
            let crossing = Crossing {
                channels,
                regions,
                ..Crossing::default()
            };
            self.sender.send(crossing).map_err(io::Error::other)
        })?;
        packet::receive(&self.out_of)
    }
}

/// What goes over the tap. Deserializing it takes out all that came with it.
#[derive(Debug, Default)]
struct Crossing {
    channels: usize,
    regions: usize,
    mark: String,
    ends: Ends,
}

impl Serialize for Crossing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.channels, self.regions, &self.mark).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Crossing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Crossing, D::Error> {
        let (channels, regions, mark) = Deserialize::deserialize(deserializer)?;
        let ends = Ends::receive(channels, regions).map_err(D::Error::custom)?;
        Ok(Crossing {
            channels,
            regions,
            mark,
            ends,
        })
    }
}
