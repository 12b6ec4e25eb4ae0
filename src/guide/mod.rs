#![doc = include_str!("guide.md")]

// For the links of the pages, which name things as programs do.
#[cfg(doc)]
use crate as mp;

#[doc = include_str!("why.md")]
pub mod why {}
#[doc = include_str!("first_program.md")]
pub mod first_program {}
#[doc = include_str!("pools.md")]
pub mod pools {}
#[doc = include_str!("shared_memory.md")]
pub mod shared_memory {}
#[doc = include_str!("channels.md")]
pub mod channels {}
#[doc = include_str!("errors.md")]
pub mod errors {}
#[doc = include_str!("testing.md")]
pub mod testing {}
#[doc = include_str!("debugging.md")]
pub mod debugging {}
#[doc = include_str!("deployment.md")]
pub mod deployment {}
#[doc = include_str!("costs.md")]
pub mod costs {}
#[doc = include_str!("python.md")]
pub mod python {}
#[doc = include_str!("from_threads.md")]
pub mod from_threads {}
#[doc = include_str!("from_rayon.md")]
pub mod from_rayon {}
#[doc = include_str!("from_tokio.md")]
pub mod from_tokio {}
#[doc = include_str!("from_procspawn.md")]
pub mod from_procspawn {}
