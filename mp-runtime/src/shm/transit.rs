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
//! A handle may also stand for open files (ends of a pipe or of a socket, memory that is not laid
//! out here): these travel the same way.
//!
//! A message owns the regions and files in its cargo, so what travels is alive in flight. What
//! comes in may have been written by a hostile process: number, bounds and alignment are checked
//! before anything is believed.

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::rc::Rc;
use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

use super::bulk::Bulk;
use super::heap::Block;
use super::lease::{Loan, Part};
use super::region::Region;
use crate::os::shared_fd::SharedFd;

/// What travels beside the bytes of a message.
#[derive(Debug, Default)]
pub(crate) struct Cargo {
    pub(crate) regions: Vec<Arc<Region>>,
    pub(crate) files: Vec<Arc<SharedFd>>,
    /// Kept until the message is dropped; their order means nothing.
    pub(crate) loans: Vec<Loan>,
    /// Bytes of it that lie apart.
    pub(crate) bulks: Vec<Bulk>,
    /// Why there are fewer regions or files than were sent.
    pub(crate) loss: Option<String>,
}

impl Cargo {
    /// Whether nothing travels.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let Cargo {
            regions,
            files,
            loans,
            bulks,
            loss,
        } = self;
        regions.is_empty()
            && files.is_empty()
            && loans.is_empty()
            && bulks.is_empty()
            && loss.is_none()
    }

    /// How many descriptors it takes.
    pub(crate) fn fd_count(&self) -> usize {
        self.regions.len() + self.files.len() + self.bulks.len()
    }

    /// Nothing of it is there, for this reason if there is no other.
    pub(crate) fn lose(&mut self, reason: &str) {
        self.loss.get_or_insert_with(|| reason.to_owned());
        self.regions.clear();
        self.files.clear();
    }

    /// Why something that a parcel names is not there.
    fn missing(&self, what: &str) -> String {
        match &self.loss {
            Some(reason) => reason.clone(),
            None => format!("its {what} did not come with it"),
        }
    }
}

/// The number of `item` in the list; it is put there if it is not.
fn number<T>(list: &mut Vec<Arc<T>>, item: &Arc<T>) -> u32 {
    let known = list.iter().rposition(|other| Arc::ptr_eq(other, item));
    let number = known.unwrap_or_else(|| {
        list.push(Arc::clone(item));
        list.len() - 1
    });
    u32::try_from(number).unwrap_or(NONE)
}

/// The number of no region and of no file.
const NONE: u32 = u32::MAX;

/// The most files that one handle stands for.
const FILE_LIMIT: usize = 3;

/// What is noted while items are encoded.
#[derive(Debug, Default)]
pub(crate) struct Departure {
    pub(crate) cargo: Cargo,
    /// Those of the item that is being encoded.
    pub(crate) parcels: Vec<Parcel>,
}

impl Departure {
    /// Whether no handle was noted.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.parcels.is_empty() && self.cargo.is_empty()
    }
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
    /// The numbers of the files that it stands for.
    files: [u32; FILE_LIMIT],
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
const PARCEL_BYTES: usize = 4 + 8 + 8 + 8 + 4 * FILE_LIMIT + 1 + 8 + 4 + 8 + 8 + 8;
/// The last byte of an item: what stands before it.
const NO_PARCELS: u8 = 0;
const PARCELS: u8 = 1;

impl Parcel {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.region.to_le_bytes());
        for number in [self.offset, self.len, self.kind] {
            to.extend_from_slice(&number.to_le_bytes());
        }
        for number in self.files {
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
        let files = std::array::from_fn(|_| take(4) as u32);
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
            files,
            chunk: is_chunk.then_some(chunk),
        }
    }

    /// Keeps count of the part that this is of, from now on, if it is of one.
    ///
    /// # Errors
    ///
    /// If that could not be done.
    pub(crate) fn take_over(&self, cargo: &Cargo) -> Result<Option<Loan>, NotTaken> {
        let Some(chunk) = self.chunk else {
            return Ok(None);
        };
        let region = cargo.regions.get(self.region as usize);
        region
            .and_then(|region| Loan::take_over(region, chunk.lock_offset as usize, chunk.part))
            .map(Some)
            .ok_or(NotTaken)
    }
}

/// The part of an array that a message names is not on its way.
#[derive(Debug)]
pub(crate) struct NotTaken;

/// Writes the parcels of an item behind its bytes.
#[inline]
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

/// The parcels of an item, as they were written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trailer<'m>(&'m [[u8; PARCEL_BYTES]]);

impl Trailer<'_> {
    pub(crate) fn parcels(self) -> Vec<Parcel> {
        self.0.iter().map(Parcel::read).collect()
    }
}

/// Takes the trailer off an item. `None` if there is none.
#[inline]
pub(crate) fn split_trailer(item: &[u8]) -> Option<(&[u8], Trailer<'_>)> {
    let (&last, rest) = item.split_last()?;
    if last == NO_PARCELS {
        return Some((rest, Trailer(&[])));
    }
    let (rest, count) = rest.split_last_chunk()?;
    let bytes = (u32::from_le_bytes(*count) as usize).checked_mul(PARCEL_BYTES)?;
    let (rest, parcels) = rest.split_at_checked(rest.len().checked_sub(bytes)?)?;
    let (parcels, _) = parcels.as_chunks();
    Some((rest, Trailer(parcels)))
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
    // A thread that ends has no place for it any more; nor for handles, then.
    DEPARTING
        .try_with(|noted| noted.replace(Some(departure)))
        .unwrap_or_default()
}

/// Gives what was noted.
pub(crate) fn end_departure(before: Option<Departure>) -> Departure {
    let noted = DEPARTING.try_with(|noted| noted.replace(before));
    noted.ok().flatten().unwrap_or_default()
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
            let _ = ARRIVED.try_with(|arrived| arrived.replace(self.0.take()));
        }
    }
    let parcels = parcels.into_iter().map(|parcel| (parcel, Cell::new(false)));
    let arrival = Arrival {
        cargo: Arc::clone(cargo),
        parcels: parcels.collect(),
    };
    let before = ARRIVED.try_with(|arrived| arrived.replace(Some(Rc::new(arrival))));
    let _restore = Restore(before.unwrap_or_default());
    decode()
}

/// Notes that `block` holds `len` elements of what `K` stands for, and writes the number of that.
pub(crate) fn send<K: 'static, S: Serializer>(
    block: &Block,
    len: usize,
    chunk: Option<(Chunk, Loan)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    note(serializer, |cargo| {
        let (chunk, loan) = chunk.unzip();
        cargo.loans.extend(loan);
        Parcel {
            region: number(&mut cargo.regions, block.leave()),
            offset: block.offset() as u64,
            len: len as u64,
            kind: kind::<K>(),
            files: [NONE; FILE_LIMIT],
            chunk,
        }
    })
}

/// Notes that what `K` stands for is these files, three at the most, and writes the number of that.
pub(crate) fn send_files<K: 'static, S: Serializer>(
    files: &[&Arc<SharedFd>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    note(serializer, |cargo| {
        let mut numbers = [NONE; FILE_LIMIT];
        for (place, file) in numbers.iter_mut().zip(files) {
            *place = number(&mut cargo.files, file);
        }
        Parcel {
            region: NONE,
            offset: 0,
            len: 0,
            kind: kind::<K>(),
            files: numbers,
            chunk: None,
        }
    })
}

/// Notes a parcel, and writes its number.
fn note<S: Serializer>(
    serializer: S,
    parcel: impl FnOnce(&mut Cargo) -> Parcel,
) -> Result<S::Ok, S::Error> {
    let number = DEPARTING.try_with(|departure| {
        let mut departure = departure.borrow_mut();
        let Departure { cargo, parcels } = departure.as_mut()?;
        parcels.push(parcel(cargo));
        u32::try_from(parcels.len() - 1).ok()
    });
    match number.ok().flatten() {
        Some(number) => number.serialize(serializer),
        None => Err(S::Error::custom(
            "a handle travels in an argument or a result of a process function, or over a pipe, \
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
    take_in(deserializer, |arrival, number| {
        look_up::<K>(arrival, number, layout)
    })
}

/// Finds the files that `K` stands for.
pub(crate) fn receive_files<'de, K: 'static, D: Deserializer<'de>, const N: usize>(
    deserializer: D,
) -> Result<[Arc<SharedFd>; N], D::Error> {
    take_in(deserializer, |arrival, number| {
        let (parcel, _) = arrival.find::<K>(number)?;
        let named = parcel.files.iter().filter(|&&number| number != NONE);
        let files = named.map(|&number| arrival.cargo.files.get(number as usize).cloned());
        let files: Option<Vec<_>> = files.collect();
        let files = files.ok_or_else(|| arrival.cargo.missing("descriptor"))?;
        files
            .try_into()
            .map_err(|_| "it has another number of descriptors".into())
    })
}

/// Reads the number of a parcel, and has `find` find what it stands for.
fn take_in<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    find: impl FnOnce(&Arrival, u32) -> Result<T, String>,
) -> Result<T, D::Error> {
    let number = u32::deserialize(deserializer)?;
    let arrival = ARRIVED.try_with(|arrived| arrived.borrow().clone());
    let arrival = arrival.ok().flatten();
    arrival
        .ok_or_else(|| "it did not come as an argument or a result, or over a pipe".to_owned())
        .and_then(|arrival| find(&arrival, number))
        .map_err(|reason| D::Error::custom(format!("a handle could not be taken in: {reason}")))
}

impl Arrival {
    /// The parcel of this number, which must be of a `K`.
    fn find<K: 'static>(&self, number: u32) -> Result<&(Parcel, Cell<bool>), String> {
        let found = self.parcels.get(number as usize);
        let found = found.ok_or("it is not among what came with it")?;
        match found.0.kind == kind::<K>() {
            true => Ok(found),
            false => Err("it is of another type".into()),
        }
    }
}

fn look_up<K: 'static>(
    arrival: &Arrival,
    number: u32,
    layout: impl FnOnce(usize) -> Option<(usize, usize)>,
) -> Result<Received, String> {
    let (parcel, is_taken) = arrival.find::<K>(number)?;
    if parcel.chunk.is_some() && is_taken.replace(true) {
        return Err("it was taken out before".into());
    }
    let cargo = &arrival.cargo;
    let region = cargo.regions.get(parcel.region as usize);
    let region = region.ok_or_else(|| cargo.missing("memory"))?;
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
            files: [NONE, 7, NONE],
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
        look_up::<u32>(&arrival, 0, |len| (len == 1).then_some((4, 4)))
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
            assert_eq!((bytes, found.parcels()), (&b"bytes"[..], parcels));
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
