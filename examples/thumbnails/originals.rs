//! Some pictures, and what else there is in such folders.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::symlink;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};

use crate::ending::Outcome;

/// Makes the folder, unless it is there.
pub(crate) fn make(folder: &Path) -> Outcome {
    if folder.exists() {
        return Ok(());
    }
    let encode = |picture: &RgbImage, format| {
        let mut bytes = Vec::new();
        let written = picture.write_to(&mut Cursor::new(&mut bytes), format);
        written.map(|()| bytes)
    };
    let waves = RgbImage::from_fn(640, 480, |x, y| {
        let wave = |length: f32| (127.5 + 127.5 * ((x + 2 * y) as f32 / length).sin()) as u8;
        Rgb([40.0, 55.0, 70.0].map(wave))
    });
    let rings = RgbImage::from_fn(300, 900, |x, y| {
        let distance = f32::hypot(x as f32 - 150.0, y as f32 - 450.0);
        Rgb([20.0, 50.0, 90.0]
            .map(|length| (distance / length).cos().abs() * 255.0)
            .map(|c| c as u8))
    });
    let waves = encode(&waves, ImageFormat::Png)?;
    let rings = encode(&rings, ImageFormat::Jpeg)?;
    // It says that it is larger than any memory, and its checksum says that this is true.
    let mut bomb = waves.clone();
    bomb[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let sum = crc32(&bomb[12..29]).to_be_bytes();
    bomb[29..33].copy_from_slice(&sum);
    fs::create_dir_all(folder.join("more"))?;
    let files = [
        ("bomb.png", &bomb[..]),
        ("notes.txt", b"to be sorted"),
        ("truncated.jpg", &rings[..rings.len() / 2]),
        ("truncated.png", &waves[..waves.len() / 2]),
        ("waves.png", &waves),
        ("more/a JPEG.png", &rings),
    ];
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes)?;
    }
    symlink("waves.png", folder.join("link.png"))?;
    Ok(())
}

/// That of PNG's chunks (its specification, annex D), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
    let all = (bytes.iter()).fold(!0, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), step));
    !all
}
