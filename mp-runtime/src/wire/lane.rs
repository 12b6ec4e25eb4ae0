//! Which way a value of a type takes: numbers in bulk, everything else through `serde`.
//!
//! The choice is made where the type is concrete, in the output of `#[process_fn]`, by method
//! resolution: `(&&&Lane::<T>::NEW).encode(..)` finds [`BulkLane`] if `T` is a number or a vector
//! of them, whatever alias it hides behind, [`SerdeLane`] one dereference later if it is not, and
//! [`RefusedLane`] after another. The last one is never run: it is there so that a type that cannot
//! travel gets one error, that of [`can_travel`], and not one for each place that names it.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{DecodeError, Decoder, EncodeError, Encoder};

/// A type on its way to another process.
pub struct Lane<T>(PhantomData<fn() -> T>);

impl<T> Lane<T> {
    /// The only value.
    pub const NEW: Self = Lane(PhantomData);
}

/// What can be sent to another process and come back: `Serialize` and `DeserializeOwned`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel to another process",
    label = "this type must be serializable",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it, and for the types within it"
)]
pub trait Transfer: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Transfer for T {}

/// A number: any bytes are one, and it has no padding.
pub trait Plain: bytemuck::Pod {}

macro_rules! plain {
    ($($number:ty)*) => { $(impl Plain for $number {})* };
}

plain! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 }

/// The way of numbers: one memory copy.
pub trait BulkLane<T> {
    /// Writes `value`.
    ///
    /// # Errors
    ///
    /// None; the two lanes have one shape.
    fn encode(&self, value: &T, to: &mut Encoder) -> Result<(), EncodeError>;

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// If there are fewer bytes than the length says.
    fn decode(&self, from: &mut Decoder<'_>) -> Result<T, DecodeError>;
}

impl<T: Plain> BulkLane<T> for &&Lane<T> {
    #[inline]
    fn encode(&self, value: &T, to: &mut Encoder) -> Result<(), EncodeError> {
        to.raw(bytemuck::bytes_of(value));
        Ok(())
    }

    #[inline]
    fn decode(&self, from: &mut Decoder<'_>) -> Result<T, DecodeError> {
        Ok(bytemuck::pod_read_unaligned(from.raw(size_of::<T>())?))
    }
}

impl<T: Plain> BulkLane<Vec<T>> for &&Lane<Vec<T>> {
    #[inline]
    fn encode(&self, value: &Vec<T>, to: &mut Encoder) -> Result<(), EncodeError> {
        to.numbers(value);
        Ok(())
    }

    #[inline]
    fn decode(&self, from: &mut Decoder<'_>) -> Result<Vec<T>, DecodeError> {
        from.plain()
    }
}

/// The way of everything else: element by element, as its `Serialize` says.
pub trait SerdeLane<T> {
    /// Writes `value`.
    ///
    /// # Errors
    ///
    /// Whatever its `Serialize` says.
    fn encode(&self, value: &T, to: &mut Encoder) -> Result<(), EncodeError>;

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// If the bytes are not one, or its `Deserialize` refuses it.
    fn decode(&self, from: &mut Decoder<'_>) -> Result<T, DecodeError>;
}

impl<T: Transfer> SerdeLane<T> for &Lane<T> {
    #[inline]
    fn encode(&self, value: &T, to: &mut Encoder) -> Result<(), EncodeError> {
        to.value(value)
    }

    #[inline]
    fn decode(&self, from: &mut Decoder<'_>) -> Result<T, DecodeError> {
        from.value()
    }
}

/// The way of types that cannot travel: none.
pub trait RefusedLane<T> {
    /// Refuses.
    ///
    /// # Errors
    ///
    /// Always.
    fn encode(&self, _value: &T, _to: &mut Encoder) -> Result<(), EncodeError> {
        Err(EncodeError::new("its type cannot travel"))
    }

    /// Refuses.
    ///
    /// # Errors
    ///
    /// Always.
    fn decode(&self, _from: &mut Decoder<'_>) -> Result<T, DecodeError> {
        Err(DecodeError::new("its type cannot travel"))
    }
}

impl<T> RefusedLane<T> for Lane<T> {}

/// Compiles for types that can travel.
pub const fn can_travel<T: Transfer>() {}
