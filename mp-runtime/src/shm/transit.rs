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
