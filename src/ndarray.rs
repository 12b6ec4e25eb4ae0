//! Shared memory as arrays of `ndarray`, without copying. With the feature `ndarray`.
//!
//! ```
//! use mp::ndarray::View as _;
//! use mp::prelude::*;
//!
//! const COLUMNS: usize = 100;
//!
//! /// Scales the rows of a part of a matrix to a sum of one.
//! #[mp::process_fn]
//! fn normalize(mut rows: ArrayChunk<f64>) -> Result<(), String> {
//!     let shape = (rows.len() / COLUMNS, COLUMNS);
//!     let mut rows = rows.view_as_mut(shape).map_err(|error| error.to_string())?;
//!     for mut row in rows.rows_mut() {
//!         let sum = row.sum();
//!         row /= sum;
//!     }
//!     Ok(())
//! }
//!
//! #[mp::main]
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let matrix = Array::from_fn(40 * COLUMNS, |index| index as f64)?;
//!     let results = Pool::new(2)?.map(normalize, matrix.split(4))?;
//!     results.into_iter().collect::<Result<(), String>>()?;
//!     let sum = mp::locked!(matrix => matrix.view_as((40, COLUMNS)).map(|m| m.sum()))??;
//!     assert!((sum - 40.0).abs() < 1e-9);
//!     Ok(())
//! }
//! ```

use ::ndarray::{ArrayView, ArrayViewMut, Dimension, ErrorKind, ShapeError, StrideShape};

/// Views of slices in any shape: of [`Shared<[T]>`](crate::Shared), of a guard of an
/// [`Array`](crate::Array), of an [`ArrayChunk`](crate::ArrayChunk), and of whatever else
/// dereferences to a slice.
///
/// A shape is what `ndarray` takes for one: `6`, `(2, 3)`, `[2, 3]`, and `(2, 3).f()` where the
/// columns come first in memory.
///
/// ```
/// use mp::ndarray::View as _;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let samples = mp::Shared::from_fn(6, |index| index as f64)?;
/// let matrix = samples.view_as((2, 3))?;
/// assert_eq!(matrix[[1, 0]], 3.0);
/// # Ok(())
/// # }
/// ```
pub trait View {
    /// What the elements are.
    type Item;

    /// All elements, in this shape.
    ///
    /// ```
    /// # use mp::ndarray::View as _;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let samples = mp::Shared::from_fn(6, |index| index as f64)?;
    /// assert_eq!(samples.view_as((2, 3))?[[1, 2]], 5.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the shape does not have as many elements, or has strides by which two of them would be
    /// one or some would be left out.
    fn view_as<S, D>(&self, shape: S) -> Result<ArrayView<'_, Self::Item, D>, ShapeError>
    where
        S: Into<StrideShape<D>>,
        D: Dimension;

    /// All elements, in this shape, to be changed.
    ///
    /// ```
    /// # use mp::ndarray::View as _;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let array: mp::Array<f64> = mp::Array::zeroed(6)?;
    /// for mut chunk in array.split(1) {
    ///     chunk.view_as_mut((2, 3))?[[1, 2]] = 5.0;
    /// }
    /// assert_eq!(array.lock().map_err(mp::Error::from)?[5], 5.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As those of [`view_as`](View::view_as).
    fn view_as_mut<S, D>(
        &mut self,
        shape: S,
    ) -> Result<ArrayViewMut<'_, Self::Item, D>, ShapeError>
    where
        S: Into<StrideShape<D>>,
        D: Dimension;
}

impl<T> View for [T] {
    type Item = T;

    fn view_as<S, D>(&self, shape: S) -> Result<ArrayView<'_, T, D>, ShapeError>
    where
        S: Into<StrideShape<D>>,
        D: Dimension,
    {
        ArrayView::from_shape(of_all(shape.into(), self.len())?, self)
    }

    fn view_as_mut<S, D>(&mut self, shape: S) -> Result<ArrayViewMut<'_, T, D>, ShapeError>
    where
        S: Into<StrideShape<D>>,
        D: Dimension,
    {
        ArrayViewMut::from_shape(of_all(shape.into(), self.len())?, self)
    }
}

/// `ndarray` takes a slice that is too long, and leaves its end out.
fn of_all<D: Dimension>(shape: StrideShape<D>, len: usize) -> Result<StrideShape<D>, ShapeError> {
    // The product may be too large for a number; `from_shape` reports that.
    let size = shape
        .raw_dim()
        .slice()
        .iter()
        .try_fold(1_usize, |size, &n| size.checked_mul(n));
    match size {
        Some(size) if size != len => Err(ShapeError::from_kind(ErrorKind::IncompatibleShape)),
        _ => Ok(shape),
    }
}
