//! What may live in memory that processes share.
//!
//! Two things can go wrong with a value there that cannot go wrong in private memory. It can mean
//! something only here (a pointer), so types with pointers are not `Shareable`. And a process can
//! be killed while it writes one, which leaves some bytes of the new value and some of the old.
//! For numbers that is a wrong number. A `char`, a `NonZero` or an `Option` of one could become
//! something that is no value of its type at all, and to look at it would be undefined behaviour.
//! So each type says how it is mended ([`Mend`]), and a lock that is taken over from a dead owner
//! does that before anybody looks. What cannot be mended (an enum with fields: the tag of one
//! variant, the data of another) is not `Shareable`.

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::num::{NonZero, Wrapping};
use std::ptr;
use std::sync::atomic;

/// What may live in memory that processes share: no pointers, nothing to drop, the same layout in
/// every process of the program, and valid (or mended) after a kill in the middle of a write.
///
/// Numbers, `bool`, `char`, arrays, tuples, `Option` of those, atomics, the primitives of
/// [`mp::sync`](crate::sync), and structs and fieldless enums of them, by `#[derive(Shareable)]`:
///
/// ```
/// use mp::{Shareable, Shared, shared};
///
/// #[derive(Shareable, Clone, Copy)]
/// enum Mode { Idle, Running }
///
/// #[derive(Shareable)]
/// struct Progress {
///     done: u64,
///     mode: Mode,
///     best: Option<f64>,
/// }
///
/// # fn main() -> Result<(), mp::Error> {
/// let progress = shared!(Progress { done: 0, mode: Mode::Idle, best: None })?;
/// progress.lock()?.done += 1;
/// # assert_eq!(progress.lock()?.done, 1);
/// # Ok(())
/// # }
/// ```
///
/// # Safety
///
/// A type that implements this by hand, and not by the derive macro, vouches that
///
/// - it holds no pointer, reference or descriptor, nor anything else that means something in one
///   process only, and drops nothing;
/// - any mixture, byte by byte, of values that were stored at the same place is a valid value once
///   `__MEND` was applied. Where every mixture is valid without, as for plain numbers and for
///   types whose every bit pattern is valid, that is [`Mend::Nothing`], the default.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot live in memory that processes share",
    label = "this type cannot be shared in place",
    note = "numbers, `bool`, `char`, atomics, the types of `mp::sync`, and arrays, tuples and `Option`s of those can; \
            derive `mp::Shareable` for your own structs of them, and for enums without fields"
)]
pub unsafe trait Shareable: Send + 'static {
    #[doc(hidden)]
    const __MEND: Mend = Mend::Nothing;

    /// Whether all zeroes are a value.
    #[doc(hidden)]
    const __ZERO_IS_VALID: bool = false;

    #[doc(hidden)]
    const __ASSERT_ZERO_IS_VALID: () = assert!(
        Self::__ZERO_IS_VALID,
        "all zeroes are no value of this type: use `from_fn`"
    );
}

/// What may stand inside an `Option` in shared memory.
///
/// # Safety
///
/// `Option<Self>` must keep what [`Shareable`] demands, with `__MEND_OPTION`.
#[diagnostic::on_unimplemented(
    message = "`Option<{Self}>` cannot live in memory that processes share",
    label = "an `Option` of this type cannot be shared in place",
    note = "in shared memory an `Option` holds a number, a `bool`, a `char`, arrays and tuples of numbers, or an enum \
            without fields that derives `mp::Shareable`; beside any other value keep a `bool` that says whether it is \
            there"
)]
pub unsafe trait Optional: Shareable {
    #[doc(hidden)]
    const __MEND_OPTION: Mend = Mend::Nothing;
}

/// Numbers and what is made of nothing else: every bit pattern is a value.
///
/// # Safety
///
/// That must be true.
pub unsafe trait AnyBits: Copy + Shareable {}

/// How a value is made valid after a writer was killed.
#[derive(Clone, Copy, Debug)]
pub enum Mend {
    /// It is.
    Nothing,
    /// By looking at its bytes.
    Leaf(unsafe fn(*mut u8)),
    /// Each at its offset.
    Fields(&'static [(usize, Mend)]),
    /// Each of `count`, which are `size` bytes apart.
    Array {
        /// How each is mended.
        item: &'static Mend,
        /// The size of each, in bytes.
        size: usize,
        /// How many there are.
        count: usize,
    },
}

impl Mend {
    /// Whether there is nothing to do.
    const fn is_nothing(&self) -> bool {
        match self {
            Mend::Nothing => true,
            Mend::Leaf(_) => false,
            Mend::Fields(fields) => {
                let mut index = 0;
                while index < fields.len() {
                    if !fields[index].1.is_nothing() {
                        return false;
                    }
                    index += 1;
                }
                true
            }
            Mend::Array { item, count, .. } => *count == 0 || item.is_nothing(),
        }
    }

    /// Mends what is at `place`.
    ///
    /// # Safety
    ///
    /// `place` holds what was a value of the type that this is of, and nobody else looks at it.
    pub(crate) unsafe fn apply(&self, place: *mut u8) {
        match self {
            Mend::Nothing => {}
            // SAFETY: as the caller vouches.
            Mend::Leaf(mend) => unsafe { mend(place) },
            Mend::Fields(fields) => {
                for (offset, mend) in *fields {
                    // SAFETY: a field lies within what it is a field of.
                    let field = unsafe { place.add(*offset) };
                    // SAFETY: as the caller vouches.
                    unsafe { mend.apply(field) };
                }
            }
            Mend::Array { item, size, count } => {
                if item.is_nothing() {
                    return;
                }
                for index in 0..*count {
                    // SAFETY: an element lies within its array.
                    let element = unsafe { place.add(index * size) };
                    // SAFETY: as the caller vouches.
                    unsafe { item.apply(element) };
                }
            }
        }
    }
}

/// What a lock or a handle can refer to: a [`Shareable`] value, or a slice of them.
///
/// # Safety
///
/// `from_parts` must give a pointer to what `layout` describes, and `mend` must make it valid.
pub unsafe trait Content: Send + 'static {
    /// Its size and alignment in bytes, if it has `len` elements; `None` if that is more than
    /// there can be, or if it has another number of elements.
    #[doc(hidden)]
    fn layout(len: usize) -> Option<(usize, usize)>;

    /// Points to the one at this address with `len` elements.
    #[doc(hidden)]
    fn from_parts(address: *mut u8, len: usize) -> *mut Self;

    /// # Safety
    ///
    /// As that of [`Mend::apply`].
    #[doc(hidden)]
    unsafe fn mend(content: *mut Self);
}

// SAFETY: it is one value, mended as its type says.
unsafe impl<T: Shareable> Content for T {
    fn layout(len: usize) -> Option<(usize, usize)> {
        (len == 1).then_some((size_of::<T>(), align_of::<T>()))
    }

    fn from_parts(address: *mut u8, _len: usize) -> *mut T {
        address.cast()
    }

    unsafe fn mend(content: *mut T) {
        // SAFETY: as the caller vouches.
        unsafe { T::__MEND.apply(content.cast()) };
    }
}

// SAFETY: its elements stand one after the other, each mended as its type says.
unsafe impl<T: Shareable> Content for [T] {
    fn layout(len: usize) -> Option<(usize, usize)> {
        let bytes = size_of::<T>().checked_mul(len)?;
        (bytes <= isize::MAX as usize).then_some((bytes, align_of::<T>()))
    }

    fn from_parts(address: *mut u8, len: usize) -> *mut [T] {
        ptr::slice_from_raw_parts_mut(address.cast(), len)
    }

    unsafe fn mend(content: *mut [T]) {
        let all = Mend::Array {
            item: &T::__MEND,
            size: size_of::<T>(),
            count: content.len(),
        };
        // SAFETY: as the caller vouches.
        unsafe { all.apply(content.cast()) };
    }
}

macro_rules! any_bits {
    ($($type:ty)*) => {$(
        // SAFETY: a number; every bit pattern is one.
        unsafe impl Shareable for $type {
            const __ZERO_IS_VALID: bool = true;
        }
        // SAFETY: as above.
        unsafe impl AnyBits for $type {}
        // SAFETY: `Option` tells `Some` from `None` by a tag of which one byte changes, and
        // whatever is behind it is a value.
        unsafe impl Optional for $type {}
    )*};
}

any_bits!(i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64);

macro_rules! by_itself {
    ($($type:ty)*) => {$(
        // SAFETY: it holds nothing, or atomic numbers, or one byte that a write changes at once.
        unsafe impl Shareable for $type {
            const __ZERO_IS_VALID: bool = true;
        }
    )*};
}

by_itself! {
    ()
    atomic::AtomicI8 atomic::AtomicI16 atomic::AtomicI32 atomic::AtomicI64 atomic::AtomicIsize
    atomic::AtomicU8 atomic::AtomicU16 atomic::AtomicU32 atomic::AtomicU64 atomic::AtomicUsize
    atomic::AtomicBool
    bool
}

// SAFETY: still one byte, with a third value for `None`.
unsafe impl Optional for bool {}

// SAFETY: four bytes, checked after a kill.
unsafe impl Shareable for char {
    const __MEND: Mend = Mend::Leaf(mend_char);
    const __ZERO_IS_VALID: bool = true;
}
// SAFETY: as `char`; `None` is kept as a number that is no `char`, the same in every `Option`.
unsafe impl Optional for char {
    const __MEND_OPTION: Mend = Mend::Leaf(mend_option_char);
}

unsafe fn mend_char(place: *mut u8) {
    let place = place.cast::<u32>();
    // SAFETY: `place` holds the four bytes of a `char`, aligned as one, and every bit pattern is a
    // `u32`.
    let bits = unsafe { place.read() };
    if char::from_u32(bits).is_none() {
        // SAFETY: as above.
        unsafe { place.write(char::REPLACEMENT_CHARACTER.into()) };
    }
}

unsafe fn mend_option_char(place: *mut u8) {
    // SAFETY: `Option<char>` has the size and the alignment of `char` (documented by std), and
    // every bit pattern is a `u32`.
    let bits = unsafe { place.cast::<u32>().read() };
    if char::from_u32(bits).is_none() {
        // SAFETY: as above; writing does not look at what was there.
        unsafe { place.cast::<Option<char>>().write(None) };
    }
}

macro_rules! non_zero {
    ($($type:ty)*) => {$(
        // SAFETY: checked after a kill.
        unsafe impl Shareable for NonZero<$type> {
            const __MEND: Mend = Mend::Leaf(|place| {
                // SAFETY: `place` holds a number of this type, aligned as one.
                let bits = unsafe { place.cast::<$type>().read() };
                if bits == 0 {
                    // SAFETY: as above.
                    unsafe { place.cast::<$type>().write(1) };
                }
            });
        }
        // SAFETY: zero, the one invalid number, is `None`.
        unsafe impl Optional for NonZero<$type> {}
    )*};
}

non_zero!(i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize);

// SAFETY: its elements stand one after the other.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {
    const __MEND: Mend = Mend::Array {
        item: &T::__MEND,
        size: size_of::<T>(),
        count: N,
    };
    const __ZERO_IS_VALID: bool = T::__ZERO_IS_VALID || N == 0;
}
// SAFETY: its elements are.
unsafe impl<T: AnyBits, const N: usize> AnyBits for [T; N] {}
// SAFETY: as for numbers.
unsafe impl<T: AnyBits, const N: usize> Optional for [T; N] {}

// SAFETY: what `Optional` says.
unsafe impl<T: Optional> Shareable for Option<T> {
    const __MEND: Mend = T::__MEND_OPTION;
}

// SAFETY: nothing is there.
unsafe impl<T: Send + 'static> Shareable for PhantomData<T> {
    const __ZERO_IS_VALID: bool = true;
}

// SAFETY: the same as what is in it.
unsafe impl<T: Shareable> Shareable for Wrapping<T> {
    const __MEND: Mend = T::__MEND;
    const __ZERO_IS_VALID: bool = T::__ZERO_IS_VALID;
}
// SAFETY: the same as what is in it.
unsafe impl<T: AnyBits> AnyBits for Wrapping<T> {}
// SAFETY: as for numbers.
unsafe impl<T: AnyBits> Optional for Wrapping<T> {}

// SAFETY: the same as what is in it, which is not dropped since it is `Copy`.
unsafe impl<T: Shareable + Copy> Shareable for Cell<T> {
    const __MEND: Mend = T::__MEND;
    const __ZERO_IS_VALID: bool = T::__ZERO_IS_VALID;
}

macro_rules! tuple {
    ($($name:ident $index:tt),*) => {
        // SAFETY: its fields are shareable, and each is mended where it stands.
        unsafe impl<$($name: Shareable),*> Shareable for ($($name,)*) {
            const __MEND: Mend = Mend::Fields(&[
                $((offset_of!(Self, $index), $name::__MEND)),*
            ]);
            const __ZERO_IS_VALID: bool = $($name::__ZERO_IS_VALID)&&*;
        }
        // SAFETY: its fields are.
        unsafe impl<$($name: AnyBits),*> AnyBits for ($($name,)*) {}
        // SAFETY: as for numbers.
        unsafe impl<$($name: AnyBits),*> Optional for ($($name,)*) {}
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);

#[cfg(test)]
mod tests {
    use super::*;

    fn mended<T: Shareable + Copy>(bits: &[u8]) -> T {
        let mut place = std::mem::MaybeUninit::<T>::zeroed();
        assert_eq!(bits.len(), size_of::<T>());
        // SAFETY: both are as long as T.
        unsafe { ptr::copy_nonoverlapping(bits.as_ptr(), place.as_mut_ptr().cast(), bits.len()) };
        // SAFETY: the place holds bytes of a T, and this is the only one who looks.
        unsafe { T::mend(place.as_mut_ptr()) };
        // SAFETY: that is what `mend` is for.
        unsafe { place.assume_init() }
    }

    #[test]
    fn torn_values_become_valid_ones() {
        assert_eq!(
            mended::<char>(&0xd800_u32.to_le_bytes()),
            char::REPLACEMENT_CHARACTER
        );
        assert_eq!(mended::<char>(&0x41_u32.to_le_bytes()), 'A');
        assert_eq!(mended::<Option<char>>(&0xdead_beef_u32.to_le_bytes()), None);
        assert_eq!(mended::<Option<char>>(&0x41_u32.to_le_bytes()), Some('A'));
        assert_eq!(mended::<NonZero<u64>>(&[0; 8]).get(), 1);
        assert_eq!(mended::<Option<NonZero<u64>>>(&[0; 8]), None);
        let torn = [0x41, 0xffff_ffff_u32].map(u32::to_le_bytes).concat();
        assert_eq!(
            mended::<[char; 2]>(&torn),
            ['A', char::REPLACEMENT_CHARACTER]
        );
        let pair = [7_u32, 0xd800].map(u32::to_le_bytes).concat();
        let at = offset_of!((u32, char), 0);
        assert_eq!(at, 0, "the test writes the fields in this order");
        assert_eq!(
            mended::<(u32, char)>(&pair),
            (7, char::REPLACEMENT_CHARACTER)
        );
    }

    #[test]
    fn what_needs_no_mending_is_not_looked_at() {
        assert!(<[(u64, [f64; 4]); 9]>::__MEND.is_nothing());
        assert!(!<[(u64, char); 9]>::__MEND.is_nothing());
    }
}
