//! Draws the Mandelbrot set as a PNG: `cargo run --release --example mandelbrot [WIDTH HEIGHT] [FILE]`,
//! 960 by 640 pixels in `mandelbrot.png` if nothing else is said. Workers write the pixels where they
//! lie, in an array that is split among them. With `--features indicatif` a bar on the terminal shows
//! how far they are.

mod ending;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::{env, fs, time::Instant};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder as _};
use mp::prelude::*;

use ending::{Outcome, WrongArguments, exit_code};

const USAGE: &str = "mandelbrot [WIDTH HEIGHT] [FILE]";
const STEPS: u32 = 2000;
/// Into so many parts the picture is split at most. Some take much longer than others.
const PARTS: usize = 256;

type Pixel = [u8; 3];

/// Width and height, in pixels.
type Size = (u32, u32);

/// How far it is from a pixel to the next. All of the set is in the picture, whatever its shape.
fn spacing((width, height): Size) -> f64 {
    (2.6 / f64::from(width)).max(2.4 / f64::from(height))
}

/// Draws a part of the picture, from its pixel number `start` on, and counts those in the set.
#[mp::process_fn]
fn draw(mut part: ArrayChunk<Pixel>, start: u64, size: Size) -> u64 {
    let mut inside = 0;
    for (number, pixel) in (start..).zip(part.iter_mut()) {
        let (column, row) = (number % u64::from(size.0), number / u64::from(size.0));
        let at = |place: u64, length: u32| place as f64 + 0.5 - f64::from(length) / 2.0;
        let x = at(column, size.0) * spacing(size) - 0.75;
        let y = at(row, size.1) * spacing(size);
        match escape(x, y) {
            Some(steps) => *pixel = colour(steps),
            None => inside += 1, // and black, as it is
        }
    }
    inside
}

/// How many steps it takes a point to get away, with a fraction, unless it never does.
fn escape(x: f64, y: f64) -> Option<f64> {
    let (mut re, mut im) = (0.0, 0.0);
    for step in 0..STEPS {
        let (re2, im2) = (re * re, im * im);
        if re2 + im2 > 256.0 {
            return Some(f64::from(step) - f64::ln(re2 + im2).log2());
        }
        (re, im) = (re2 - im2 + x, 2.0 * re * im + y);
    }
    None
}

/// From blue to white to brown and back, slower the longer it took, and in steps that the eye hardly
/// sees: the file is half as large with them.
fn colour(steps: f64) -> Pixel {
    let phase = ((steps.max(0.0) + 1.0).ln() * 30.0).round() / 16.0;
    [3.6, 4.1, 4.7].map(|shift| (127.5 + 127.5 * f64::sin(phase + shift)) as u8)
}

fn arguments() -> Outcome<(Size, OsString)> {
    let arguments = Vec::from_iter(env::args_os().skip(1));
    let (size, file) = match &arguments[..] {
        [] => (None, None),
        [file] => (None, Some(file)),
        [width, height] => (Some((width, height)), None),
        [width, height, file] => (Some((width, height)), Some(file)),
        _ => return Err(WrongArguments.into()),
    };
    let number = |text: &OsString| text.to_str()?.parse().ok().filter(|&n: &u32| n > 0);
    let size = match size {
        Some((width, height)) => number(width).zip(number(height)).ok_or(WrongArguments)?,
        None => (960, 640),
    };
    let file = file.cloned().unwrap_or("mandelbrot.png".into());
    // A height was forgotten, or it is an option.
    if number(&file).is_some() || file.as_encoded_bytes().starts_with(b"-") {
        return Err(WrongArguments.into());
    }
    Ok((size, file))
}

fn run() -> Outcome {
    let (size, file) = arguments()?;
    let pool = Pool::with_default_workers()?;
    let begin = Instant::now();
    let picture: Array<Pixel> = Array::zeroed(size.0 as usize * size.1 as usize)?;
    let mut start = 0;
    let parts = picture.split(picture.len().min(PARTS));
    let options = TaskOptions::new();
    // It draws on a terminal alone, and is gone in the end.
    #[cfg(feature = "indicatif")]
    let options = options.progress(indicatif::ProgressBar::new(parts.len() as u64));
    let parts = parts.into_iter().map(|part| {
        let first = start;
        start += part.len() as u64;
        (part, first, size)
    });
    let inside = pool.with(options).starmap(draw, parts)?;
    let inside: u64 = inside.iter().sum();

    // No worker has a part any more, so nobody waits.
    let picture = picture.lock().map_err(Error::from)?;
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::Adaptive)
        .write_image(
            picture.as_flattened(),
            size.0,
            size.1,
            ExtendedColorType::Rgb8,
        )?;
    let written = fs::write(&file, png);
    written.map_err(|error| format!("{}: {error}", file.display()))?;
    let area = inside as f64 * spacing(size).powi(2);
    let (workers, took) = (mp::cpu_count(), begin.elapsed());
    let mut out = io::stdout();
    writeln!(out, "the set has an area of {area:.3}")?;
    writeln!(out, "{}: {workers} workers, {took:.1?}", file.display())?;
    Ok(())
}

#[mp::main]
fn main() -> ExitCode {
    exit_code(USAGE, run())
}
