//! Values to bytes.

use bytemuck::NoUninit;
use serde::ser::{self, Serialize};

use super::handles::{Ends, HandleWatch, Handles};
use super::{Bytes, DEPTH_LIMIT, EncodeError, Payload};
use crate::shm::bulk::{BULK_BYTES, Bulk};
use crate::shm::lease::Loan;
use crate::shm::transit::{self, Cargo, Departure};

/// So many regions of shared memory and open files one message may refer to. Their descriptors have to find room
/// in a socket's buffer, 253 in a packet that takes a kilobyte of it.
const REGION_LIMIT: usize = 20_000;

/// Collects the bytes of values, and watches for handles among them.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    depth: u32,
    watch: HandleWatch,
    /// The `u64` that comes next is a number by its type, and no handle.
    is_number: bool,
    /// What the handles to shared memory refer to.
    departure: Departure,
    /// Where large runs of numbers go.
    bulk: BulkPlace,
    /// Where the item begins that is being written.
    item_start: usize,
    /// Something was written that may have handles, or lies apart. Short functions of numbers need
    /// not look any closer.
    may_carry: bool,
}

/// Memory that an item was written in that lies apart is kept for the next one up to this size.
const KEPT_BYTES: usize = 64 << 10;

/// Results that `serde` writes lie apart from so many bytes on.
const RESULT_BYTES: usize = 1 << 20;

/// Of strings in a value, so many lie apart at most.
const MOST_BULKS: usize = 8;

/// What stands in a message for an item that lies apart, with all that belongs to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stub {
    /// Its number, among what lies apart.
    pub(super) bulk: u32,
    pub(super) bytes: u64,
}

const STUB_BYTES: usize = 4 + 8 + 1;
/// The last byte of a stub, which is none of an item's.
const IS_STUB: u8 = 2;

impl Stub {
    fn to_bytes(self) -> [u8; STUB_BYTES] {
        let mut bytes = [IS_STUB; STUB_BYTES];
        bytes[..4].copy_from_slice(&self.bulk.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.bytes.to_le_bytes());
        bytes
    }

    /// The one that an item is.
    #[inline]
    pub(super) fn of(item: &[u8]) -> Option<Stub> {
        if *item.last()? != IS_STUB {
            return None;
        }
        let bytes: &[u8; STUB_BYTES] = item.try_into().ok()?;
        let (bulk, rest) = bytes.split_first_chunk()?;
        Some(Stub {
            bulk: u32::from_le_bytes(*bulk),
            bytes: u64::from_le_bytes(*rest.first_chunk()?),
        })
    }
}

/// Where large runs of numbers, and large items, go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BulkPlace {
    /// Among the other bytes.
    #[default]
    Within,
    /// Apart, in memory that is kept until the message is dropped.
    Kept,
    /// Apart, in memory that is given to who receives the message.
    Given,
}

/// A bit in the length of what lies apart; no length has it.
pub(super) const APART: u64 = 1 << 63;

/// Why a value that must have no handles was not written.
#[derive(Debug)]
pub(crate) enum NotPlain {
    Failed(EncodeError),
    HasHandles,
}

impl Encoder {
    /// One that writes into `buffer`, which is empty, and large runs of numbers there.
    pub(crate) fn reusing(buffer: Vec<u8>, bulk: BulkPlace) -> Encoder {
        let mut encoder = Encoder::default();
        (encoder.bytes, encoder.bulk) = (buffer, bulk);
        encoder
    }

    /// How many bytes there are so far.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Has room for so many bytes more.
    #[inline]
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// Ends an item: what its handles to shared memory refer to is written behind it.
    ///
    /// # Errors
    ///
    /// If it is more than one message may carry.
    #[inline]
    pub(crate) fn end_item(&mut self) -> Result<(), EncodeError> {
        let has_parcels = self.may_carry && !self.departure.parcels.is_empty();
        if !self.may_carry || self.departure.is_empty() {
            transit::write_trailer(&mut self.bytes, &[]);
        } else {
            self.end_item_with_handles()?;
        }
        let item_bytes = self.bytes.len() - self.item_start;
        if item_bytes >= self.least_apart() && !has_parcels {
            self.put_item_apart();
        }
        self.item_start = self.bytes.len();
        Ok(())
    }

    /// From how many bytes on what `serde` writes lies apart. Each result that nobody has taken holds
    /// a descriptor then.
    fn least_apart(&self) -> usize {
        match self.bulk {
            BulkPlace::Within => usize::MAX,
            BulkPlace::Kept => BULK_BYTES,
            BulkPlace::Given => RESULT_BYTES,
        }
    }

    /// Without memory for that it stays.
    #[cold]
    fn put_item_apart(&mut self) {
        let item = &self.bytes[self.item_start..];
        let is_given = self.bulk == BulkPlace::Given;
        if let Ok(bulk) = Bulk::of(item, is_given) {
            let bulks = &mut self.departure.cargo.bulks;
            let stub = Stub {
                bulk: bulks.len() as u32,
                bytes: item.len() as u64,
            };
            bulks.push(bulk);
            self.may_carry = true;
            self.bytes.truncate(self.item_start);
            self.bytes.shrink_to(self.item_start + KEPT_BYTES);
            self.bytes.extend_from_slice(&stub.to_bytes());
        }
    }

    #[cold]
    fn end_item_with_handles(&mut self) -> Result<(), EncodeError> {
        let parcels = std::mem::take(&mut self.departure.parcels);
        transit::write_trailer(&mut self.bytes, &parcels);
        let count = self.departure.cargo.fd_count();
        if count > REGION_LIMIT {
            return Err(EncodeError::new(format!(
                "it refers to {count} regions of shared memory; a message carries {REGION_LIMIT}"
            )));
        }
        Ok(())
    }

    /// Whether there are no handles of any kind among the values so far.
    #[inline]
    pub(crate) fn is_bare(&self) -> bool {
        !self.may_carry || self.watch.is_empty() && self.departure.is_empty()
    }

    /// The bytes so far.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets everything, and keeps the memory.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.item_start = 0;
        self.depth = 0;
        self.is_number = false;
        if !self.is_bare() {
            self.watch.discard();
            self.departure = Departure::default();
        }
        self.may_carry = false;
    }

    /// How many bytes fit without more memory.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes the bytes and the handles, and leaves it empty.
    pub(crate) fn take(&mut self) -> Result<Payload, EncodeError> {
        let empty = Encoder::with_bulk(self.bulk);
        std::mem::replace(self, empty).finish()
    }

    /// Takes the bytes and the handles.
    pub(crate) fn finish(mut self) -> Result<Payload, EncodeError> {
        let ends = self.watch.collect()?;
        let departure = std::mem::take(&mut self.departure);
        Ok(Payload {
            handles: Handles::of(ends, departure.cargo),
            bytes: std::mem::take(&mut self.bytes),
        })
    }

    /// Takes the bytes of what can carry no handles.
    pub(crate) fn into_plain_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Takes the handles of `ipc-channel` of the values so far, so that none is left where another
    /// message of this thread would carry it.
    #[inline]
    pub(crate) fn take_ends(&mut self) -> Result<Option<Ends>, EncodeError> {
        self.watch.collect()
    }

    /// Takes the bytes, and what the handles to shared memory in them refer to; its memory stays, if
    /// they are few.
    pub(crate) fn take_parts(&mut self) -> (Bytes, Cargo) {
        let departure = match std::mem::take(&mut self.may_carry) {
            false => Departure::default(),
            true => std::mem::take(&mut self.departure),
        };
        self.item_start = 0;
        (Bytes::take(&mut self.bytes), departure.cargo)
    }

    /// The parts of arrays among the values so far.
    pub(crate) fn loans(&self) -> &[Loan] {
        &self.departure.cargo.loans
    }

    /// How many regions of shared memory the values so far refer to.
    pub(crate) fn region_count(&self) -> usize {
        self.departure.cargo.regions.len()
    }

    /// Whether the values so far refer to open files.
    pub(crate) fn has_files(&self) -> bool {
        !self.departure.cargo.files.is_empty()
    }

    /// Forgets the bytes from `len` on, the parts of arrays from number `loans` on, and the handles
    /// that were not taken.
    pub(crate) fn rewind(&mut self, len: usize, loans: usize) {
        self.bytes.truncate(len);
        self.item_start = len;
        self.depth = 0;
        self.is_number = false;
        self.watch.discard();
        self.departure.parcels.clear();
        self.departure.cargo.loans.truncate(loans);
        // A segment with some has no other item.
        self.departure.cargo.bulks.clear();
    }

    /// From now on handles are written as the numbers they are.
    pub(super) fn ignore_handles(&mut self) {
        self.watch.ignore();
    }

    /// Writes any serializable value.
    #[inline]
    pub(crate) fn value(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), EncodeError> {
        struct Session<'e> {
            encoder: &'e mut Encoder,
            before: Option<Departure>,
        }
        impl Drop for Session<'_> {
            fn drop(&mut self) {
                let departure = transit::end_departure(self.before.take());
                let own = std::mem::replace(&mut self.encoder.departure, departure);
                self.encoder.departure.cargo.bulks = own.cargo.bulks;
            }
        }
        self.may_carry = true;
        // What lies apart stays here.
        let mut departure = std::mem::take(&mut self.departure);
        std::mem::swap(&mut departure.cargo.bulks, &mut self.departure.cargo.bulks);
        let before = transit::begin_departure(departure);
        let session = Session {
            encoder: self,
            before,
        };
        value.serialize(&mut *session.encoder)
    }

    /// Writes a value that must have no handles.
    ///
    /// # Errors
    ///
    /// If it has some, or cannot be written.
    pub(crate) fn value_without_handles(&mut self, value: &impl Serialize) -> Result<(), NotPlain> {
        self.value(value).map_err(NotPlain::Failed)?;
        let ends = self.take_ends().map_err(NotPlain::Failed)?;
        match ends.is_none() && self.departure.parcels.is_empty() {
            true => Ok(()),
            false => Err(NotPlain::HasHandles),
        }
    }

    #[inline]
    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    #[inline]
    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes bytes that are their own length's business.
    #[inline]
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// One that writes large runs of numbers there.
    pub(crate) fn with_bulk(bulk: BulkPlace) -> Encoder {
        Encoder::reusing(Vec::new(), bulk)
    }

    /// Whether a part of the values so far lies apart.
    pub(crate) fn has_bulks(&self) -> bool {
        !self.departure.cargo.bulks.is_empty()
    }

    /// How many bytes lie apart.
    pub(crate) fn bulk_bytes(&self) -> usize {
        let bulks = self.departure.cargo.bulks.iter();
        bulks.map(Bulk::capacity).sum()
    }

    /// Writes numbers as they lie in memory, in one copy, apart if they are many and may lie there.
    #[inline]
    pub(crate) fn numbers<T: NoUninit>(&mut self, values: &[T]) {
        if self.bulk == BulkPlace::Within
            || size_of_val(values) < BULK_BYTES
            || !self.put_apart(values)
        {
            self.plain(values);
        }
    }

    /// Without memory for that they are not put apart.
    #[cold]
    fn put_apart<T: NoUninit>(&mut self, values: &[T]) -> bool {
        let bytes = bytemuck::cast_slice(values);
        let bulks = &mut self.departure.cargo.bulks;
        let Ok(bulk) = Bulk::of(bytes, self.bulk == BulkPlace::Given) else {
            return false;
        };
        let number = bulks.len() as u32;
        bulks.push(bulk);
        self.may_carry = true;
        self.u64(values.len() as u64 | APART);
        self.u32(number);
        true
    }

    /// Writes numbers as they lie in memory, in one copy.
    #[inline]
    pub(crate) fn plain<T: NoUninit>(&mut self, values: &[T]) {
        self.u64(values.len() as u64);
        self.bytes.extend_from_slice(bytemuck::cast_slice(values));
    }

    fn enter(&mut self) -> Result<(), EncodeError> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(EncodeError::new(format!(
                "the value nests deeper than {DEPTH_LIMIT} levels"
            )));
        }
        Ok(())
    }

    fn compound(&mut self, patch: Option<Patch>) -> Result<Compound<'_>, EncodeError> {
        self.enter()?;
        Ok(Compound {
            encoder: self,
            patch,
        })
    }
}

impl Drop for Encoder {
    #[inline]
    fn drop(&mut self) {
        // A value that failed or panicked half-way has left its handles with `ipc-channel`, and
        // the next message of this thread would carry them.
        self.watch.discard();
    }
}

/// Where the length of a sequence stands, and how many elements it has had.
pub(super) struct Patch {
    at: usize,
    announced: Option<u64>,
    count: u64,
}

/// A sequence, map, tuple, struct or variant that is being written.
pub struct Compound<'e> {
    encoder: &'e mut Encoder,
    patch: Option<Patch>,
}

impl Compound<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        if let Some(patch) = &mut self.patch {
            patch.count += 1;
        }
        self.part(value)
    }

    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.encoder.is_number = is_wide_number::<T>();
        value.serialize(&mut *self.encoder)
    }

    fn close(self) -> Result<(), EncodeError> {
        self.encoder.depth -= 1;
        let Some(patch) = self.patch else {
            return Ok(());
        };
        if patch
            .announced
            .is_some_and(|announced| announced != patch.count)
        {
            return Err(EncodeError::new(format!(
                "a sequence announced {} elements and had {}",
                patch.announced.unwrap_or_default(),
                patch.count
            )));
        }
        let length = patch.count.to_le_bytes();
        self.encoder.bytes[patch.at..patch.at + length.len()].copy_from_slice(&length);
        Ok(())
    }
}

/// Whether a type is one of the numbers that a handle of `ipc-channel` writes. (What another type is
/// called is no reason to take it for a number: its name has a path.)
#[inline]
fn is_wide_number<T: ?Sized>() -> bool {
    matches!(std::any::type_name::<T>(), "u64" | "usize")
}

macro_rules! fixed_width {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, value: $type) -> Result<(), EncodeError> {
            self.bytes.extend_from_slice(&value.to_le_bytes());
            Ok(())
        })*
    };
}

impl<'e> ser::Serializer for &'e mut Encoder {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Compound<'e>;
    type SerializeTuple = Compound<'e>;
    type SerializeTupleStruct = Compound<'e>;
    type SerializeTupleVariant = Compound<'e>;
    type SerializeMap = Compound<'e>;
    type SerializeStruct = Compound<'e>;
    type SerializeStructVariant = Compound<'e>;

    fixed_width! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32,
        serialize_u128: u128, serialize_f32: f32, serialize_f64: f64,
    }

    fn serialize_u64(self, value: u64) -> Result<(), EncodeError> {
        if !std::mem::take(&mut self.is_number) {
            self.watch.saw(value)?;
        }
        self.bytes.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        self.bytes.push(value.into());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), EncodeError> {
        self.u32(value.into());
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), EncodeError> {
        // Each one apart takes a descriptor.
        let has_few = self.departure.cargo.bulks.len() < MOST_BULKS;
        match has_few && value.len() >= self.least_apart() {
            true => self.numbers(value.as_bytes()),
            false => self.plain(value.as_bytes()),
        }
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), EncodeError> {
        // They may be read as a sequence.
        self.plain(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), EncodeError> {
        self.bytes.push(0);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        self.bytes.push(1);
        let mut some = self.compound(None)?;
        some.element(value)?;
        some.close()
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), EncodeError> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
    ) -> Result<(), EncodeError> {
        self.u32(index);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        let mut newtype = self.compound(None)?;
        newtype.element(value)?;
        newtype.close()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.u32(index);
        let mut newtype = self.compound(None)?;
        newtype.element(value)?;
        newtype.close()
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Compound<'e>, EncodeError> {
        let announced = len.map(|len| len as u64);
        let patch = Patch {
            at: self.bytes.len(),
            announced,
            count: 0,
        };
        self.u64(0);
        self.compound(Some(patch))
    }

    fn serialize_tuple(self, _len: usize) -> Result<Compound<'e>, EncodeError> {
        self.compound(None)
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Compound<'e>, EncodeError> {
        self.compound(None)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Compound<'e>, EncodeError> {
        self.u32(index);
        self.compound(None)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Compound<'e>, EncodeError> {
        self.serialize_seq(len)
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Compound<'e>, EncodeError> {
        self.compound(None)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Compound<'e>, EncodeError> {
        self.u32(index);
        self.compound(None)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! compound {
    ($($trait:ident :: $method:ident ( $($key:ident)? )),* $(,)?) => {
        $(impl ser::$trait for Compound<'_> {
            type Ok = ();
            type Error = EncodeError;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($key: &'static str,)?
                value: &T,
            ) -> Result<(), EncodeError> {
                $(let _ = $key;)?
                self.element(value)
            }

            $(fn skip_field(&mut self, $key: &'static str) -> Result<(), EncodeError> {
                Err(skipped($key))
            })?

            fn end(self) -> Result<(), EncodeError> {
                self.close()
            }
        })*
    };
}

/// Without names in the bytes the other side could not tell which field is missing.
fn skipped(field: &str) -> EncodeError {
    EncodeError::new(format!(
        "field `{field}` is skipped by `skip_serializing_if`: remove that"
    ))
}

compound! {
    SerializeSeq::serialize_element(),
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeTupleVariant::serialize_field(),
    SerializeStruct::serialize_field(key),
    SerializeStructVariant::serialize_field(key),
}

impl ser::SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.element(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.part(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.close()
    }
}
