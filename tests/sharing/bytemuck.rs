//! Plain old data in shared memory, where unsafe code is forbidden.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::watchdog::within;
use bytemuck::Zeroable as _;
use mp::Pod;
use mp::prelude::*;

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Pixel {
    rgba: [u8; 4],
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
struct Meters<T>(T);

mp::shareable_pod!(Pixel, Meters<f64>);

/// As if it were another crate's: nothing here makes it shareable.
mod foreign {
    #[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
    #[repr(C)]
    pub(crate) struct Vec3 {
        pub(crate) x: f32,
        pub(crate) y: f32,
        pub(crate) z: f32,
    }
}
use foreign::Vec3;

mp::shared! {
    static LAST: Option<Pixel> = None;
}

#[mp::process_fn]
fn brighten(mut pixels: ArrayChunk<Pixel>, by: u8) {
    for pixel in pixels.iter_mut() {
        pixel.rgba = pixel.rgba.map(|part| part.saturating_add(by));
    }
    LAST.set(pixels.last().copied())
        .expect("nobody dies with the lock");
}

#[mp::test]
fn a_type_of_ones_own_lives_in_arrays_values_options_and_statics() -> Result<(), Error> {
    within(LIMIT, || {
        let image: Array<Pixel> = Array::zeroed(1000)?;
        let chunks = image.split(2).into_iter().map(|chunk| (chunk, 7));
        Pool::new(2)?.starmap(brighten, chunks)?;
        let bright = Pixel { rgba: [7; 4] };
        assert!(image.lock()?.iter().all(|pixel| *pixel == bright));
        assert_eq!(LAST.get()?, Some(bright));
        let height = mp::shared!(Meters(1.0))?;
        height.update(|height| height.0 += 0.5)?;
        assert_eq!(height.get()?.0, 1.5);
        Ok(())
    })
}

#[mp::process_fn]
fn length(points: Shared<[Pod<Vec3>]>, index: usize) -> f32 {
    let Vec3 { x, y, z } = *points[index];
    (x * x + y * y + z * z).sqrt()
}

#[mp::test]
fn a_type_of_another_crate_is_wrapped() -> Result<(), Error> {
    within(LIMIT, || {
        let points = [
            Vec3::zeroed(),
            Vec3 {
                x: 2.0,
                y: 3.0,
                z: 6.0,
            },
        ]
        .map(Pod);
        let points = Shared::from_slice(&points)?;
        assert_eq!(mp::spawn!(length(points, 1))?.join()?, 7.0);
        let middle = mp::shared!(Pod(Vec3::default()))?;
        middle.lock()?.x = 1.0;
        assert_eq!(
            middle.get()?.0,
            Vec3 {
                x: 1.0,
                ..Vec3::default()
            }
        );
        Ok(())
    })
}
