//! One kind of work, and all who do it, in turns.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::python::Python;
use crate::settings::{Placement, Settings};
use crate::{Failure, place, process_tree};

/// What sort of contestant it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Mp,
    PythonPool,
    PythonFutures,
    Procspawn,
    /// Threads of one process: what the work costs if no process has to be reached.
    Threads,
    /// System calls and memory alone: what the machine asks for the same.
    Raw,
}

impl Kind {
    pub(crate) const ALL: [Kind; 6] = [
        Kind::Mp,
        Kind::PythonPool,
        Kind::PythonFutures,
        Kind::Procspawn,
        Kind::Threads,
        Kind::Raw,
    ];

    /// Another library's processes.
    pub(crate) fn is_peer(self) -> bool {
        matches!(
            self,
            Kind::PythonPool | Kind::PythonFutures | Kind::Procspawn
        )
    }

    /// What no library of processes gets below.
    pub(crate) fn is_limit(self) -> bool {
        matches!(self, Kind::Threads | Kind::Raw)
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// How many operations a contestant does in a turn.
#[derive(Clone, Copy)]
pub(crate) enum Operations {
    Exactly(usize),
    /// As many as fill the time of a turn, and no more than these.
    UpTo(usize),
}

/// Who does it. A turn is told how many operations to do, and tells how long they took.
pub(crate) struct Contestant {
    kind: Kind,
    name: String,
    operations: Operations,
    turn: Box<dyn FnMut(usize) -> Result<Duration, Failure>>,
    /// The process that makes the calls, if it is not this one.
    program: Option<u32>,
}

impl Contestant {
    pub(crate) fn timed(
        kind: Kind,
        name: impl Into<String>,
        operations: Operations,
        turn: impl FnMut(usize) -> Result<Duration, Failure> + 'static,
    ) -> Contestant {
        Contestant {
            kind,
            name: name.into(),
            operations,
            turn: Box::new(turn),
            program: None,
        }
    }

    /// One whose turn is nothing but its operations.
    pub(crate) fn new(
        kind: Kind,
        name: impl Into<String>,
        operations: Operations,
        mut turn: impl FnMut(usize) -> Result<(), Failure> + 'static,
    ) -> Contestant {
        Contestant::timed(kind, name, operations, move |count| {
            let start = Instant::now();
            turn(count)?;
            Ok(start.elapsed())
        })
    }

    /// One whose operation is a call.
    pub(crate) fn calls<T>(
        kind: Kind,
        name: impl Into<String>,
        operations: Operations,
        mut call: impl FnMut() -> Result<T, Failure> + 'static,
    ) -> Contestant {
        Contestant::new(kind, name, operations, move |count| {
            (0..count).try_for_each(|_| call().map(|result| drop(black_box(result))))
        })
    }
}

/// Python's pools, as `contestant.py` calls them.
const PYTHONS: [(Kind, &str); 2] = [(Kind::PythonPool, "pool"), (Kind::PythonFutures, "futures")];

/// Those who do one kind of work, and what is to be said about them.
#[derive(Default)]
pub(crate) struct Contest {
    contestants: Vec<Contestant>,
    notes: Vec<String>,
    /// How many rounds there are, if their number is the work's own, and not that of the settings.
    rounds: Option<usize>,
}

impl Contest {
    /// For turns that take long and need no preparation: so many of them, and no first one.
    pub(crate) fn limit_rounds(&mut self, rounds: usize) {
        self.rounds = Some(rounds);
    }

    pub(crate) fn enter(&mut self, contestant: Contestant) {
        self.contestants.push(contestant);
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Both of Python's pools; a note, where there is no Python.
    pub(crate) fn enter_python(&mut self, work: &str, size: usize, operations: Operations) {
        for (kind, pool) in PYTHONS {
            match Python::start(pool, work, size) {
                Ok(mut python) => {
                    let (program, name) = (python.id(), python.name().to_owned());
                    let contestant =
                        Contestant::timed(kind, name, operations, move |count| python.turn(count));
                    self.contestants.push(Contestant {
                        program: Some(program),
                        ..contestant
                    });
                }
                Err(error) => self.note(format!("no figures of Python's {pool}: {error}")),
            }
        }
    }

    /// Both of Python's pools while they do nothing: `turn` is told their program.
    pub(crate) fn enter_idle_python(
        &mut self,
        turn: impl Fn(u32) -> Result<Duration, Failure> + Clone + 'static,
    ) {
        for (kind, pool) in PYTHONS {
            match Python::start(pool, "idle", 0) {
                Ok(python) => {
                    let (name, turn) = (python.name().to_owned(), turn.clone());
                    let once = Operations::Exactly(1);
                    self.enter(Contestant::timed(kind, name, once, move |_| {
                        turn(python.id())
                    }));
                }
                Err(error) => self.note(format!("no figures of Python's {pool}: {error}")),
            }
        }
    }

    /// All turns. A first one, which counts for nothing, fills caches and tells how many operations
    /// a turn needs.
    pub(crate) fn run(
        mut self,
        settings: &Settings,
        placement: Placement,
    ) -> Result<Outcome, Failure> {
        let mut counts = Vec::new();
        for contestant in &mut self.contestants {
            counts.push(match self.rounds {
                Some(_) => 1,
                None => operations_of_a_turn(contestant, settings.turn())?,
            });
        }
        if placement == Placement::TwoCores && !self.place_apart()? {
            self.note("there is one processor only: all of it ran there");
        }
        let mut samples = vec![Vec::new(); counts.len()];
        for _ in 0..self.rounds.unwrap_or(settings.rounds()) {
            for (index, contestant) in self.contestants.iter_mut().enumerate() {
                let took = (contestant.turn)(counts[index])?.as_secs_f64();
                samples[index].push(took / counts[index] as f64);
            }
        }
        let figures = self.contestants.into_iter().zip(samples);
        Ok(Outcome {
            figures: figures
                .map(|(contestant, samples)| Figure {
                    kind: contestant.kind,
                    name: contestant.name,
                    samples,
                })
                .collect(),
            notes: self.notes,
        })
    }

    /// Has whoever calls run on one processor, and all who answer on another.
    fn place_apart(&self) -> Result<bool, Failure> {
        let [here, there, ..] = place::processors()?[..] else {
            return Ok(false);
        };
        let mut programs: Vec<u32> = (self.contestants.iter())
            .filter_map(|contestant| contestant.program)
            .collect();
        programs.push(std::process::id());
        for &program in &programs {
            process_tree::stay_on(program, here)?;
            for process in process_tree::descendants(program, &programs)? {
                process_tree::stay_on(process, there)?;
            }
        }
        Ok(true)
    }
}

/// Doubles the operations until they take half a turn.
fn operations_of_a_turn(contestant: &mut Contestant, turn: Duration) -> Result<usize, Failure> {
    let most = match contestant.operations {
        Operations::Exactly(count) => {
            (contestant.turn)(count)?;
            return Ok(count);
        }
        Operations::UpTo(most) => most,
    };
    let mut count = most.min(8);
    while (contestant.turn)(count)? < turn / 2 && count < most {
        count = (count * 2).min(most);
    }
    Ok(count)
}

/// What a contestant took for one operation, in seconds, turn by turn.
pub(crate) struct Figure {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) samples: Vec<f64>,
}

/// What is known after a contest. As text it goes from the process of the contest to the bench.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) figures: Vec<Figure>,
    pub(crate) notes: Vec<String>,
}

const FIGURE: &str = "figure";
const NOTE: &str = "note";

impl Outcome {
    pub(crate) fn parse(text: &str) -> Outcome {
        let mut outcome = Outcome::default();
        for line in text.lines() {
            let fields: Vec<_> = line.split('\t').collect();
            match fields[..] {
                [FIGURE, kind, name, samples] => {
                    let named = |known: &Kind| format!("{known:?}") == kind;
                    let samples = samples.split(' ').filter_map(|sample| sample.parse().ok());
                    if let Some(kind) = Kind::ALL.into_iter().find(named) {
                        outcome.figures.push(Figure {
                            kind,
                            name: name.to_owned(),
                            samples: samples.collect(),
                        });
                    }
                }
                [NOTE, note] => outcome.notes.push(note.to_owned()),
                _ => {}
            }
        }
        outcome
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Figure {
            kind,
            name,
            samples,
        } in &self.figures
        {
            let samples: Vec<_> = samples.iter().map(f64::to_string).collect();
            writeln!(f, "{FIGURE}\t{kind:?}\t{name}\t{}", samples.join(" "))?;
        }
        for note in &self.notes {
            writeln!(f, "{NOTE}\t{}", note.replace(['\t', '\n'], " "))?;
        }
        Ok(())
    }
}
