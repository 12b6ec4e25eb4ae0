//! Messages over `ipc-channel`, in frames that fit into a socket.
//!
//! `ipc-channel` splits a large message itself, over a socket of its own that it makes for each:
//! two descriptors that may not be there, and a panic in the receiver if they are not. So the
//! splitting is done here. A message is one or more frames in a row; the handles ride on the first.
//! One thread sends at a time on an outbox, and nobody but one thread receives.

use std::borrow::Cow;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use ipc_channel::IpcError;
use ipc_channel::ipc::{self, IpcReceiver, IpcSender, OpaqueIpcSender};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::SerializeTuple as _;
use serde::{Serialize, Serializer};

use super::freight::{Freight, Waybill};
use super::{Ends, Handles};
use crate::os::descriptor;
use crate::shm::bulk::Bulk;
use crate::shm::transit::Cargo;

/// The most bytes of a message that go into one frame: well below what a socket buffers (208 KiB
/// by default), so that a single frame to a peer that has read everything never blocks.
const FRAME_BYTES: usize = 120 << 10;

/// Memory for a message is asked for at once up to this size; beyond it grows with what comes, so
/// that a length that is a lie costs nothing.
const TRUSTED_BYTES: u64 = 64 << 20;

/// What is sent and received.
#[derive(Debug)]
pub(crate) struct Message {
    /// What it is about; the layer above knows.
    pub(crate) kind: u8,
    pub(crate) body: Vec<u8>,
    pub(crate) handles: Option<Handles>,
}

/// The end that messages are put into. A clone is the same end.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    sender: IpcSender<Frame<'static>>,
    freight: Option<Freight>,
}

/// The end that messages come out of.
#[derive(Debug)]
pub(crate) struct Inbox {
    receiver: IpcReceiver<Frame<'static>>,
    freight: Option<Freight>,
}

/// Why no message came.
#[derive(Debug)]
pub(crate) enum Silence {
    /// Every outbox is gone.
    Closed,
    /// What came made no sense, or could not be taken in.
    Broken(String),
}

/// Has `ipc-channel` find out, while there are descriptors, what it finds out with the first
/// message: how much a socket buffers. It panics if it cannot, then and with every message after.
///
/// # Errors
///
/// If there are too few descriptors; the next call tries again.
pub(crate) fn prepare() -> io::Result<()> {
    static IS_PREPARED: OnceLock<()> = OnceLock::new();
    if IS_PREPARED.get().is_none() {
        descriptor::require_room(6)?;
        let (outbox, inbox) = connect()?;
        outbox.send(0, &[], &[], None)?;
        inbox
            .next()
            .map_err(|_| io::Error::other("ipc-channel does not work here"))?;
        IS_PREPARED.get_or_init(|| ());
    }
    Ok(())
}

/// Makes the two ends of a connection.
pub(crate) fn connect() -> io::Result<(Outbox, Inbox)> {
    let (sender, receiver) = ipc::channel()?;
    let (outbox, inbox) = (Outbox::from(sender), Inbox::from(receiver));
    Ok((outbox, inbox))
}

impl Outbox {
    /// The same end, with a way for shared memory.
    pub(crate) fn with_freight(self, freight: Freight) -> Outbox {
        let freight = Some(freight);
        Outbox { freight, ..self }
    }

    /// A copy, to be carried by a message.
    pub(super) fn opaque(&self) -> OpaqueIpcSender {
        self.sender.clone().to_opaque()
    }

    /// Whether sending so many bytes may wait for the other side to receive.
    pub(crate) fn may_block(bytes: usize) -> bool {
        bytes > FRAME_BYTES
    }

    /// Sends a message whose body is `head` and `tail`, in as many frames as it takes.
    ///
    /// # Errors
    ///
    /// If the other side is gone, or the kernel has no memory for it.
    pub(crate) fn send(
        &self,
        kind: u8,
        head: &[u8],
        tail: &[u8],
        handles: Option<&Handles>,
    ) -> io::Result<()> {
        self.send_and_tell(kind, head, tail, handles, || {})
    }

    /// The same; calls `tell` after each frame that went.
    ///
    /// # Errors
    ///
    /// As those of [`send`](Outbox::send).
    pub(crate) fn send_and_tell(
        &self,
        kind: u8,
        head: &[u8],
        tail: &[u8],
        handles: Option<&Handles>,
        tell: impl Fn(),
    ) -> io::Result<()> {
        let mut left = head.len() + tail.len();
        if left <= FRAME_BYTES {
            let joined;
            let bytes = match (head, tail) {
                (bytes, []) | ([], bytes) => bytes,
                _ => {
                    joined = [head, tail].concat();
                    &joined
                }
            };
            return self.send_frame(kind, bytes, 0, handles).map(|()| tell());
        }
        let mut handles = handles;
        for bytes in head.chunks(FRAME_BYTES).chain(tail.chunks(FRAME_BYTES)) {
            left -= bytes.len();
            self.send_frame(kind, bytes, left, handles.take())?;
            tell();
        }
        Ok(())
    }

    fn send_frame(
        &self,
        kind: u8,
        bytes: &[u8],
        left_bytes: usize,
        handles: Option<&Handles>,
    ) -> io::Result<()> {
        let bulks = handles.map_or(&[][..], |handles| handles.bulks());
        bulks.iter().for_each(Bulk::give);
        let sent = self.try_frame(kind, bytes, left_bytes, handles);
        if sent.is_err() {
            bulks.iter().for_each(Bulk::keep);
        }
        sent
    }

    fn try_frame<'f>(
        &self,
        kind: u8,
        bytes: &'f [u8],
        left_bytes: usize,
        handles: Option<&Handles>,
    ) -> io::Result<()> {
        let sender: &IpcSender<Frame<'f>> = &self.sender;
        let waybill = match handles {
            Some(handles) => self.send_cargo(handles)?,
            None => None,
        };
        let ends = handles.and_then(|handles| handles.ends.as_ref());
        // A frame is one packet: it went whole or not at all, so it can be sent again.
        crate::os::uninterrupted(|| {
            let mut frame = Frame {
                kind,
                left_bytes: left_bytes as u64,
                channels: 0,
                regions: 0,
                waybill,
                bytes: Cow::Borrowed(bytes),
                received: Ends::default(),
            };
            let sent = match ends {
                None => sender.send(frame),
                Some(ends) => {
                    frame.channels = ends.channels.len() as u32;
                    frame.regions = ends.regions.len() as u32;
                    ends.attach(|| sender.send(frame))?
                }
            };
            match sent {
                Ok(()) => Ok(()),
                Err(IpcError::Io(error)) => Err(error),
                Err(error) => Err(io::Error::other(error)),
            }
        })
    }

    /// Sends what a message refers to ahead of it.
    fn send_cargo(&self, handles: &Handles) -> io::Result<Option<Waybill>> {
        if handles.cargo.fd_count() + handles.bulks().len() == 0 {
            return Ok(None);
        }
        match &self.freight {
            Some(freight) => freight.send(handles).map(Some),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl Inbox {
    /// The same end, with a way for shared memory.
    pub(crate) fn with_freight(self, freight: Freight) -> Inbox {
        let freight = Some(freight);
        Inbox { freight, ..self }
    }

    /// Waits for a message. One that was cut off, since its sender died, is passed over if another
    /// kind of message follows it.
    pub(crate) fn next(&self) -> Result<Message, Silence> {
        let mut first = self.next_frame()?;
        loop {
            match self.complete(first)? {
                Ok(message) => return Ok(message),
                Err(frame) => first = frame,
            }
        }
    }

    /// Receives what belongs to `first`, or a frame of another kind.
    fn complete(&self, first: Frame<'static>) -> Result<Result<Message, Frame<'static>>, Silence> {
        let (kind, mut left) = (first.kind, first.left_bytes);
        let ends = (first.channels | first.regions != 0).then_some(first.received);
        let cargo = match (first.waybill, &self.freight) {
            (None, _) => Cargo::default(),
            (Some(waybill), Some(freight)) => freight
                .receive(waybill)
                .map_err(|error| Silence::Broken(format!("its shared memory: {error}")))?,
            (Some(_), None) => return Err(Silence::Broken("it sent shared memory".into())),
        };
        let handles = Handles::of(ends, cargo);
        let mut body = first.bytes.into_owned();
        if left > 0 {
            body.try_reserve(left.min(TRUSTED_BYTES) as usize)
                .map_err(|_| no_memory(left))?;
        }
        while left > 0 {
            let frame = self.next_frame()?;
            if frame.kind != kind {
                return Ok(Err(frame));
            }
            let expected = left.checked_sub(frame.bytes.len() as u64);
            if frame.bytes.is_empty() || expected != Some(frame.left_bytes) {
                return Err(Silence::Broken("its frames do not fit together".into()));
            }
            left = frame.left_bytes;
            body.try_reserve(frame.bytes.len())
                .map_err(|_| no_memory(left))?;
            body.extend_from_slice(&frame.bytes);
        }
        Ok(Ok(Message {
            kind,
            body,
            handles,
        }))
    }

    fn next_frame(&self) -> Result<Frame<'static>, Silence> {
        loop {
            // `ipc-channel` panics where a message is not what one of its senders makes, or where
            // the descriptors of a message found no room.
            let received = catch_unwind(AssertUnwindSafe(|| self.receiver.recv()));
            return match received {
                Ok(Ok(frame)) => Ok(frame),
                Ok(Err(IpcError::Disconnected)) => Err(Silence::Closed),
                Ok(Err(IpcError::Io(error))) if error.kind() == io::ErrorKind::Interrupted => {
                    continue;
                }
                Ok(Err(IpcError::Io(error))) if error.kind() == io::ErrorKind::ConnectionReset => {
                    Err(Silence::Closed)
                }
                Ok(Err(error)) => Err(Silence::Broken(error.to_string())),
                Err(_) => Err(Silence::Broken("a message could not be taken in".into())),
            };
        }
    }
}

fn no_memory(left: u64) -> Silence {
    Silence::Broken(format!(
        "there is no memory for the {left} bytes left of a message"
    ))
}

macro_rules! travels_as {
    ($end:ident, $field:ident, $inner:ty) => {
        impl From<$inner> for $end {
            fn from($field: $inner) -> $end {
                let freight = None;
                $end { $field, freight }
            }
        }

        impl Serialize for $end {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.$field.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $end {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$end, D::Error> {
                <$inner>::deserialize(deserializer).map($end::from)
            }
        }
    };
}

travels_as!(Outbox, sender, IpcSender<Frame<'static>>);
travels_as!(Inbox, receiver, IpcReceiver<Frame<'static>>);

/// One packet on the socket.
#[derive(Debug)]
struct Frame<'f> {
    kind: u8,
    /// How many bytes of its message come in the frames after it.
    left_bytes: u64,
    channels: u32,
    regions: u32,
    /// What was sent ahead of it.
    waybill: Option<Waybill>,
    bytes: Cow<'f, [u8]>,
    /// What came with it; what is sent with it goes another way.
    received: Ends,
}

struct Bytes<'f>(&'f [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct OwnedBytes(Vec<u8>);

impl<'de> Deserialize<'de> for OwnedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OwnedBytes, D::Error> {
        struct BytesVisitor;
        impl Visitor<'_> for BytesVisitor {
            type Value = OwnedBytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the bytes of a frame")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<OwnedBytes, E> {
                Ok(OwnedBytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

impl Serialize for Frame<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_tuple(6)?;
        fields.serialize_element(&self.kind)?;
        fields.serialize_element(&self.left_bytes)?;
        fields.serialize_element(&self.channels)?;
        fields.serialize_element(&self.regions)?;
        fields.serialize_element(&self.waybill)?;
        fields.serialize_element(&Bytes(&self.bytes))?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for Frame<'static> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FrameVisitor;
        impl<'de> Visitor<'de> for FrameVisitor {
            type Value = Frame<'static>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a frame")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                fn field<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
                    seq: &mut A,
                ) -> Result<T, A::Error> {
                    seq.next_element()?
                        .ok_or_else(|| de::Error::custom("a frame ends early"))
                }
                let (kind, left_bytes) = (field(&mut seq)?, field(&mut seq)?);
                let (channels, regions): (u32, u32) = (field(&mut seq)?, field(&mut seq)?);
                let waybill = field(&mut seq)?;
                let bytes: OwnedBytes = field(&mut seq)?;
                let received = Ends::receive(channels as usize, regions as usize)
                    .map_err(de::Error::custom)?;
                let bytes = Cow::Owned(bytes.0);
                Ok(Frame {
                    kind,
                    left_bytes,
                    channels,
                    regions,
                    waybill,
                    bytes,
                    received,
                })
            }
        }
        deserializer.deserialize_tuple(6, FrameVisitor)
    }
}
