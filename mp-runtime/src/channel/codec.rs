//! Values in messages: numbers and vectors of them as they lie in memory, everything else as its
//! `Serialize` says. Both sides have the same type, so nothing says which of the two it was.

use std::any::Any;
use std::cell::Cell;
use std::collections::TryReserveError;
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ring::Message;
use crate::error::{Error, ErrorKind};
use crate::wire::{BulkPlace, Decoder, Encoder, NotPlain, Plain};

/// What can go through a channel.
///
/// Whatever `serde` can carry, and owns what it has, is: nobody has to implement it.
///
/// ```
/// fn drain<T: mp::Portable>(queue: &mp::Queue<T>) -> Vec<T> {
///     std::iter::from_fn(|| queue.try_get().ok()).collect()
/// }
///
/// # fn main() -> Result<(), mp::Error> {
/// let queue = mp::Queue::bounded(4)?;
/// queue.put("one".to_owned())?;
/// assert_eq!(drain(&queue), ["one"]);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel through a channel",
    label = "this type must be serializable, and own what it has",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it, and for the types within it"
)]
pub trait Portable: Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + 'static> Portable for T {}

/// A buffer of a thread is kept if it is no larger.
const KEPT_BYTES: usize = 1 << 20;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn keep(mut buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT_BYTES {
        buffer.clear();
        // A thread that ends has no place for it any more.
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
    }
}

fn buffer() -> Vec<u8> {
    BUFFER.try_with(Cell::take).unwrap_or_default()
}

/// Calls `send` with the bytes of `value`.
///
/// # Errors
///
/// If it has none, or has handles.
#[inline]
pub(super) fn encoded<T: Portable, R>(
    value: &T,
    send: impl FnOnce(&[u8]) -> R,
) -> Result<R, Error> {
    if let Some(bytes) = plain_bytes(value) {
        return Ok(send(bytes));
    }
    let mut encoder = Encoder::reusing(buffer(), BulkPlace::Within);
    encoder
        .value_without_handles(value)
        .map_err(unsendable::<T>)?;
    let bytes = encoder.into_plain_bytes();
    let result = send(&bytes);
    keep(bytes);
    Ok(result)
}

/// What was taken out of a ring: a value, or the bytes of one.
pub(super) enum Taken<T> {
    Value(T),
    Bytes(Vec<u8>),
    Wrong,
}

/// Takes a value, or its bytes, out of a ring.
///
/// # Errors
///
/// If there is no memory for it.
#[inline]
pub(super) fn take_out<T: Portable>(message: &Message<'_>) -> io::Result<Taken<T>> {
    if let Some(plain) = plain_value::<T>(message) {
        return Ok(plain?.map_or(Taken::Wrong, Taken::Value));
    }
    let mut bytes = buffer();
    match message.read(&mut bytes)? {
        true => Ok(Taken::Bytes(bytes)),
        false => Ok(Taken::Wrong),
    }
}

impl<T: Portable> Taken<T> {
    /// The value.
    ///
    /// # Errors
    ///
    /// If the bytes are none.
    #[inline]
    pub(super) fn decode(self) -> Result<T, Error> {
        match self {
            Taken::Value(value) => Ok(value),
            Taken::Bytes(bytes) => {
                let mut decoder = Decoder::new(&bytes);
                let value = decoder.value().and_then(|value| {
                    decoder.finish()?;
                    Ok(value)
                });
                keep(bytes);
                value.map_err(|error| undecodable::<T>(&error.to_string()))
            }
            Taken::Wrong => Err(undecodable::<T>("it has another number of bytes")),
        }
    }
}

#[cold]
fn unsendable<T>(refused: NotPlain) -> Error {
    let name = std::any::type_name::<T>();
    match refused {
        NotPlain::Failed(error) => {
            let message = format!("a `{name}` could not be encoded: {error}");
            Error::new(ErrorKind::Encode, message).with_source(error)
        }
        NotPlain::HasHandles => Error::new(
            ErrorKind::Unsupported,
            format!(
                "a `{name}` has a handle in it, which cannot go through a channel or a queue: send \
                 it over a pipe, or as an argument of a process function"
            ),
        ),
    }
}

#[cold]
fn undecodable<T>(reason: &str) -> Error {
    let name = std::any::type_name::<T>();
    let message = format!("a message could not be decoded as `{name}`: {reason}");
    Error::new(ErrorKind::Decode, message)
}

macro_rules! plain {
    ($($number:ty)*) => {
        /// The bytes of a number, or of a vector of numbers. (Which branch it is, is known when
        /// this is compiled.)
        #[inline]
        pub(super) fn plain_bytes<T: 'static>(value: &T) -> Option<&[u8]> {
            let value: &dyn Any = value;
            $(if let Some(number) = value.downcast_ref::<$number>() {
                return Some(bytes_of(number));
            }
            if let Some(numbers) = value.downcast_ref::<Vec<$number>>() {
                return Some(bytemuck::cast_slice(numbers));
            })*
            None
        }

        /// The number, or the vector of numbers, that a message is; `None` if `T` is neither.
        #[inline]
        fn plain_value<T: 'static>(message: &Message<'_>) -> Option<io::Result<Option<T>>> {
            let mut value = None::<T>;
            {
                let slot: &mut dyn Any = &mut value;
                $(if let Some(slot) = slot.downcast_mut::<Option<$number>>() {
                    *slot = message.number();
                    return Some(Ok(value));
                }
                if let Some(slot) = slot.downcast_mut::<Option<Vec<$number>>>() {
                    if !message.len().is_multiple_of(size_of::<$number>()) {
                        return Some(Ok(None));
                    }
                    let mut numbers = Vec::new();
                    return match message.read(&mut numbers) {
                        Ok(is_there) => {
                            *slot = is_there.then_some(numbers);
                            Some(Ok(value))
                        }
                        Err(error) => Some(Err(error)),
                    };
                })*
            }
            None
        }

        /// The same, of a message that is these bytes: `Some(None)` if they are no such value.
        ///
        /// # Errors
        ///
        /// If there is no memory for it.
        #[inline]
        pub(super) fn plain_of_bytes<T: 'static>(
            bytes: &[u8],
        ) -> Result<Option<Option<T>>, TryReserveError> {
            let mut value = None::<T>;
            {
                let slot: &mut dyn Any = &mut value;
                $(if let Some(slot) = slot.downcast_mut::<Option<$number>>() {
                    *slot = bytemuck::try_pod_read_unaligned(bytes).ok();
                    return Ok(Some(value));
                }
                if let Some(slot) = slot.downcast_mut::<Option<Vec<$number>>>() {
                    let (numbers, rest) = bytes.as_chunks::<{ size_of::<$number>() }>();
                    if rest.is_empty() {
                        let mut vector = Vec::new();
                        vector.try_reserve_exact(numbers.len())?;
                        vector.extend(numbers.iter().map(|&number| <$number>::from_ne_bytes(number)));
                        *slot = Some(vector);
                    }
                    return Ok(Some(value));
                })*
            }
            Ok(None)
        }
    };
}

plain! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 }

fn bytes_of<T: Plain>(number: &T) -> &[u8] {
    bytemuck::bytes_of(number)
}
