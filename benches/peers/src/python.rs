//! A Python interpreter with one of its pools, which does as many operations as it is told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::Failure;

pub(crate) struct Python {
    process: Child,
    /// Closed before the process is waited for.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    name: String,
}

impl Python {
    /// Comes back when its workers are there.
    pub(crate) fn start(pool: &str, work: &str, size: usize) -> Result<Python, Failure> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/contestant.py");
        let mut process = Command::new("python3")
            .arg(script)
            .args([pool, work, &size.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("python3 does not start ({error})"))?;
        let input = process.stdin.take();
        let output = process.stdout.take().ok_or("it has no output")?;
        let mut python = Python {
            process,
            input,
            output: BufReader::new(output),
            name: String::new(),
        };
        python.name = python.line()?;
        Ok(python)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn turn(&mut self, operations: usize) -> Result<Duration, Failure> {
        let input = self.input.as_mut().ok_or("its input is closed")?;
        writeln!(input, "{operations}")?;
        Ok(Duration::try_from_secs_f64(self.line()?.parse()?)?)
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err("python3 failed; see what it wrote".into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It ends its pool, and itself, at the end of its input.
        self.input = None;
        let _ = self.process.wait();
    }
}
