//! The handles of `ipc-channel` that ride along with bytes: ends of channels, and regions.
//!
//! `ipc-channel` moves descriptors behind the back of whoever serializes. Serializing a handle
//! pushes its descriptor to a list in a thread-local, and writes its place in that list as a
//! `u64`; the next `send` of the thread takes the whole list. Deserializing takes descriptors out
//! of another thread-local list, which only `IpcMessage::to` fills. Four things follow.
//!
//! - **Are there any?** [`HandleWatch`] sees each `u64` that is written. The `n`th handle writes
//!   `n`, so a value in which no `u64` equals the count so far has none, and that costs a
//!   comparison. Where one does, the list is looked at, by pushing a handle of our own, which tells
//!   how many are before it. (A plain zero is mostly known by its type, and not looked at.)
//! - **Whose are they?** [`HandleWatch::collect`] sends the list to this very process and receives
//!   it as [`Ends`], which own their descriptors, can wait in a queue, change threads and be
//!   sent more than once, when a chunk has to run elsewhere.
//! - **Decoding** happens in [`Ends::lend`], which sends copies to this process and decodes
//!   while `ipc-channel` deserializes them.
//! - **Nothing is left behind.** What a failed value pushed is thrown away by [`discard_pushed`].
//!   A descriptor that was received and not decoded would trip an assertion in `ipc-channel`, so
//!   `lend` takes the leftovers out, as receivers: a receiver whose descriptor is gone already is
//!   dropped in peace, a sender is not.
//!
//! The kernel takes 253 descriptors in a message and `ipc-channel` panics above 64, so more than
//! [`HANDLE_LIMIT`] in one value are refused.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock, mpsc};

use ipc_channel::ipc::{self, IpcSender, IpcSharedMemory, OpaqueIpcReceiver, OpaqueIpcSender};
use serde::de::value::Error as IndexError;
use serde::de::{Deserialize, Deserializer, IntoDeserializer};
use serde::{Serialize, Serializer};

use super::{DecodeError, EncodeError, Encoder};
use crate::os::{carry, descriptor};
use crate::shm::bulk::Bulk;
use crate::shm::lease::Loan;
use crate::shm::transit::{self, Cargo, NotTaken, Trailer};

/// So many handles one value may carry; with some room below the 64 of `ipc-channel`.
const HANDLE_LIMIT: usize = 48;

/// What travels beside the bytes of a message, or waits in this process to do so.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    /// Those of `ipc-channel`.
    pub(super) ends: Option<Ends>,
    /// What the library's own handles refer to.
    pub(super) cargo: Arc<Cargo>,
    /// The parts of arrays in it.
    loans: Arc<Vec<Loan>>,
    /// Bytes of the message that lie apart.
    bulks: Arc<Vec<Bulk>>,
}

impl Handles {
    /// Puts both kinds together, if there is any.
    pub(crate) fn of(ends: Option<Ends>, mut cargo: Cargo) -> Option<Handles> {
        let is_any = ends.is_some() || !cargo.is_empty();
        is_any.then(|| Handles {
            ends,
            loans: Arc::new(std::mem::take(&mut cargo.loans)),
            bulks: Arc::new(std::mem::take(&mut cargo.bulks)),
            cargo: Arc::new(cargo),
        })
    }

    /// Runs `decode` in such a way that handles can be deserialized in it, any number of times for
    /// one set of handles.
    pub(super) fn lend<T>(
        &self,
        trailer: Trailer<'_>,
        decode: impl FnOnce() -> T,
    ) -> Result<T, DecodeError> {
        transit::arrived(&self.cargo, trailer.parcels(), || match &self.ends {
            None => Ok(decode()),
            Some(ends) => ends.lend(decode),
        })
    }

    /// Keeps count from now on of the parts of arrays that `item` has, which was received and is in
    /// nobody else's hands yet. Where a part is not on its way any more, whoever decodes the item is
    /// told. Tells whether the item makes sense.
    pub(crate) fn take_over_loans(&mut self, item: &[u8]) -> bool {
        let (Some((_, trailer)), Some(loans), Some(cargo)) = (
            transit::split_trailer(item),
            Arc::get_mut(&mut self.loans),
            Arc::get_mut(&mut self.cargo),
        ) else {
            return false;
        };
        let mut is_whole = true;
        for parcel in trailer.parcels() {
            match parcel.take_over(cargo) {
                Ok(loan) => loans.extend(loan),
                Err(NotTaken) => is_whole = false,
            }
        }
        if !is_whole {
            cargo.lose("the array of a chunk in it was locked before it arrived");
        }
        true
    }

    /// The message went out: who receives it has the parts of arrays in it.
    pub(crate) fn hand_over_loans(&self) {
        self.loans.iter().for_each(Loan::hand_over);
    }

    /// Whether a chunk of an array is still there that was put into the message: then it must not
    /// leave.
    #[inline]
    pub(crate) fn check_loans(loans: &[Loan]) -> Result<(), EncodeError> {
        match loans.iter().any(Loan::is_held) {
            false => Ok(()),
            true => Err(EncodeError::new(
                "a chunk of an array that it carries is still held here: move it in, and keep no \
                 other pointer to it",
            )),
        }
    }

    /// Bytes of the message that lie apart.
    pub(crate) fn bulks(&self) -> &Arc<Vec<Bulk>> {
        &self.bulks
    }

    /// The parts of arrays, which count as sent for as long as this is kept.
    pub(crate) fn loans(&self) -> &Arc<Vec<Loan>> {
        &self.loans
    }

    /// Nobody will take parts of arrays out of the message any more.
    pub(crate) fn end_loans(&self) {
        self.loans.iter().for_each(Loan::end);
    }
}

/// Handles of `ipc-channel`, between processes, or in this one between its queues.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Ends of channels; held as senders, since those can be sent again, whatever they are.
    pub(super) channels: Vec<OpaqueIpcSender>,
    pub(super) regions: Vec<IpcSharedMemory>,
}

impl Ends {
    /// Takes `channels` ends and `regions` regions out of the message that is being deserialized.
    ///
    /// # Panics
    ///
    /// In `ipc-channel`, if the message has fewer ends than that.
    pub(super) fn receive(channels: usize, regions: usize) -> Result<Ends, IndexError> {
        let mut handles = Ends::default();
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

    /// Runs `send`, whose first message carries copies of all of them, in their order. Whether it
    /// does or not, nothing is left for another message.
    pub(super) fn attach<T>(&self, send: impl FnOnce() -> T) -> io::Result<T> {
        // Copying a region without a free descriptor panics; somebody else may take the last one
        // between the two.
        descriptor::require_room(self.regions.len() + 1)?;
        let sent = catch_unwind(AssertUnwindSafe(|| {
            self.push().map_err(io::Error::other)?;
            Ok(send())
        }));
        sent.unwrap_or_else(|_| Err(io::Error::other("there are not enough free descriptors")))
            .inspect_err(|_| discard_pushed())
    }

    fn push(&self) -> Result<(), EncodeError> {
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
        let channels = self.channels.len();
        self.attach(|| sender.send(Lent { channels }))
            .map_err(|error| refused(&error))?
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

    /// Whether none was seen since they were taken.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.channels + self.regions == 0
    }

    /// Takes the handles that were pushed.
    #[inline]
    pub(super) fn collect(&mut self) -> Result<Option<Ends>, EncodeError> {
        if self.channels + self.regions == 0 {
            return Ok(None);
        }
        let most_regions = std::mem::take(&mut self.regions);
        self.channels = 0;
        collect_pushed(most_regions)
    }

    /// Throws away the handles that were pushed.
    #[inline]
    pub(super) fn discard(&mut self) {
        if self.channels + self.regions > 0 {
            (self.channels, self.regions) = (0, 0);
            discard_pushed();
        }
    }

    /// Makes the counts exact.
    fn settle(&mut self) -> Result<(), EncodeError> {
        let most_regions = std::mem::take(&mut self.regions);
        self.channels = 0;
        let Some(handles) = collect_pushed(most_regions)? else {
            return Ok(());
        };
        if handles.channels.len() + handles.regions.len() > HANDLE_LIMIT {
            return Err(EncodeError::new(format!(
                "it carries more than {HANDLE_LIMIT} handles; send the rest with another call"
            )));
        }
        handles.attach(|| ()).map_err(put_in)?;
        self.channels = handles.channels.len() as u64;
        self.regions = handles.regions.len() as u64;
        Ok(())
    }
}

fn put_in(error: io::Error) -> EncodeError {
    EncodeError::new(format!("its handles could not be put in: {error}"))
}

/// A handle of no use, made once: its place in the list tells how many are before it.
fn probe() -> io::Result<&'static IpcSender<()>> {
    static PROBE: OnceLock<IpcSender<()>> = OnceLock::new();
    if let Some(probe) = PROBE.get() {
        return Ok(probe);
    }
    // On a thread of its own: what this one sends now would take along what was pushed.
    let (done, outcome) = mpsc::channel();
    crate::os::thread::spawn("mp-prepare", move || {
        // Who asked waits for it.
        let _ = done.send(super::prepare());
    })?;
    outcome.recv().map_err(io::Error::other)??;
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

/// Pushes a handle, and tells how many of its kind were there before it.
fn push_probe(handle: &impl Serialize) -> io::Result<usize> {
    let mut index = Encoder::default();
    index.ignore_handles();
    index.value(handle).map_err(io::Error::other)?;
    let index = index.into_plain_bytes();
    let before = super::Decoder::new(&index)
        .u64()
        .map_err(io::Error::other)?;
    Ok(before as usize)
}

/// The same for a region, which takes a descriptor, and panics if there is none.
fn push_region_probe() -> io::Result<usize> {
    static REGION: OnceLock<IpcSharedMemory> = OnceLock::new();
    descriptor::require_room(2)?;
    catch_unwind(|| push_probe(REGION.get_or_init(|| IpcSharedMemory::from_byte(0, 1))))
        .unwrap_or_else(|_| Err(io::Error::other("there are not enough free descriptors")))
}

/// Empties the list of what will be sent, into `Ends`; at most so many are regions.
fn collect_pushed(most_regions: u64) -> Result<Option<Ends>, EncodeError> {
    take_pushed(most_regions).map_err(|error| {
        discard_pushed();
        put_in(error)
    })
}

fn take_pushed(most_regions: u64) -> io::Result<Option<Ends>> {
    let channels = push_probe(probe()?)?;
    let has_region_probe = channels == 0;
    if has_region_probe && push_region_probe()? == 0 {
        discard_pushed();
        return Ok(None);
    }
    // One more of each for the probes, and two for the channel they go through.
    descriptor::require_room(channels + most_regions as usize + 4)?;
    let (sender, receiver) = ipc::channel::<Collected>()?;
    let message = Collected {
        channels,
        handles: Ends::default(),
    };
    sender.send(message).map_err(io::Error::other)?;
    let received = crate::os::uninterrupted(|| match receiver.recv() {
        Err(ipc_channel::IpcError::Io(error)) => Err(error),
        other => other.map_err(io::Error::other),
    })?;
    // The probes are the last ones.
    let mut handles = received.handles;
    handles.channels.truncate(channels);
    if has_region_probe {
        handles.regions.pop();
    }
    Ok(Some(handles))
}

/// Deserializing it takes everything that came with it.
struct Collected {
    channels: usize,
    handles: Ends,
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
            Ends::receive(channels + 1, 0).map_err(<D::Error as serde::de::Error>::custom)?;
        // Regions answer with an error when there is none left, so they count themselves.
        let mut index = 0;
        while let Ok(region) = IpcSharedMemory::deserialize(at(index)) {
            handles.regions.push(region);
            index += 1;
        }
        Ok(Collected { channels, handles })
    }
}
