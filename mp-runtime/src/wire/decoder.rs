//! Bytes to values. The bytes may come from a hostile process: no length is believed before it
//! was compared with what is there.

use std::borrow::Cow;
use std::str::Utf8Error;

use bytemuck::AnyBitPattern;
use serde::de::{self, Deserialize, DeserializeSeed, IntoDeserializer, Visitor};

use super::encoder::APART;
use super::{DEPTH_LIMIT, DecodeError};
use crate::shm::bulk::Bulk;

/// So many elements that take no bytes (`Vec<()>`) are believed.
const EMPTY_ELEMENTS_LIMIT: usize = 1 << 24;

/// Reads values off the front of some bytes, and lends from them.
#[derive(Debug)]
pub struct Decoder<'b> {
    rest: &'b [u8],
    depth: u32,
    apart: Apart<'b>,
}

/// What lies apart from the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Apart<'b> {
    Nothing,
    /// Who wrote it keeps it as it is.
    Trusted(&'b [Bulk]),
    /// Who wrote it may still write.
    Foreign(&'b [Bulk]),
}

impl<'b> Decoder<'b> {
    #[inline]
    pub(crate) fn new(bytes: &'b [u8]) -> Decoder<'b> {
        Decoder {
            rest: bytes,
            depth: 0,
            apart: Apart::Nothing,
        }
    }

    /// The same with what lies apart.
    #[inline]
    pub(super) fn with(self, apart: Apart<'b>) -> Decoder<'b> {
        Decoder { apart, ..self }
    }

    /// Checks that everything was read.
    #[inline]
    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::new(format!("{left} bytes are left over"))),
        }
    }

    /// How many bytes were not read.
    #[inline]
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Reads any deserializable value.
    #[inline]
    pub(crate) fn value<T: Deserialize<'b>>(&mut self) -> Result<T, DecodeError> {
        T::deserialize(&mut *self)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes the next `count` bytes as they are.
    #[inline]
    pub(crate) fn raw(&mut self, count: usize) -> Result<&'b [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| {
            DecodeError::new(format!(
                "{count} bytes were expected, {} are left",
                self.rest.len()
            ))
        })?;
        self.rest = rest;
        Ok(taken)
    }

    /// Borrows bytes in place.
    ///
    /// # Errors
    ///
    /// If there are fewer than their length says.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'b [u8], DecodeError> {
        match self.u64()? {
            length if length & APART != 0 => self.bytes_apart(length),
            length => self.raw(fit(length)?),
        }
    }

    #[cold]
    fn bytes_apart(&mut self, length: u64) -> Result<&'b [u8], DecodeError> {
        let count = fit(length & !APART)?;
        let number = self.u32()? as usize;
        match self.apart {
            Apart::Trusted(bulks) => lend(bulks, number, count),
            Apart::Nothing | Apart::Foreign(_) => Err(no_bulk()),
        }
    }

    /// Borrows a string in place.
    ///
    /// # Errors
    ///
    /// If there are fewer bytes than its length says, or they are not UTF-8.
    pub fn str(&mut self) -> Result<&'b str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(not_utf8)
    }

    /// Borrows bytes in place, or copies them if who made them may still write there.
    fn run(&mut self) -> Result<Cow<'b, [u8]>, DecodeError> {
        match (self.u64()?, self.apart) {
            (length, _) if length & APART == 0 => self.raw(fit(length)?).map(Cow::Borrowed),
            (length, Apart::Foreign(_)) => self.plain_apart(length).map(Cow::Owned),
            (length, _) => self.bytes_apart(length).map(Cow::Borrowed),
        }
    }

    /// Reads numbers in one copy.
    #[inline]
    pub(crate) fn plain<T: AnyBitPattern + bytemuck::NoUninit>(
        &mut self,
    ) -> Result<Vec<T>, DecodeError> {
        let length = self.u64()?;
        if length & APART != 0 {
            return self.plain_apart(length);
        }
        let count = fit(length)?;
        let bytes = count
            .checked_mul(size_of::<T>())
            .ok_or_else(|| DecodeError::new(format!("no vector has {count} elements")))?;
        Ok(bytemuck::pod_collect_to_vec(self.raw(bytes)?))
    }

    #[cold]
    fn plain_apart<T: AnyBitPattern>(&mut self, length: u64) -> Result<Vec<T>, DecodeError> {
        let count = fit(length & !APART)?;
        let number = self.u32()? as usize;
        let (Apart::Trusted(bulks) | Apart::Foreign(bulks)) = self.apart else {
            return Err(no_bulk());
        };
        copy(bulks, number, count)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(N)?);
        Ok(array)
    }

    #[inline]
    fn length(&mut self) -> Result<usize, DecodeError> {
        fit(self.u64()?)
    }

    /// The count of a sequence, refused if it cannot be true.
    fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.length()?;
        if count > self.rest.len() && count > EMPTY_ELEMENTS_LIMIT {
            return Err(DecodeError::new(format!(
                "a sequence of {count} elements does not fit into {} bytes",
                self.rest.len()
            )));
        }
        Ok(count)
    }

    fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        if self.depth == DEPTH_LIMIT {
            return Err(DecodeError::new(format!(
                "the value nests deeper than {DEPTH_LIMIT} levels"
            )));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }
}

/// The bytes of what lies apart, where who made it is trusted not to write there.
pub(super) fn lend(bulks: &[Bulk], number: usize, count: usize) -> Result<&[u8], DecodeError> {
    let bulk = bulks.get(number).ok_or_else(no_bulk)?;
    bulk.lend(count).ok_or_else(no_bulk)
}

/// A copy of what lies apart; who made it may still write there.
pub(super) fn copy<T: AnyBitPattern>(
    bulks: &[Bulk],
    number: usize,
    count: usize,
) -> Result<Vec<T>, DecodeError> {
    let bulk = bulks.get(number).ok_or_else(no_bulk)?;
    let read = bulk.read(count);
    read.map_err(|error| DecodeError::new(format!("there is no memory for it: {error}")))?
        .ok_or_else(no_bulk)
}

fn not_utf8(error: Utf8Error) -> DecodeError {
    DecodeError::new(format!("a string is not UTF-8: {error}"))
}

#[inline]
pub(super) fn fit(length: u64) -> Result<usize, DecodeError> {
    usize::try_from(length)
        .map_err(|_| DecodeError::new(format!("a length of {length} does not fit")))
}

#[cold]
fn no_bulk() -> DecodeError {
    DecodeError::new("a part of it that lies apart did not come with it")
}

macro_rules! fixed_width {
    ($($method:ident: $type:ty => $visit:ident),* $(,)?) => {
        $(fn $method<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            visitor.$visit(<$type>::from_le_bytes(self.array()?))
        })*
    };
}

impl<'b> de::Deserializer<'b> for &mut Decoder<'b> {
    type Error = DecodeError;

    fixed_width! {
        deserialize_i8: i8 => visit_i8, deserialize_i16: i16 => visit_i16,
        deserialize_i32: i32 => visit_i32, deserialize_i64: i64 => visit_i64,
        deserialize_i128: i128 => visit_i128, deserialize_u8: u8 => visit_u8,
        deserialize_u16: u16 => visit_u16, deserialize_u32: u32 => visit_u32,
        deserialize_u64: u64 => visit_u64, deserialize_u128: u128 => visit_u128,
        deserialize_f32: f32 => visit_f32, deserialize_f64: f64 => visit_f64,
    }

    fn deserialize_any<V: Visitor<'b>>(self, _visitor: V) -> Result<V::Value, DecodeError> {
        Err(DecodeError::new(
            "the type can only be read from a format that describes itself, such as JSON: it has \
             an untagged or internally tagged enum, a flattened field, or is a serde_json::Value; \
             send it as a String",
        ))
    }

    fn deserialize_ignored_any<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_bool<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.array()? {
            [0] => visitor.visit_bool(false),
            [1] => visitor.visit_bool(true),
            [byte] => Err(DecodeError::new(format!(
                "{byte} is neither false nor true"
            ))),
        }
    }

    fn deserialize_char<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let code = self.u32()?;
        let char = char::from_u32(code)
            .ok_or_else(|| DecodeError::new(format!("{code:#x} is not a char")))?;
        visitor.visit_char(char)
    }

    fn deserialize_str<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.run()? {
            Cow::Borrowed(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(not_utf8)?;
                visitor.visit_borrowed_str(text)
            }
            Cow::Owned(bytes) => {
                let text =
                    String::from_utf8(bytes).map_err(|error| not_utf8(error.utf8_error()))?;
                visitor.visit_string(text)
            }
        }
    }

    fn deserialize_string<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.run()? {
            Cow::Borrowed(bytes) => visitor.visit_borrowed_bytes(bytes),
            Cow::Owned(bytes) => visitor.visit_byte_buf(bytes),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.array()? {
            [0] => visitor.visit_none(),
            [1] => self.nested(|decoder| visitor.visit_some(decoder)),
            [byte] => Err(DecodeError::new(format!("{byte} is neither None nor Some"))),
        }
    }

    fn deserialize_unit<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'b>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'b>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.nested(|decoder| visitor.visit_newtype_struct(decoder))
    }

    fn deserialize_seq<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let left = self.count()?;
        self.nested(|decoder| visitor.visit_seq(Elements { decoder, left }))
    }

    fn deserialize_tuple<V: Visitor<'b>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.nested(|decoder| visitor.visit_seq(Elements { decoder, left: len }))
    }

    fn deserialize_tuple_struct<V: Visitor<'b>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let left = self.count()?;
        self.nested(|decoder| visitor.visit_map(Elements { decoder, left }))
    }

    fn deserialize_struct<V: Visitor<'b>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'b>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.nested(|decoder| visitor.visit_enum(decoder))
    }

    fn deserialize_identifier<V: Visitor<'b>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// What is left of a sequence, tuple or map.
struct Elements<'d, 'b> {
    decoder: &'d mut Decoder<'b>,
    left: usize,
}

impl<'b> de::SeqAccess<'b> for Elements<'_, 'b> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'b>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'b> de::MapAccess<'b> for Elements<'_, 'b> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'b>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<V: DeserializeSeed<'b>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'b> de::EnumAccess<'b> for &mut Decoder<'b> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'b>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), DecodeError> {
        let index: de::value::U32Deserializer<DecodeError> = self.u32()?.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'b> de::VariantAccess<'b> for &mut Decoder<'b> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'b>>(
        self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'b>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        // The variant itself is the level.
        visitor.visit_seq(Elements {
            decoder: self,
            left: len,
        })
    }

    fn struct_variant<V: Visitor<'b>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.tuple_variant(fields.len(), visitor)
    }
}
