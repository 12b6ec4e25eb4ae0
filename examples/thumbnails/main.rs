//! Thumbnails of the pictures in a folder and those below it: `cargo run --release --example thumbnails
//! DIR OUT`, or `thumbnails OUT`, which makes some pictures first, `OUT/originals`, and then
//! `OUT/thumbnails` of them.
//!
//! Pictures may come from anybody, so each is decoded in a worker that has so much time and memory and
//! writes nothing. What is no picture, is damaged, or is more than a worker is given is reported, and
//! the rest goes on.
//!
//! - What decides is what a file has in it, not its name. PNG and JPEG are understood; of half a JPEG,
//!   there is half a thumbnail.
//! - The thumbnail of `DIR/a/b.jpg` is `OUT/a/b.jpg.png`: no two of a folder have one name. What is
//!   there already is left alone, so a second run makes what is new, and nothing of anybody's is
//!   overwritten.
//! - Symbolic links are not followed, and `OUT` is passed over where it is within `DIR`.

#[path = "../ending/mod.rs"]
mod ending;
mod originals;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind::{AlreadyExists, InvalidFilename, NotADirectory};
use std::io::{self, BufReader, Cursor, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, time::Duration};

use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader};
use mp::prelude::*;
use nix::fcntl::OFlag;

use ending::{Outcome, WrongArguments, exit_code};

const USAGE: &str = "thumbnails [DIR] OUT";
const SIDE: u32 = 160;
const TIME_LIMIT: Duration = Duration::from_secs(10);
const MEMORY_LIMIT_BYTES: u64 = 512 << 20;

/// A thumbnail as PNG, and how large the picture is.
type Thumbnail = (Vec<u8>, (u32, u32));

#[mp::process_fn]
fn shrink(path: OsString) -> Result<Thumbnail, String> {
    decode(&path).map_err(|error| error.to_string())
}

fn decode(path: &OsString) -> Outcome<Thumbnail> {
    // What was a file when it was listed may be something else by now.
    let as_it_is = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(as_it_is)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err("not a file any more".into());
    }
    let mut reader = ImageReader::new(BufReader::new(file)).with_guessed_format()?;
    if reader.format().is_none() {
        return Err("not a picture".into());
    }
    reader.no_limits(); // The crate has some; here the limit of the process is to be seen.
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    let size = (picture.width(), picture.height());
    if size.0.max(size.1) > SIDE {
        picture = picture.thumbnail(SIDE, SIDE);
    }
    let mut png = Vec::new();
    picture.write_to(&mut Cursor::new(&mut png), ImageFormat::Png)?;
    Ok((png, size))
}

/// What is to be done, and what was found on the way to it.
struct Work {
    from: PathBuf,
    to: PathBuf,
    /// Paths within `from`.
    files: Vec<PathBuf>,
    passed_over: Vec<(PathBuf, String)>,
}

impl Work {
    fn new(from: &Path, to: &Path) -> Outcome<Work> {
        let named = |path: &Path, error| format!("{path:?}: {error}");
        let found = from
            .canonicalize()
            .and_then(|from| fs::read_dir(&from).map(|_| from));
        let from = found.map_err(|error| named(from, error))?;
        let created = fs::create_dir_all(to).and_then(|()| to.canonicalize());
        let to = created.map_err(|error| named(to, error))?;
        if from == to {
            return Err("DIR and OUT are the same".into());
        }
        let mut work = Work {
            from,
            to,
            files: Vec::new(),
            passed_over: Vec::new(),
        };
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            if let Err(error) = work.list(&folder, &mut folders) {
                work.passed_over.push((folder, error.to_string()));
            }
        }
        work.files.sort();
        Ok(work)
    }

    fn list(&mut self, folder: &Path, folders: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(self.from.join(folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_file() {
                self.files.push(path);
            } else if kind.is_dir() && entry.path() != self.to {
                folders.push(path);
            } else if !kind.is_dir() {
                let is_link = kind.is_symlink();
                let reason = if is_link {
                    "a symbolic link"
                } else {
                    "neither file nor folder"
                };
                self.passed_over.push((path, reason.to_owned()));
            }
        }
        Ok(())
    }

    fn place_of(&self, file: &Path) -> PathBuf {
        let mut place = self.to.join(file).into_os_string();
        place.push(".png");
        place.into()
    }
}

/// Writes all of it, or leaves nothing.
fn write_new(place: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    let written = File::create_new(place)?.write_all(bytes);
    written.or_else(|error| fs::remove_file(place).and(Err(error)))
}

fn run(from: &Path, to: &Path) -> Outcome {
    let work = Work::new(from, to)?;
    let mut out = io::stdout();
    for (path, reason) in &work.passed_over {
        writeln!(out, "{path:?}: passed over: {reason}")?;
    }
    let is_new = |file: &&PathBuf| work.place_of(file).symlink_metadata().is_err();
    let new = Vec::from_iter(work.files.iter().filter(is_new));
    let paths = Vec::from_iter(new.iter().map(|file| work.from.join(file).into_os_string()));
    let limited = Pool::builder().memory_limit(MEMORY_LIMIT_BYTES);
    let pool = limited.task_timeout(TIME_LIMIT).build()?;
    let mut made = 0;
    for (file, result) in new.iter().zip(pool.imap(shrink, paths)) {
        let result = result.unwrap_or_else(|error| Err(format!("{:?}: {error}", error.kind())));
        let (png, (width, height)) = match result {
            Ok(made) => made,
            Err(reason) => {
                writeln!(out, "{file:?}: {reason}")?;
                continue;
            }
        };
        let place = work.place_of(file);
        match write_new(&place, &png) {
            Ok(()) => {
                made += 1;
                writeln!(out, "{file:?}: {width} x {height}, now {} bytes", png.len())?;
            }
            // Its name cannot be had; anything else would be so for all of them.
            Err(error)
                if [AlreadyExists, NotADirectory, InvalidFilename].contains(&error.kind()) =>
            {
                writeln!(out, "{file:?}: {place:?}: {error}")?;
            }
            Err(error) => return Err(format!("{place:?}: {error}").into()),
        }
    }
    let (failed, old) = (new.len() - made, work.files.len() - new.len());
    writeln!(
        out,
        "{made} thumbnails made, {failed} files without, {old} there already"
    )?;
    pool.join()?;
    Ok(())
}

fn start() -> Outcome {
    let paths = Vec::from_iter(env::args_os().skip(1).map(PathBuf::from));
    let is_option = |path: &PathBuf| path.as_os_str().as_encoded_bytes().starts_with(b"-");
    match &paths[..] {
        paths if paths.iter().any(is_option) => Err(WrongArguments.into()),
        [from, to] => run(from, to),
        [to] => {
            let from = to.join("originals");
            originals::make(&from).map_err(|error| format!("{from:?}: {error}"))?;
            run(&from, &to.join("thumbnails"))
        }
        _ => Err(WrongArguments.into()),
    }
}

#[mp::main]
fn main() -> ExitCode {
    exit_code(USAGE, start())
}
