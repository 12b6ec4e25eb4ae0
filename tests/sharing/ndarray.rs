//! Shared memory as arrays of `ndarray`.

use std::time::Duration;

use crate::watchdog::within;
use mp::ndarray::View as _;
use mp::prelude::*;
use ndarray::{Axis, ErrorKind, ShapeBuilder as _, array};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const LIMIT: Duration = Duration::from_secs(60);
const COLUMNS: usize = 5;

/// Writes to each element its row and column in the whole.
#[mp::process_fn]
fn number(mut chunk: ArrayChunk<u64>) -> Result<(usize, usize), String> {
    let (first_row, address) = (chunk.start() / COLUMNS, chunk.as_ptr());
    let shape = (chunk.len() / COLUMNS, COLUMNS);
    let mut rows = chunk
        .view_as_mut(shape)
        .map_err(|error| error.to_string())?;
    if rows.as_ptr() != address {
        return Err("it was copied".to_owned());
    }
    for ((row, column), item) in rows.indexed_iter_mut() {
        *item = ((first_row + row) * 100 + column) as u64;
    }
    Ok(rows.dim())
}

#[mp::test]
fn workers_view_chunks_as_matrices() -> Outcome {
    within(LIMIT, || {
        let array = Array::<u64>::zeroed(8 * COLUMNS)?;
        let shapes = Pool::new(2)?.map(number, array.split(4))?;
        assert_eq!(shapes, vec![Ok((2, COLUMNS)); 4]);
        let guard = array.lock().map_err(Error::from)?;
        let matrix = guard.view_as((8, COLUMNS))?;
        assert_eq!(matrix[[7, 4]], 704);
        assert_eq!(
            matrix.index_axis(Axis(0), 3),
            array![300, 301, 302, 303, 304]
        );
        Ok(())
    })
}

#[mp::process_fn]
fn trace(samples: Shared<[f64]>, side: usize) -> Result<f64, String> {
    let matrix = samples
        .view_as((side, side))
        .map_err(|error| error.to_string())?;
    Ok(matrix.diag().sum())
}

#[mp::test]
fn a_shared_slice_is_viewed_where_it_lies() -> Outcome {
    within(LIMIT, || {
        let samples = Shared::from_fn(9, |index| index as f64)?;
        assert_eq!(samples.view_as(9)?.as_ptr(), samples.as_ptr());
        let sum = mp::spawn!(trace(samples.clone(), 3))?.join()?;
        assert_eq!(sum, Ok(12.0));
        let wrong = mp::spawn!(trace(samples, 2))?.join()?;
        assert!(wrong.is_err());
        Ok(())
    })
}

#[test]
fn shapes_of_any_kind_hold_every_element() -> Outcome {
    let items: Vec<u8> = (0..24).collect();
    assert_eq!(items.view_as([2, 3, 4])?[[1, 2, 3]], 23);
    assert_eq!(items.view_as(vec![4, 6])?[[0, 5]], 5);
    assert_eq!(items.view_as((4, 6).f())?[[0, 5]], 20);
    assert_eq!(items[..0].view_as((0, 7))?.len(), 0);
    Ok(())
}

#[test]
fn a_shape_of_more_or_fewer_elements_is_refused() {
    let mut items = [0_u8; 24];
    for shape in [
        (4, 5),
        (5, 5),
        (0, 24),
        (usize::MAX, usize::MAX),
        (1 << 63, 2),
    ] {
        assert!(items.view_as(shape).is_err(), "{shape:?}");
        assert!(items.view_as_mut(shape).is_err(), "{shape:?}");
    }
    let kind = items.view_as((4, 5)).map_err(|error| error.kind()).err();
    assert_eq!(kind, Some(ErrorKind::IncompatibleShape));
    // Twelve places, each for two elements; and gaps.
    assert!(items.view_as_mut((2, 12).strides((0, 1))).is_err());
    assert!(items.view_as((4, 6).strides((12, 1))).is_err());
}
