//! How the bench is to run.

use std::path::PathBuf;
use std::time::Duration;

use crate::Failure;

/// On which processors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Wherever the kernel puts everybody.
    Anywhere,
    OneCore,
    /// Who calls on one, who answers on another.
    TwoCores,
}

/// What the command line says.
#[derive(Default)]
pub(crate) struct Settings {
    /// Small and short: only to see that it works.
    pub(crate) is_quick: bool,
    pub(crate) svg: Option<PathBuf>,
    /// The file whose table is to be replaced.
    pub(crate) readme: Option<PathBuf>,
    /// The rows asked for; all, if there are none.
    pub(crate) rows: Vec<String>,
    /// The row that this process is to run, and tell the figures of.
    pub(crate) contest: Option<String>,
}

/// What a process that runs one row is told first.
pub(crate) const CONTEST: &str = "--contest";
pub(crate) const QUICK: &str = "--quick";

impl Settings {
    pub(crate) fn of(arguments: impl IntoIterator<Item = String>) -> Result<Settings, Failure> {
        let mut settings = Settings::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || (arguments.next()).ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                QUICK => settings.is_quick = true,
                "--svg" => settings.svg = Some(value()?.into()),
                "--readme" => settings.readme = Some(value()?.into()),
                CONTEST => settings.contest = Some(value()?),
                option if option.starts_with('-') => {
                    return Err(format!("unknown option {option}").into());
                }
                _ => settings.rows.push(argument),
            }
        }
        Ok(settings)
    }

    /// `full`, or `quick` in a quick run.
    pub(crate) fn size(&self, full: usize, quick: usize) -> usize {
        if self.is_quick { quick } else { full }
    }

    pub(crate) fn rounds(&self) -> usize {
        self.size(15, 3)
    }

    /// What a turn takes, where its operations are short enough to choose their number.
    pub(crate) fn turn(&self) -> Duration {
        Duration::from_millis(self.size(40, 2) as u64)
    }
}
