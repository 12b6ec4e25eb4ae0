//! The macros of `multiproc`: [`macro@process_fn`], [`macro@main`], [`macro@test`], [`spawn!`],
//! [`derive@Shareable`], [`shared!`] and [`locked!`].
//!
//! Use them through the library, as `mp::process_fn` and so on: what they generate names its types
//! by the path `::mp`, and means nothing without it. The generated code has no unsafe operation, and
//! compiles in a crate that forbids unsafe code; `Shareable` is an unsafe trait, whose derive checks
//! what an `unsafe impl` promises.
//!
//! Each macro is a pipeline. It parses its input, checks it, and then either expands it or, if
//! there were errors, reports all of them and expands to a stand-in that keeps the rest of the
//! program free of errors which are only consequences.

#![forbid(unsafe_code)]

mod errors;
mod attribute;
mod place;
mod process_fn;
mod spawn;
mod shareable;
mod shared;
mod locked;
mod entry;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Makes a function one that other processes can run.
///
/// The function becomes a struct without fields and its only value, both of the function's name. The
/// struct implements `mp::ProcessFn`, and the value dereferences to the function: `square(5)` is
/// still an ordinary call, and `square` is what to hand to `mp::spawn!` and `Pool::map`. It keeps its
/// visibility, its docs and its attributes, works in any module and in the body of another function,
/// and may call or spawn itself.
///
/// ```
/// #[mp::process_fn]
/// pub fn square(x: i64) -> i64 {
///     x * x
/// }
///
/// #[mp::process_fn(timeout = "2s", retries = 2, name = "imaging.resize")]
/// fn resize(path: &str, px: u32) -> Result<Vec<u8>, String> {
///     // ...
/// #   Err(format!("{path}, {px}"))
/// }
///
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// let nine = square(3);
/// let image = mp::spawn!(resize("cat.png".to_owned(), 64))?.join()?;
/// # assert_eq!((nine, image), (9, Err("cat.png, 64".to_owned())));
/// # Ok(())
/// # }
/// ```
///
/// # Options
///
/// | option | meaning | without it |
/// | --- | --- | --- |
/// | `timeout = "2s"` | how long one call may take | no limit of its own |
/// | `retries = 2` | how often a call is tried again | none of its own |
/// | `name = "imaging.resize"` | what the function is found by | `crate::module::resize` |
///
/// A timeout is a number, which may have a decimal part, and one of the units `ns`, `us`, `ms`, `s`,
/// `m` and `h`. A call that takes longer is ended together with its worker. A call is tried again
/// after its worker died or ran out of time, never after a plain panic.
///
/// The name must be unique in the program. Two functions of one name in the bodies of two functions
/// of one module share their path, so give one of them the option.
///
/// # Parameters
///
/// There may be up to twelve, and patterns such as `mut x: T` and `(a, b): (T, U)` work.
///
/// | parameter | what the caller sends | what the worker does |
/// | --- | --- | --- |
/// | `T` | `T` | decodes it |
/// | `&str`, `&[u8]` | `String`, `Vec<u8>` | borrows the bytes it received: no copy |
/// | `&[T]`, `&T` | `Vec<T>`, `T` | decodes it and lends it |
///
/// A type must implement serde's `Serialize` and `DeserializeOwned`, or be one of the handles of
/// `mp`. What the function returns is decoded by the caller, so it is owned; a `Result` is an
/// ordinary value.
///
/// As the value has the function's name, no local variable or parameter in scope of it can have that
/// name: `let square = 4;` would be a pattern that matches the value. And as the types of the
/// parameters and of the result are those of a trait, a function that is `pub` cannot have private
/// ones.
///
/// # Errors
///
/// It does not compile to put the macro on anything but a function that stands by itself, outside
/// `impl` and `trait`; on one that is generic, `async`, `unsafe`, `extern` or variadic; on one that
/// has a `where` clause, `self`, a `&mut` parameter, a reference within another type, `impl Trait`,
/// more than twelve parameters or a borrowed result; to name a type that serde cannot carry; and to
/// write an option that is unknown or ill-formed. Every error stands at the tokens it is about and
/// says what to write instead.
#[proc_macro_attribute]
pub fn process_fn(arguments: TokenStream, item: TokenStream) -> TokenStream {
    process_fn::process_fn(arguments.into(), item.into()).into()
}

/// Makes this binary one whose processes can be workers: runs `mp::init` before `main`.
///
/// A worker is the current binary, started again. In a worker `mp::init` does not return, so
/// nothing that `main` does happens twice. `main` keeps its return type and its attributes.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// #[mp::main]
/// fn main() -> Result<(), mp::Error> {
///     let nine = mp::spawn!(square(3))?.join()?;
///     println!("{nine}");
///     Ok(())
/// }
/// ```
///
/// Above the attribute of an async runtime it runs before the runtime is built:
///
/// ```text
/// #[mp::main]
/// #[tokio::main]
/// async fn main() { /* ... */ }
/// ```
///
/// # Errors
///
/// It does not compile to give the macro arguments, to put it on anything but the function `main`,
/// on one that has parameters, or on an `async fn` that no further attribute makes an ordinary one.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    entry::main(arguments.into(), item.into()).into()
}

/// A test whose processes start this test binary again, and find their way to this very test.
///
/// It stands for `#[test]`, and passes `#[should_panic]`, `#[ignore]` and a `Result` return
/// through.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// #[mp::test]
/// fn squares() -> Result<(), mp::Error> {
///     assert_eq!(mp::spawn!(square(3))?.join()?, 9);
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// It does not compile to give the macro arguments, to put it on anything but a function, on an
/// `async fn`, on one that has parameters, or on one that has a `#[test]` as well.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    entry::test(arguments.into(), item.into()).into()
}

/// Starts a process that makes one call of a process function: `mp::spawn!(jobs::square(12))`.
///
/// It is short for `mp::Builder::new().spawn(jobs::square, (12,))`, and gives what that gives, a
/// `Result<mp::Process<_>, mp::Error>`. The arguments are evaluated here and sent; the call runs
/// there.
///
/// ```
/// # #[mp::process_fn]
/// # fn square(x: i64) -> i64 { x * x }
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// let process: mp::Process<i64> = mp::spawn!(square(12))?;
/// assert_eq!(process.join()?, 144);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// It does not compile to give the macro anything but one call of a function by its path.
#[proc_macro]
pub fn spawn(call: TokenStream) -> TokenStream {
    spawn::spawn(call.into()).into()
}

/// Lets a type live in memory that processes share: derives `mp::Shareable`.
///
/// It goes on a struct whose fields are all shareable, and on an enum without fields. There are no
/// pointers in either and nothing to drop, and the layout is the same in every process of the
/// program.
///
/// ```
/// use mp::{Shareable, Shared};
/// use mp::sync::Mutex;
///
/// #[derive(Shareable, Clone, Copy, PartialEq, Debug)]
/// enum Phase {
///     Loading,
///     Running,
/// }
///
/// #[derive(Shareable)]
/// struct Progress {
///     phase: Phase,
///     done: [u64; 4],
///     last: Option<u32>,
/// }
///
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// let progress = Shared::new(Mutex::new(Progress {
///     phase: Phase::Loading,
///     done: [0; 4],
///     last: None,
/// }))?;
/// let phase = mp::locked!(progress => {
///     progress.phase = Phase::Running;
///     progress.done[2] += 1;
///     progress.phase
/// })?;
/// # assert_eq!(phase, Phase::Running);
/// # Ok(())
/// # }
/// ```
///
/// A generic struct is shareable when its type parameters are. An enum without fields is shareable
/// in an `Option` too.
///
/// # Errors
///
/// It does not compile to derive the trait for a type with a field that is not shareable, such as a
/// reference, a `String`, a `Vec` or std's `Mutex`; for a union; for an enum with fields, without
/// variants, or of more than one byte, which a process that is killed could leave half written; for
/// a type with a lifetime parameter; for a packed struct; and for one that implements `Drop`. The
/// error stands at the field, variant or parameter it is about.
#[proc_macro_derive(Shareable)]
pub fn shareable(item: TokenStream) -> TokenStream {
    shareable::shareable(item.into()).into()
}

/// Makes a value that processes share behind a lock, or declares statics that are such values.
///
/// `shared!(value)` is short for `mp::Shared::new(mp::sync::Mutex::new(value))`, and gives what that
/// gives, a `Result<mp::Value<_>, mp::Error>`.
///
/// `shared! { static NAME: Type = value; }` declares statics, each of which dereferences to a
/// `mp::sync::Mutex<Type>` and is one and the same in every process of the program. The value is a
/// constant expression, as that of any static. A static keeps its visibility, its docs and its
/// attributes, and can stand in any module and in the body of a function.
///
/// ```
/// mp::shared! {
///     /// Requests served.
///     pub static HITS: u64 = 0;
///     static HISTOGRAM: [u32; 16] = [0; 16];
/// }
///
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// let total = mp::shared!(0.0f64)?;
/// total.set(1.5)?;
/// mp::locked!(hits = HITS, histogram = HISTOGRAM => {
///     *hits += 1;
///     histogram[3] += 1;
/// })?;
/// # assert_eq!((total.get()?, HITS.get()?, HISTOGRAM.get()?[3]), (1.5, 1, 1));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// It does not compile to give the macro more than one value, to declare anything but a `static`
/// with a type and a value, to declare a `static mut`, and to share a type that is not
/// `mp::Shareable`.
#[proc_macro]
pub fn shared(input: TokenStream) -> TokenStream {
    shared::shared(input.into()).into()
}

/// Locks any number of guarded values, runs a block, and unlocks them.
///
/// The locks are taken in one order, whatever order they are written in, so that no two sections
/// wait for each other. A variable is named as it is, and in the block that name is its guard; what
/// is no variable, a static or a field for instance, is given a name: `name = expression`. A guarded
/// value is what [`shared!`] makes, and any other `mp::Shared<Mutex<T>>`, `mp::Array<T>` and
/// `mp::sync::Mutex<T>`.
///
/// The macro gives a `Result` of the block's value. That is an `mp::Error` if a lock cannot be had:
/// if it is poisoned, or if this thread holds it already, as it does when two names stand for one
/// lock. Then the block does not run, and no lock stays taken.
///
/// ```
/// mp::shared! {
///     static HITS: u64 = 0;
/// }
///
/// struct Stats {
///     total: mp::Value<f64>,
/// }
///
/// impl Stats {
///     fn add(&self, sample: f64) -> Result<u64, mp::Error> {
///         mp::locked!(total = self.total, hits = HITS => {
///             *total += sample;
///             *hits += 1;
///             *hits
///         })
///     }
/// }
///
/// # #[mp::main]
/// # fn main() -> Result<(), mp::Error> {
/// let total = mp::shared!(0.0f64)?;
/// mp::locked!(total => *total += 0.5)?;
/// # let stats = Stats { total };
/// # assert_eq!((stats.add(1.0)?, stats.total.get()?), (1, 1.5));
/// # Ok(())
/// # }
/// ```
///
/// The block is a part of the function it stands in: `?`, `return`, `break` and `continue` leave it
/// and unlock. What the expressions before the `=>` make lives until the block is done.
///
/// # Errors
///
/// It does not compile to lock nothing, to name anything but a variable as it is, to use a name
/// twice, to write `mut`, as the guards are mutable anyway, and to lock what has no lock.
#[proc_macro]
pub fn locked(input: TokenStream) -> TokenStream {
    locked::locked(input.into()).into()
}
