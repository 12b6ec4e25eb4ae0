//! Statics that every process of the program shares.
//!
//! `shared!` registers each with `inventory`, in every process the same ones, since all run the
//! same binary. Sorted, they have their places in one region. The first process of the tree makes
//! it and writes the initial values, when a static is first used or a process first started, and
//! each worker inherits it, and hands it on to its own.
//!
//! Where a static is, is stored once, after its value is there, and read with every look at it. A
//! process that is killed before that takes nobody with it: what it was making was its own, and
//! its workers have the region or were not started. After that the locks say what a death means.
//!
//! If the region cannot be made, the statics are this process's own, and no process can be
//! started: a program whose statics were not shared would go wrong in silence.

use std::fmt;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex as ThreadMutex, OnceLock, PoisonError};

use super::mutex::Mutex;
use crate::os::environment;
use crate::shm::{Place, Region, Shareable};

/// Statics are this far apart: a line of the processor's cache.
const SPACING: usize = 64;

/// A lock-guarded static of every process of the program: what `shared! { static … }` declares.
///
/// It dereferences to [`Mutex<T>`]. The value is made in the first process; workers, and workers of
/// workers, have the same one, whatever they were started for. It is never dropped.
///
/// ```
/// mp::shared! {
///     /// Requests served.
///     pub static HITS: u64 = 0;
/// }
///
/// #[mp::process_fn]
/// fn hit() -> Result<(), String> {
///     HITS.update(|hits| *hits += 1).map_err(|error| error.to_string())
/// }
///
/// #[mp::main]
/// fn main() -> Result<(), mp::Error> {
///     mp::spawn!(hit())?.join()?.expect("nobody died with the lock");
///     assert_eq!(HITS.get()?, 1);
///     Ok(())
/// }
/// ```
pub struct SharedStatic<T> {
    place: AtomicPtr<Mutex<T>>,
    /// The value until it has its place; there it stays if it cannot be shared.
    initial: Mutex<T>,
    name: &'static str,
    file: &'static str,
    line: u32,
    column: u32,
}

/// What `inventory` collects.
pub struct RegisteredStatic(&'static dyn Settle);

inventory::collect!(RegisteredStatic);

impl RegisteredStatic {
    /// Registers `item`.
    pub const fn new<T: Shareable>(item: &'static SharedStatic<T>) -> RegisteredStatic {
        RegisteredStatic(item)
    }
}

/// A static of any type.
trait Settle: Sync {
    fn name(&self) -> &'static str;
    fn position(&self) -> (&'static str, u32, u32, usize);
    fn bytes(&self) -> usize;
    fn align(&self) -> usize;

    /// Moves the initial value to `place`.
    ///
    /// # Safety
    ///
    /// `place` has room for it, it is called once, and nobody else looks there yet.
    unsafe fn initialize(&self, place: NonNull<u8>);

    /// Has this process look at `place`, where the value is, for ever; without one, where the
    /// initial value is.
    fn settle(&'static self, place: Option<NonNull<u8>>);
}

impl<T> SharedStatic<T> {
    #[doc(hidden)]
    pub const fn __new(
        name: &'static str,
        file: &'static str,
        line: u32,
        column: u32,
        value: T,
    ) -> SharedStatic<T> {
        SharedStatic {
            place: AtomicPtr::new(ptr::null_mut()),
            initial: Mutex::new(value),
            name,
            file,
            line,
            column,
        }
    }

    /// Where it is, the same in every process.
    pub(crate) fn place(&self) -> Place {
        let address = ptr::from_ref::<Mutex<T>>(self).addr();
        match &settled().region {
            Some(region) => region.place_of(address),
            None => Place::private(address),
        }
    }
}

impl<T: Shareable> Settle for SharedStatic<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn position(&self) -> (&'static str, u32, u32, usize) {
        // Within a binary, the order of addresses is the same wherever it is loaded.
        let address = ptr::from_ref(self).addr();
        (self.file, self.line, self.column, address)
    }

    fn bytes(&self) -> usize {
        size_of::<Mutex<T>>()
    }

    fn align(&self) -> usize {
        align_of::<Mutex<T>>()
    }

    unsafe fn initialize(&self, place: NonNull<u8>) {
        let from = NonNull::from(&self.initial);
        // SAFETY: the place has room, as the caller vouches; nobody has the lock, since nobody
        // gets at it before it has its place; the value has nothing to drop.
        unsafe { place.cast().copy_from_nonoverlapping(from, 1) };
    }

    fn settle(&'static self, place: Option<NonNull<u8>>) {
        let place = place.map_or(NonNull::from(&self.initial), NonNull::cast);
        self.place.store(place.as_ptr(), Ordering::Release);
    }
}

impl<T> Deref for SharedStatic<T> {
    type Target = Mutex<T>;

    #[inline]
    fn deref(&self) -> &Mutex<T> {
        let place = self.place.load(Ordering::Acquire);
        match place.is_null() {
            // SAFETY: who stored it vouched that the value is there as long as the process lives.
            false => unsafe { &*place },
            true => self.first_look(),
        }
    }
}

impl<T> SharedStatic<T> {
    #[cold]
    fn first_look(&self) -> &Mutex<T> {
        settled();
        let place = self.place.load(Ordering::Acquire);
        // SAFETY: as in `deref`. One that was not registered, and so is no work of the macro, is
        // its process's own.
        unsafe { place.as_ref() }.unwrap_or(&self.initial)
    }
}

impl<T> fmt::Debug for SharedStatic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStatic")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Where the statics of this process are.
struct Settled {
    /// `None`: there are none, or they are not shared.
    region: Option<Arc<Region>>,
    failure: Option<String>,
}

/// What the parent handed down, until it is used.
static INHERITED: ThreadMutex<Option<OwnedFd>> = ThreadMutex::new(None);

/// The memory of the statics, handed down to this process by its parent.
pub(crate) fn inherit(fd: OwnedFd) {
    *INHERITED.lock().unwrap_or_else(PoisonError::into_inner) = Some(fd);
}

/// The memory to hand down to a worker, if there is any.
///
/// # Errors
///
/// Why the statics of this process are not shared.
pub(crate) fn to_hand_down() -> Result<Option<Arc<Region>>, String> {
    let settled = settled();
    match &settled.failure {
        None => Ok(settled.region.clone()),
        Some(reason) => Err(format!("its shared statics: {reason}")),
    }
}

/// The names and sizes of the statics, which must be the same in every process.
pub(crate) fn describe() -> impl Iterator<Item = String> {
    let items = registered().into_iter();
    items.map(|item| format!("{} {} {}", item.name(), item.bytes(), item.align()))
}

fn registered() -> Vec<&'static dyn Settle> {
    let all = inventory::iter::<RegisteredStatic>.into_iter();
    let mut items: Vec<_> = all.map(|registered| registered.0).collect();
    items.sort_by_key(|item| (item.name(), item.position()));
    items
}

fn settled() -> &'static Settled {
    static SETTLED: OnceLock<Settled> = OnceLock::new();
    SETTLED.get_or_init(|| {
        let items = registered();
        let mut bytes = 0_usize;
        let mut offsets = Vec::with_capacity(items.len());
        for item in &items {
            bytes = bytes.next_multiple_of(item.align().max(SPACING));
            offsets.push(bytes);
            bytes += item.bytes();
        }
        if items.is_empty() {
            return Settled {
                region: None,
                failure: None,
            };
        }
        let shared = share(&items, &offsets, bytes);
        if shared.is_err() {
            items.iter().for_each(|item| item.settle(None));
        }
        Settled {
            failure: shared.as_ref().err().map(ToString::to_string),
            region: shared.ok(),
        }
    })
}

/// Gives the statics their places in the region that was handed down, or in a new one.
fn share(
    items: &[&'static dyn Settle],
    offsets: &[usize],
    bytes: usize,
) -> std::io::Result<Arc<Region>> {
    let taken = INHERITED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let handed_down = match taken {
        Some(fd) => Some(fd),
        None => environment::copy_inherited_statics()?,
    };
    let is_first = handed_down.is_none();
    let region = match handed_down {
        Some(fd) => Region::adopt(fd)?,
        None => Region::create(bytes)?,
    };
    let places: Option<Vec<_>> = items
        .iter()
        .zip(offsets)
        .map(|(item, &offset)| region.at(offset, item.bytes(), item.align()))
        .collect();
    let places = places.ok_or(std::io::ErrorKind::InvalidData)?;
    for (item, place) in items.iter().zip(places) {
        if is_first {
            // SAFETY: the place is in the region, aligned, and nobody has heard of it yet; this
            // runs once in a process.
            unsafe { item.initialize(place) };
        }
        item.settle(Some(place));
    }
    Ok(region)
}
