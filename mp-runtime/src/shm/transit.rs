//! How handles to shared memory ride along with the bytes of a message.
//!
//! A message is one or more *items* (arguments, results). Serializing a handle notes a [`Parcel`],
//! which says what the handle refers to, and writes its number within the item into the bytes. The
//! parcels of an item stand in a *trailer* that the library writes behind its bytes, and the
//! regions they name travel beside the message ([`Cargo`]). While an item is encoded or decoded
//! all that is in a thread-local, where `Serialize` and `Deserialize` of the handles find it;
//! outside, handles can be neither serialized nor deserialized.
//!
//! So the code of a user's own `Serialize` or `Deserialize`, which sees the bytes, can name a handle
//! of the same item a second time, and can make nothing up: a handle has the type it was sent with,
//! and a chunk of an array, which must not be had twice, is taken out once.
//!
//! A message owns the regions in its cargo, so what travels is alive in flight. What comes in may
//! have been written by a hostile process: number, bounds and alignment are checked before
//! anything is believed.

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::rc::Rc;
use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

use super::heap::Block;
use super::lease::{Loan, Part};
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

/// What is noted while items are encoded.
#[derive(Debug, Default)]
pub(crate) struct Departure {
    pub(crate) cargo: Cargo,
    /// Those of the item that is being encoded.
    pub(crate) parcels: Vec<Parcel>,
}

/// What a handle refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parcel {
    /// The number of its region in the cargo.
    region: u32,
    offset: u64,
    /// How many elements it has.
    len: u64,
    /// Its type.
    kind: u64,
    /// If it is a part of an array.
    chunk: Option<Chunk>,
}

/// The part of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Where the lock of the array is in its region.
    pub(crate) lock_offset: u64,
    pub(crate) part: Part,
    pub(crate) start: u64,
    pub(crate) count: u64,
}

/// How many bytes a parcel takes in a trailer.
const PARCEL_BYTES: usize = 4 + 8 + 8 + 8 + 1 + 8 + 4 + 8 + 8 + 8;
/// The last byte of an item: what stands before it.
const NO_PARCELS: u8 = 0;
const PARCELS: u8 = 1;

impl Parcel {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.region.to_le_bytes());
        for number in [self.offset, self.len, self.kind] {
            to.extend_from_slice(&number.to_le_bytes());
        }
        to.push(u8::from(self.chunk.is_some()));
        let none = Chunk {
            lock_offset: 0,
            part: Part {
                place: 0,
                serial: 0,
            },
            start: 0,
            count: 0,
        };
        let chunk = self.chunk.unwrap_or(none);
        to.extend_from_slice(&chunk.lock_offset.to_le_bytes());
        to.extend_from_slice(&chunk.part.place.to_le_bytes());
        for number in [chunk.part.serial, chunk.start, chunk.count] {
            to.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn read(from: &[u8; PARCEL_BYTES]) -> Parcel {
        let mut rest = &from[..];
        let mut take = |count: usize| {
            let (bytes, behind) = rest.split_at(count);
            rest = behind;
            let mut number = [0; 8];
            number[..count].copy_from_slice(bytes);
            u64::from_le_bytes(number)
        };
        let (region, offset, len, kind) = (take(4) as u32, take(8), take(8), take(8));
        let is_chunk = take(1) != 0;
        let (lock_offset, place) = (take(8), take(4) as u32);
        let part = Part {
            place,
            serial: take(8),
        };
        let chunk = Chunk {
            lock_offset,
            part,
            start: take(8),
            count: take(8),
        };
        Parcel {
            region,
            offset,
            len,
            kind,
            chunk: is_chunk.then_some(chunk),
        }
    }

    /// Keeps count of the part that this is of, from now on, if it is of one. Tells whether that
    /// could be done.
    pub(crate) fn take_over(&self, cargo: &mut Cargo) -> bool {
        let Some(chunk) = self.chunk else {
            return true;
        };
        let loan = cargo
            .regions
            .get(self.region as usize)
            .and_then(|region| Loan::take_over(region, chunk.lock_offset as usize, chunk.part));
        let is_taken = loan.is_some();
        cargo.loans.extend(loan);
        is_taken
    }
}

/// Writes the parcels of an item behind its bytes.
pub(crate) fn write_trailer(to: &mut Vec<u8>, parcels: &[Parcel]) {
    if parcels.is_empty() {
        to.push(NO_PARCELS);
        return;
    }
    to.reserve(parcels.len() * PARCEL_BYTES + 5);
    for parcel in parcels {
        parcel.write(to);
    }
    to.extend_from_slice(&(parcels.len() as u32).to_le_bytes());
    to.push(PARCELS);
}

/// Takes the trailer off an item. `None` if there is none.
pub(crate) fn split_trailer(item: &[u8]) -> Option<(&[u8], Vec<Parcel>)> {
    let (&last, rest) = item.split_last()?;
    if last == NO_PARCELS {
        return Some((rest, Vec::new()));
    }
    let (rest, count) = rest.split_last_chunk()?;
    let bytes = (u32::from_le_bytes(*count) as usize).checked_mul(PARCEL_BYTES)?;
    let (rest, parcels) = rest.split_at_checked(rest.len().checked_sub(bytes)?)?;
    let (parcels, _) = parcels.as_chunks();
    Some((rest, parcels.iter().map(Parcel::read).collect()))
}

/// What is at hand while an item is decoded.
#[derive(Debug)]
struct Arrival {
    cargo: Arc<Cargo>,
    /// Each with whether it was taken out.
    parcels: Vec<(Parcel, Cell<bool>)>,
}

thread_local! {
    static DEPARTING: RefCell<Option<Departure>> = const { RefCell::new(None) };
    static ARRIVED: RefCell<Option<Rc<Arrival>>> = const { RefCell::new(None) };
}

/// From now on handles that this thread serializes are noted in `departure`. Gives what they were
/// noted in before, for [`end_departure`].
pub(crate) fn begin_departure(departure: Departure) -> Option<Departure> {
    DEPARTING.replace(Some(departure))
}

/// Gives what was noted.
pub(crate) fn end_departure(before: Option<Departure>) -> Departure {
    DEPARTING.replace(before).unwrap_or_default()
}

/// Runs `decode`; the handles that it deserializes are those of `parcels`, in `cargo`.
pub(crate) fn arrived<R>(
    cargo: &Arc<Cargo>,
    parcels: Vec<Parcel>,
    decode: impl FnOnce() -> R,
) -> R {
    struct Restore(Option<Rc<Arrival>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ARRIVED.set(self.0.take());
        }
    }
    let parcels = parcels.into_iter().map(|parcel| (parcel, Cell::new(false)));
    let arrival = Arrival {
        cargo: Arc::clone(cargo),
        parcels: parcels.collect(),
    };
    let _restore = Restore(ARRIVED.replace(Some(Rc::new(arrival))));
    decode()
}

/// Notes that `block` holds `len` elements of what `K` stands for, and writes the number of that.
pub(crate) fn send<K: 'static, S: Serializer>(
    block: &Block,
    len: usize,
    chunk: Option<(Chunk, Loan)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let number = DEPARTING.with_borrow_mut(|departure| {
        let Departure { cargo, parcels } = departure.as_mut()?;
        let (chunk, loan) = chunk.unzip();
        cargo.loans.extend(loan);
        parcels.push(Parcel {
            region: u32::try_from(cargo.number(block.leave())).unwrap_or(u32::MAX),
            offset: block.offset() as u64,
            len: len as u64,
            kind: kind::<K>(),
            chunk,
        });
        u32::try_from(parcels.len() - 1).ok()
    });
    match number {
        Some(number) => number.serialize(serializer),
        None => Err(S::Error::custom(
            "a handle to shared memory travels as an argument or a result of a process function, \
             and in no other way",
        )),
    }
}

/// What was received in place of a handle.
pub(crate) struct Received {
    pub(crate) block: Arc<Block>,
    pub(crate) len: usize,
    pub(crate) chunk: Option<Chunk>,
}

/// Finds what `K` stands for, which has the size and alignment that `layout` says for its number
/// of elements.
pub(crate) fn receive<'de, K: 'static, D: Deserializer<'de>>(
    deserializer: D,
    layout: impl FnOnce(usize) -> Option<(usize, usize)>,
) -> Result<Received, D::Error> {
    let number = u32::deserialize(deserializer)?;
    let arrival = ARRIVED.with_borrow(Clone::clone);
    look_up::<K>(arrival.as_deref(), number, layout).map_err(|reason| {
        D::Error::custom(format!(
            "a handle to shared memory could not be taken in: {reason}"
        ))
    })
}

fn look_up<K: 'static>(
    arrival: Option<&Arrival>,
    number: u32,
    layout: impl FnOnce(usize) -> Option<(usize, usize)>,
) -> Result<Received, String> {
    let arrival = arrival.ok_or("it did not come as an argument or a result")?;
    let (parcel, is_taken) = arrival
        .parcels
        .get(number as usize)
        .ok_or("it is not among what came with it")?;
    if parcel.kind != kind::<K>() {
        return Err("it is of another type".into());
    }
    if parcel.chunk.is_some() && is_taken.replace(true) {
        return Err("it was taken out before".into());
    }
    let cargo = &arrival.cargo;
    let region = cargo.regions.get(parcel.region as usize);
    let region = region.ok_or_else(|| match &cargo.loss {
        Some(reason) => reason.clone(),
        None => "its memory did not come with it".to_owned(),
    })?;
    let (offset, len) = (parcel.offset as usize, parcel.len as usize);
    let (bytes, align) = layout(len).ok_or("its length is impossible")?;
    let block = Block::existing(Arc::clone(region), offset, bytes, align)
        .map_err(|_| "it is outside of its memory")?;
    Ok(Received {
        block,
        len,
        chunk: parcel.chunk,
    })
}

/// Tells types apart; the same in every process of the program.
fn kind<K: 'static>() -> u64 {
    let mut hasher = DefaultHasher::new();
    TypeId::of::<K>().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(region: u32, offset: u64, len: u64) -> Parcel {
        Parcel {
            region,
            offset,
            len,
            kind: kind::<u32>(),
            chunk: None,
        }
    }

    fn look_up_first(parcel: Parcel) -> Result<Received, String> {
        let region = Region::create(4096).expect("there is memory");
        let arrival = Arrival {
            cargo: Arc::new(Cargo {
                regions: vec![region],
                ..Cargo::default()
            }),
            parcels: vec![(parcel, Cell::new(false))],
        };
        look_up::<u32>(Some(&arrival), 0, |len| (len == 1).then_some((4, 4)))
    }

    #[test]
    fn a_trailer_comes_off_as_it_was_put_on() {
        let chunk = Chunk {
            lock_offset: 64,
            part: Part {
                place: 3,
                serial: 1 << 40,
            },
            start: 5,
            count: 7,
        };
        let of_chunk = Parcel {
            chunk: Some(chunk),
            ..parcel(9, 10, 11)
        };
        for parcels in [vec![], vec![parcel(1, 2, 3), of_chunk]] {
            let mut item = b"bytes".to_vec();
            write_trailer(&mut item, &parcels);
            let (bytes, found) = split_trailer(&item).expect("it was put on");
            assert_eq!((bytes, found), (&b"bytes"[..], parcels));
        }
    }

    #[test]
    fn a_trailer_that_lies_is_none() {
        assert!(split_trailer(&[]).is_none());
        assert!(split_trailer(&[PARCELS]).is_none());
        assert!(split_trailer(&[0, 0, 0, 1, 0, 0, 0, PARCELS]).is_none());
        assert!(split_trailer(&[0xff; 64]).is_none());
    }

    #[test]
    fn what_a_parcel_says_is_checked() {
        assert!(look_up_first(parcel(0, 4092, 1)).is_ok());
        for lie in [
            parcel(1, 0, 1),
            parcel(0, 4096, 1),
            parcel(0, u64::MAX - 3, 1),
            parcel(0, 2, 1),
            parcel(0, 0, 2),
            parcel(0, 0, u64::MAX),
            Parcel {
                kind: kind::<f32>(),
                ..parcel(0, 0, 1)
            },
        ] {
            assert!(look_up_first(lie).is_err(), "{lie:?}");
        }
    }
}
