//! The handles of `ipc-channel` that ride along with bytes: ends of channels, and regions.
//!
//! `ipc-channel` moves descriptors behind the back of whoever serializes. Serializing a handle
//! pushes its descriptor to a list in a thread-local, and writes its place in that list as a
//! `u64`; the next `send` of the thread takes the whole list. Deserializing takes descriptors out
//! of another thread-local list, which only `IpcMessage::to` fills. Four things follow.
//!
//! - **Are there any?** [`HandleWatch`] sees each `u64` that is written. The `n`th handle writes
//!   `n`, so a value in which no `u64` equals the count so far has none, and that costs a
//!   comparison. Where one does (mostly a plain zero), the list is looked at.
//! - **Whose are they?** [`HandleWatch::collect`] sends the list to this very process and receives
//!   it as [`Handles`], which own their descriptors, can wait in a queue, change threads and be
//!   sent more than once, when a chunk has to run elsewhere.
//! - **Decoding** happens in [`Handles::lend`], which sends copies to this process and decodes
//!   while `ipc-channel` deserializes them.
//! - **Nothing is left behind.** What a failed value pushed is thrown away by [`discard_pushed`].
//!   A descriptor that was received and not decoded would trip an assertion in `ipc-channel`, so
//!   `lend` takes the leftovers out, as receivers: a receiver whose descriptor is gone already is
//!   dropped in peace, a sender is not.
//!
//! The kernel takes 253 descriptors in a message and `ipc-channel` panics above 64, so more than
//! [`HANDLE_LIMIT`] in one value are refused.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;

use ipc_channel::ipc::{self, IpcSender, IpcSharedMemory, OpaqueIpcReceiver, OpaqueIpcSender};
use serde::de::value::Error as IndexError;
use serde::de::{Deserialize, Deserializer, IntoDeserializer};
use serde::{Serialize, Serializer};

use super::{DecodeError, EncodeError, Encoder};
use crate::os::{carry, descriptor};

/// So many handles one value may carry; with some room below the 64 of `ipc-channel`.
const HANDLE_LIMIT: usize = 48;
/// A message with this many is closed: the next value begins another.
const HANDLES_PER_MESSAGE: u64 = 8;

/// Handles between processes, or in this one between its queues.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    /// Ends of channels; held as senders, since those can be sent again, whatever they are.
    pub(super) channels: Vec<OpaqueIpcSender>,
    pub(super) regions: Vec<IpcSharedMemory>,
}

impl Handles {
    /// Takes `channels` ends and `regions` regions out of the message that is being deserialized.
    ///
    /// # Panics
    ///
    /// In `ipc-channel`, if the message has fewer ends than that.
    pub(super) fn receive(channels: usize, regions: usize) -> Result<Handles, IndexError> {
        let mut handles = Handles::default();
        for index in 0..channels {
            handles
                .channels
                .push(OpaqueIpcSender::deserialize(at(index))?);
        }
        for index in 0..regions {
            handles
                .regions
                .push(IpcSharedMemory::deserialize(at(index))?);
        }
        Ok(handles)
    }

    /// Makes the next `send` of this thread carry copies of all of them, in their order.
    pub(super) fn push(&self) -> Result<(), EncodeError> {
        let mut indices = Encoder::default();
        indices.ignore_handles();
        for channel in &self.channels {
            indices.value(channel)?;
        }
        for region in &self.regions {
            indices.value(region)?;
        }
        Ok(())
    }

    /// Runs `decode` in such a way that handles can be deserialized in it, any number of times for
    /// one set of handles; each time they are new descriptors.
    pub(super) fn lend<T>(&self, decode: impl FnOnce() -> T) -> Result<T, DecodeError> {
        let refused = |error: &dyn std::fmt::Display| {
            DecodeError::new(format!("its handles could not be taken out: {error}"))
        };
        descriptor::require_room(self.channels.len() + self.regions.len() + 2)
            .map_err(|error| refused(&error))?;
        let (sender, receiver) = ipc::channel::<Lent>().map_err(|error| refused(&error))?;
        self.push().map_err(|error| refused(&error))?;
        sender
            .send(Lent {
                channels: self.channels.len(),
            })
            .map_err(|error| refused(&error))?;

        let mut decode = Some(decode);
        let mut outcome = None;
        let mut once = || {
            if let Some(decode) = decode.take() {
                outcome = Some(catch_unwind(AssertUnwindSafe(decode)));
            }
        };
        let received = carry::carry(&mut once, || {
            crate::os::uninterrupted(|| match receiver.recv() {
                Err(ipc_channel::IpcError::Io(error)) => Err(error),
                other => Ok(other),
            })
        });
        match (outcome, received) {
            (Some(Ok(value)), _) => Ok(value),
            (Some(Err(panic)), _) => resume_unwind(panic),
            (None, Ok(Err(error))) => Err(refused(&error)),
            (None, Err(error)) => Err(refused(&error)),
            (None, Ok(Ok(_))) => Err(refused(&"they were not asked for")),
        }
    }
}

fn at(index: usize) -> serde::de::value::UsizeDeserializer<IndexError> {
    index.into_deserializer()
}

/// Deserializing it runs the closure that is being carried.
struct Lent {
    channels: usize,
}

impl Serialize for Lent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.channels.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lent, D::Error> {
        let channels = usize::deserialize(deserializer)?;
        carry::run_carried();
        for index in 0..channels {
            drop(OpaqueIpcReceiver::deserialize(at(index)));
        }
        Ok(Lent { channels })
    }
}

/// Sees handles pass while a value is encoded. Both counts are upper bounds of what was pushed:
/// a handle writes the number of those before it, so each one that passes raises its count.
#[derive(Debug, Default)]
pub(super) struct HandleWatch {
    channels: u64,
    regions: u64,
    ignores: bool,
}

impl HandleWatch {
    /// Looks at a `u64` that is being written.
    pub(super) fn saw(&mut self, value: u64) -> Result<(), EncodeError> {
        if value != self.channels && value != self.regions || self.ignores {
            return Ok(());
        }
        self.channels += u64::from(value == self.channels);
        self.regions += u64::from(value == self.regions);
        if self.channels + self.regions <= HANDLE_LIMIT as u64 {
            return Ok(());
        }
        self.settle()
    }

    pub(super) fn ignore(&mut self) {
        self.ignores = true;
    }

    pub(super) fn is_loaded(&mut self) -> Result<bool, EncodeError> {
        if self.channels + self.regions < HANDLES_PER_MESSAGE {
            return Ok(false);
        }
        self.settle()?;
        Ok(self.channels + self.regions >= HANDLES_PER_MESSAGE)
    }

    /// Takes the handles that were pushed.
    pub(super) fn collect(&mut self) -> Result<Option<Handles>, EncodeError> {
        if self.channels + self.regions == 0 {
            return Ok(None);
        }
        let handles = collect_pushed(self.regions)?;
        (self.channels, self.regions) = (0, 0);
        let none = handles.channels.is_empty() && handles.regions.is_empty();
        Ok((!none).then_some(handles))
    }

    /// Throws away the handles that were pushed.
    pub(super) fn discard(&mut self) {
        if self.channels + self.regions > 0 {
            (self.channels, self.regions) = (0, 0);
            discard_pushed();
        }
    }

    /// Makes the counts exact.
    fn settle(&mut self) -> Result<(), EncodeError> {
        let handles = collect_pushed(self.regions)?;
        let count = handles.channels.len() + handles.regions.len();
        (self.channels, self.regions) = (0, 0);
        if count > HANDLE_LIMIT {
            return Err(EncodeError::new(format!(
                "it carries more than {HANDLE_LIMIT} handles; send the rest with another call"
            )));
        }
        handles.push()?;
        (self.channels, self.regions) =
            (handles.channels.len() as u64, handles.regions.len() as u64);
        Ok(())
    }
}

/// A handle of no use, made once: its place in the list tells how many are before it.
fn probe() -> std::io::Result<&'static IpcSender<()>> {
    static PROBE: OnceLock<IpcSender<()>> = OnceLock::new();
    if let Some(probe) = PROBE.get() {
        return Ok(probe);
    }
    // Its receiver is dropped, so that a message to it goes nowhere: see `discard_pushed`.
    let (sender, _) = ipc::channel()?;
    Ok(PROBE.get_or_init(|| sender))
}

/// Empties the list of what will be sent.
fn discard_pushed() {
    if let Ok(probe) = probe() {
        // It takes the list before it fails, as it must: nobody receives.
        let _ = probe.send(());
    }
}

/// Empties the list of what will be sent, into `Handles`.
fn collect_pushed(most_regions: u64) -> Result<Handles, EncodeError> {
    let collected = (|| {
        let mut index = Encoder::default();
        index.ignore_handles();
        index.value(probe()?).map_err(std::io::Error::other)?;
        let index = index.finish().map_err(std::io::Error::other)?.bytes;
        let channels = super::Decoder::new(&index)
            .u64()
            .map_err(std::io::Error::other)?;
        // One for the probe, two for the channel they go through.
        descriptor::require_room(channels as usize + most_regions as usize + 3)?;
        let (sender, receiver) = ipc::channel::<Collected>()?;
        let channels = channels as usize;
        let message = Collected {
            channels,
            handles: Handles::default(),
        };
        sender.send(message).map_err(std::io::Error::other)?;
        let mut handles = crate::os::uninterrupted(|| match receiver.recv() {
            Err(ipc_channel::IpcError::Io(error)) => Err(error),
            other => other.map_err(std::io::Error::other),
        })?
        .handles;
        // The last one is the probe.
        handles.channels.truncate(channels);
        Ok(handles)
    })();
    collected.map_err(|error: std::io::Error| {
        EncodeError::new(format!("its handles could not be put in: {error}"))
    })
}

/// Deserializing it takes everything that came with it.
struct Collected {
    channels: usize,
    handles: Handles,
}

impl Serialize for Collected {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.channels.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Collected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Collected, D::Error> {
        let channels = usize::deserialize(deserializer)?;
        let mut handles =
            Handles::receive(channels + 1, 0).map_err(<D::Error as serde::de::Error>::custom)?;
        // Regions answer with an error when there is none left, so they count themselves.
        let mut index = 0;
        while let Ok(region) = IpcSharedMemory::deserialize(at(index)) {
            handles.regions.push(region);
            index += 1;
        }
        Ok(Collected { channels, handles })
    }
}
