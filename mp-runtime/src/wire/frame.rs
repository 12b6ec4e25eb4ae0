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
use ipc_channel::ipc::{self, IpcReceiver, IpcSender};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::SerializeTuple as _;
use serde::{Serialize, Serializer};

use super::Handles;
use crate::os::descriptor;

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
pub(crate) struct Outbox(IpcSender<Frame<'static>>);

/// The end that messages come out of.
#[derive(Debug)]
pub(crate) struct Inbox(IpcReceiver<Frame<'static>>);

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
    Ok((Outbox(sender), Inbox(receiver)))
}

impl Outbox {
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
            return self.send_frame(kind, bytes, 0, handles);
        }
        let mut handles = handles;
        for bytes in head.chunks(FRAME_BYTES).chain(tail.chunks(FRAME_BYTES)) {
            left -= bytes.len();
            self.send_frame(kind, bytes, left, handles.take())?;
        }
        Ok(())
    }

    fn send_frame<'f>(
        &self,
        kind: u8,
        bytes: &'f [u8],
        left_bytes: usize,
        handles: Option<&Handles>,
    ) -> io::Result<()> {
        let sender: &IpcSender<Frame<'f>> = &self.0;
        // A frame is one packet: it went whole or not at all, so it can be sent again.
        crate::os::uninterrupted(|| {
            let mut frame = Frame {
                kind,
                left_bytes: left_bytes as u64,
                channels: 0,
                regions: 0,
                bytes: Cow::Borrowed(bytes),
                received: Handles::default(),
            };
            let sent = match handles {
                None => sender.send(frame),
                Some(handles) => {
                    frame.channels = handles.channels.len() as u32;
                    frame.regions = handles.regions.len() as u32;
                    handles.attach(|| sender.send(frame))?
                }
            };
            match sent {
                Ok(()) => Ok(()),
                Err(IpcError::Io(error)) => Err(error),
                Err(error) => Err(io::Error::other(error)),
            }
        })
    }
}

impl Inbox {
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
        let handles = (first.channels | first.regions != 0).then_some(first.received);
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
            let received = catch_unwind(AssertUnwindSafe(|| self.0.recv()));
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
    ($end:ident, $inner:ty) => {
        impl Serialize for $end {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $end {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$end, D::Error> {
                <$inner>::deserialize(deserializer).map($end)
            }
        }
    };
}

travels_as!(Outbox, IpcSender<Frame<'static>>);
travels_as!(Inbox, IpcReceiver<Frame<'static>>);

/// One packet on the socket.
#[derive(Debug)]
struct Frame<'f> {
    kind: u8,
    /// How many bytes of its message come in the frames after it.
    left_bytes: u64,
    channels: u32,
    regions: u32,
    bytes: Cow<'f, [u8]>,
    /// What came with it; what is sent with it goes another way.
    received: Handles,
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
        let mut fields = serializer.serialize_tuple(5)?;
        fields.serialize_element(&self.kind)?;
        fields.serialize_element(&self.left_bytes)?;
        fields.serialize_element(&self.channels)?;
        fields.serialize_element(&self.regions)?;
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
                let bytes: OwnedBytes = field(&mut seq)?;
                let received = Handles::receive(channels as usize, regions as usize)
                    .map_err(de::Error::custom)?;
                let bytes = Cow::Owned(bytes.0);
                Ok(Frame {
                    kind,
                    left_bytes,
                    channels,
                    regions,
                    bytes,
                    received,
                })
            }
        }
        deserializer.deserialize_tuple(5, FrameVisitor)
    }
}
