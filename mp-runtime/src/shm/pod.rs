//! Types of other crates of which every bit pattern is a value.

use std::ops::{Deref, DerefMut};

use bytemuck::Zeroable;

use super::shareable::{AnyBits, Optional, Shareable};

/// A value of another crate's type in memory that processes share, if that type is `bytemuck::Pod`:
/// plain old data, of which every bit pattern is a value. (For a type of your own there is
/// `mp::shareable_pod!`.) It dereferences to what is in it. With the feature `bytemuck`.
///
/// ```
/// use mp::{Array, Pod};
///
/// mod other_crate {
///     #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
///     #[repr(C)]
///     pub struct Pixel {
///         pub rgba: [u8; 4],
///     }
/// }
///
/// # fn main() -> Result<(), mp::Error> {
/// let image: Array<Pod<other_crate::Pixel>> = Array::zeroed(640 * 480)?;
/// image.lock()?[7].rgba[3] = 255;
/// # assert_eq!(image.lock()?[7].rgba, [0, 0, 0, 255]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Pod<T>(pub T);

impl<T> Deref for Pod<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Pod<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> From<T> for Pod<T> {
    fn from(value: T) -> Pod<T> {
        Pod(value)
    }
}

// SAFETY: transparent, around what is.
unsafe impl<T: Zeroable> Zeroable for Pod<T> {}
// SAFETY: as above.
unsafe impl<T: bytemuck::Pod> bytemuck::Pod for Pod<T> {}

// SAFETY: `bytemuck::Pod` has neither pointers nor anything to drop, and every bit pattern of it is
// a value, zero and any mixture of two included.
unsafe impl<T: bytemuck::Pod + Send> Shareable for Pod<T> {
    const __ZERO_IS_VALID: bool = true;
}
// SAFETY: as above.
unsafe impl<T: bytemuck::Pod + Send> AnyBits for Pod<T> {}
// SAFETY: as for numbers.
unsafe impl<T: bytemuck::Pod + Send> Optional for Pod<T> {}
