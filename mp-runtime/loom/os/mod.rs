//! What the primitives need of the operating system, as loom can model it.

pub(crate) mod clock;
pub(crate) mod futex;
pub(crate) mod identity;
pub(crate) mod limit;
pub(crate) mod shared_fd;
pub(crate) mod shared_page;
