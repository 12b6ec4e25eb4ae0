//! Typed memory that processes share.

mod shareable;

pub use shareable::{AnyBits, Content, Mend, Optional, Shareable};
