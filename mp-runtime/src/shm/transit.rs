//! How handles to shared memory ride along with the bytes of a message.
//!
//! Serializing a handle writes a *parcel*, which says where the memory is: the number of its region
//! in a list that travels beside the bytes, the offset and the length there, and a hash of the
//! type. While a message is encoded or decoded that list is in a thread-local, where `Serialize`
//! and `Deserialize` of the handles find it; outside, handles cannot be serialized.
//!
//! A message owns the regions in its list, so what travels is alive in flight. What comes in may
//! have been written by a hostile process: number, bounds, alignment and type are checked before
//! anything is believed.
//!
//! Parts of an array are lent (`sync/lease.rs`), and who lent one keeps count of it for as long as
//! its message exists: the [`Loan`]s of the list.

use std::any::TypeId;
use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::heap::Block;
use super::lease::Loan;
use super::region::Region;

/// What travels beside the bytes of a message.
#[derive(Debug, Default)]
pub(crate) struct Cargo {
    pub(crate) regions: Vec<Arc<Region>>,
    /// Kept until the message is dropped; their order means nothing.
    pub(crate) loans: Vec<Loan>,
    /// Why there are fewer regions than were sent.
    pub(crate) loss: Option<String>,
}

impl Cargo {
    /// Whether nothing travels.
    pub(crate) fn is_empty(&self) -> bool {
        self.regions.is_empty() && self.loans.is_empty() && self.loss.is_none()
    }

    /// The number of `region` in the list.
    fn number(&mut self, region: &Arc<Region>) -> usize {
        let known = self
            .regions
            .iter()
            .rposition(|other| Arc::ptr_eq(other, region));
        known.unwrap_or_else(|| {
            self.regions.push(Arc::clone(region));
            self.regions.len() - 1
        })
    }
}

thread_local! {
    static DEPARTING: RefCell<Option<Cargo>> = const { RefCell::new(None) };
    static ARRIVED: RefCell<Option<Arc<Cargo>>> = const { RefCell::new(None) };
}

/// From now on handles that this thread serializes are added to `cargo`. Gives what they were added
/// to before, for [`end_departure`].
pub(crate) fn begin_departure(cargo: Cargo) -> Option<Cargo> {
    DEPARTING.replace(Some(cargo))
}

/// Gives the cargo with the handles that were serialized.
pub(crate) fn end_departure(before: Option<Cargo>) -> Cargo {
    DEPARTING.replace(before).unwrap_or_default()
}

/// Runs `decode`; the handles that it deserializes are found in `cargo`.
pub(crate) fn arrived<R>(cargo: &Arc<Cargo>, decode: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<Cargo>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ARRIVED.set(self.0.take());
        }
    }
    let _restore = Restore(ARRIVED.replace(Some(Arc::clone(cargo))));
    decode()
}

/// What is written in place of a handle.
#[derive(Serialize, Deserialize)]
struct Parcel {
    region: u32,
    /// Offset and length, as one number: a `u64` would be taken for a handle of `ipc-channel` now
    /// and then, see `wire/handles.rs`.
    extent: u128,
    kind: u128,
}

/// Writes where `block` is, and that it holds `len` elements of what `K` stands for.
pub(crate) fn send<K: 'static, S: Serializer>(
    block: &Block,
    len: usize,
    loan: Option<Loan>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let region = DEPARTING.with_borrow_mut(|cargo| {
        let cargo = cargo.as_mut()?;
        cargo.loans.extend(loan);
        Some(cargo.number(block.leave()))
    });
    let Some(region) = region else {
        return Err(S::Error::custom(
            "a handle to shared memory travels as an argument or a result of a process function, \
             and in no other way",
        ));
    };
    let parcel = Parcel {
        region: u32::try_from(region).map_err(S::Error::custom)?,
        extent: ((block.offset() as u128) << 64) | len as u128,
        kind: u128::from(kind::<K>()),
    };
    parcel.serialize(serializer)
}

/// Reads a parcel of what `K` stands for, which has the size and alignment that `layout` says for
/// its number of elements.
pub(crate) fn receive<'de, K: 'static, D: Deserializer<'de>>(
    deserializer: D,
    layout: impl FnOnce(usize) -> Option<(usize, usize)>,
) -> Result<(Arc<Block>, usize), D::Error> {
    let parcel = Parcel::deserialize(deserializer)?;
    let region = ARRIVED.with_borrow(|cargo| {
        let cargo = cargo
            .as_ref()
            .ok_or("it did not come as an argument or a result")?;
        let region = cargo.regions.get(parcel.region as usize);
        region.cloned().ok_or_else(|| match &cargo.loss {
            Some(reason) => reason.clone(),
            None => "it is not among what came with it".to_owned(),
        })
    });
    let refuse = |reason: &str| {
        D::Error::custom(format!(
            "a handle to shared memory could not be taken in: {reason}"
        ))
    };
    let region = region.map_err(|reason| refuse(&reason))?;
    if parcel.kind != u128::from(kind::<K>()) {
        return Err(refuse("it is of another type"));
    }
    let (offset, len) = (
        (parcel.extent >> 64) as usize,
        parcel.extent as u64 as usize,
    );
    let (bytes, align) = layout(len).ok_or_else(|| refuse("its length is impossible"))?;
    let block = Block::existing(region, offset, bytes, align)
        .map_err(|_| refuse("it is outside of its memory"))?;
    Ok((block, len))
}

/// Tells types apart; the same in every process of the program.
fn kind<K: 'static>() -> u64 {
    let mut hasher = DefaultHasher::new();
    TypeId::of::<K>().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error, SeqDeserializer};
    use serde::de::{IntoDeserializer, Visitor};
    use serde::forward_to_deserialize_any;

    use super::*;
    use crate::shm::Content;

    /// A field of a parcel as a hostile process may have written it.
    #[derive(Clone, Copy)]
    enum Field {
        Region(u32),
        Number(u128),
    }

    impl<'de> Deserializer<'de> for Field {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self {
                Field::Region(region) => visitor.visit_u32(region),
                Field::Number(number) => visitor.visit_u128(number),
            }
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
            option unit unit_struct newtype_struct seq tuple tuple_struct map struct enum
            identifier ignored_any
        }
    }

    impl IntoDeserializer<'_, Error> for Field {
        type Deserializer = Field;

        fn into_deserializer(self) -> Field {
            self
        }
    }

    const REGION_BYTES: usize = 8192;

    fn cargo() -> Arc<Cargo> {
        let region = Region::create(REGION_BYTES).expect("there is memory");
        Arc::new(Cargo {
            regions: vec![region],
            ..Cargo::default()
        })
    }

    /// Receives a `T` that is said to be at `offset`, with `len` elements. Gives where it is and
    /// how many elements it has.
    fn receive_at<T: Content + ?Sized>(
        region: u32,
        offset: usize,
        len: usize,
        kind: u64,
    ) -> Result<(usize, usize), String> {
        let fields = [
            Field::Region(region),
            Field::Number(((offset as u128) << 64) | len as u128),
            Field::Number(kind.into()),
        ];
        receive::<u8, _>(SeqDeserializer::new(fields.into_iter()), T::layout)
            .map(|(block, len)| (block.offset(), len))
            .map_err(|error: Error| error.to_string())
    }

    #[test]
    fn what_is_in_bounds_is_taken_in() {
        transit_of(|own| {
            assert_eq!(receive_at::<u64>(0, 4096, 1, own), Ok((4096, 1)));
            let all = receive_at::<[u64]>(0, 0, REGION_BYTES / 8, own);
            assert_eq!(all, Ok((0, REGION_BYTES / 8)));
            let none = receive_at::<[u64]>(0, REGION_BYTES, 0, own);
            assert_eq!(none, Ok((REGION_BYTES, 0)));
        });
    }

    #[test]
    fn what_a_hostile_process_makes_up_is_refused() {
        transit_of(|own| {
            let refused = |result: Result<(usize, usize), String>, reason: &str| {
                let text = result.expect_err("it is made up");
                assert!(text.contains(reason), "{text}");
            };
            for region in [1, u32::MAX] {
                refused(receive_at::<u64>(region, 0, 1, own), "not among what came");
            }
            refused(receive_at::<u64>(0, 0, 1, own ^ 1), "another type");
            for offset in [
                REGION_BYTES,
                REGION_BYTES - 7,
                usize::MAX,
                usize::MAX - 7,
                4,
                4095,
            ] {
                refused(
                    receive_at::<u64>(0, offset, 1, own),
                    "outside of its memory",
                );
            }
            for len in [0, 2, usize::MAX] {
                refused(receive_at::<u64>(0, 0, len, own), "length is impossible");
            }
            for len in [usize::MAX, usize::MAX / 8 + 1, 1 << 61] {
                refused(receive_at::<[u64]>(0, 0, len, own), "length is impossible");
            }
            for (offset, len) in [
                (0, REGION_BYTES / 8 + 1),
                (8, REGION_BYTES / 8),
                (0, 1 << 59),
            ] {
                let result = receive_at::<[u64]>(0, offset, len, own);
                refused(result, "outside of its memory");
            }
        });
    }

    #[test]
    fn without_a_message_and_with_a_part_of_it_the_reason_is_told() {
        let own = kind::<u8>();
        let text = receive_at::<u64>(0, 0, 1, own).expect_err("there is no message");
        assert!(text.contains("as an argument or a result"), "{text}");
        let lost = Arc::new(Cargo {
            loss: Some("it rained".into()),
            ..Cargo::default()
        });
        let text = arrived(&lost, || receive_at::<u64>(0, 0, 1, own)).expect_err("it is lost");
        assert!(text.contains("it rained"), "{text}");
    }

    /// Runs `test` with a region that has come in, and the hash of the type it is sent as.
    fn transit_of(test: impl FnOnce(u64)) {
        arrived(&cargo(), || test(kind::<u8>()));
    }
}
