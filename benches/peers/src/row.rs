//! The rows of the table: one kind of work each, and what is asked of `mp` there.

mod calls;
mod compute;
mod handles;
mod idle;
mod large;
mod tasks;

use crate::Failure;
use crate::contest::Contest;
use crate::settings::{Placement, Settings};

/// What `mp` is to reach.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    Below(f64),
    /// So many times what this one takes.
    Times(f64, &'static str),
    /// So many seconds more than this one.
    Beyond(f64, &'static str),
}

/// One kind of work.
pub(crate) struct Row {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) target: Target,
    pub(crate) placement: Placement,
    /// Starts all who do it.
    pub(crate) enter: fn(&mut Contest, &Settings) -> Result<(), Failure>,
}

/// In the order of the table.
pub(crate) const ROWS: [Row; 13] = [
    Row {
        name: "round_trip",
        title: "one call there and back, one after the other",
        target: Target::Below(1e-6),
        placement: Placement::Anywhere,
        enter: calls::round_trip,
    },
    Row {
        name: "asleep_two_cores",
        title: "one call to workers asleep, on another core",
        target: Target::Times(1.6, calls::FUTEX),
        placement: Placement::TwoCores,
        enter: calls::asleep,
    },
    Row {
        name: "asleep_one_core",
        title: "one call to workers asleep, all on one core",
        target: Target::Times(1.6, calls::FUTEX),
        placement: Placement::OneCore,
        enter: calls::asleep,
    },
    Row {
        name: "handle",
        title: "one call with a handle to shared memory",
        target: Target::Beyond(25e-6, handles::WITHOUT),
        placement: Placement::Anywhere,
        enter: handles::with_a_handle,
    },
    Row {
        name: "map",
        title: "map of 100,000 squares, each",
        target: Target::Below(15e-9),
        placement: Placement::Anywhere,
        enter: tasks::map,
    },
    Row {
        name: "one_by_one",
        title: "a message for each square, in any order, each",
        target: Target::Below(100e-9),
        placement: Placement::Anywhere,
        enter: tasks::one_by_one,
    },
    Row {
        name: "submit",
        title: "submit many, join each of them, each",
        target: Target::Below(400e-9),
        placement: Placement::Anywhere,
        enter: tasks::submit,
    },
    Row {
        name: "bytes_16",
        title: "16 MB of bytes there and back",
        target: Target::Below(5e-3),
        placement: Placement::Anywhere,
        enter: large::bytes_16,
    },
    Row {
        name: "bytes_40",
        title: "40 MB of bytes there and back",
        target: Target::Below(22e-3),
        placement: Placement::Anywhere,
        enter: large::bytes_40,
    },
    Row {
        name: "vector",
        title: "40 MB of f64 there and back",
        target: Target::Below(22e-3),
        placement: Placement::Anywhere,
        enter: large::vector,
    },
    Row {
        name: "bytes_in",
        title: "40 MB to a parameter &[u8], a number back",
        target: Target::Below(3e-3),
        placement: Placement::Anywhere,
        enter: large::bytes_in,
    },
    Row {
        name: "compute",
        title: "computing on two cores",
        target: Target::Times(1.02, compute::TWO_THREADS),
        placement: Placement::Anywhere,
        enter: compute::compute,
    },
    Row {
        name: "idle",
        title: "an idle pool: processor time in 10 s",
        // Less than a tick of the kernel's clock.
        target: Target::Below(10e-3),
        placement: Placement::Anywhere,
        enter: idle::idle,
    },
];
