//! Process functions by name and by number.
//!
//! `#[process_fn]` submits each function to `inventory`. Sorted by name they are the catalogue, and
//! a function's place in it is its number on the wire: both ends are the same binary, and the
//! fingerprint that a worker sends first makes sure of it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::shm::bulk::Bulk;
use crate::sync::statics;
use crate::wire::{self, Apart, DecodeError, Decoder, EncodeError, Encoder, Handles};

/// A function that can run in another process: what `#[mp::process_fn]` makes of a function.
///
/// The function itself becomes a value of a unit type of its name, which implements this trait and
/// dereferences to the function, so that calling it stays an ordinary call.
///
/// ```
/// #[mp::process_fn]
/// fn square(x: i64) -> i64 {
///     x * x
/// }
///
/// assert_eq!(square(5), 25);
/// assert!(<square as mp::ProcessFn>::NAME.ends_with("::square"));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process function",
    label = "not a process function",
    note = "write `#[mp::process_fn]` above the function, and hand it over by its name"
)]
pub trait ProcessFn: Copy + Send + Sync + 'static {
    /// What the caller sends: an owned tuple, `(i64,)` or `(String, u32)`.
    type Args: Send + 'static;
    /// What comes back.
    type Output: Send + 'static;
    /// The name it is found by: `crate::module::function`, or the `name` option of the attribute.
    const NAME: &'static str;

    #[doc(hidden)]
    fn __function() -> &'static Function;

    #[doc(hidden)]
    fn __encode(args: &Self::Args, to: &mut Encoder) -> Result<(), EncodeError>;

    #[doc(hidden)]
    fn __decode(from: &mut Decoder<'_>) -> Result<Self::Output, DecodeError>;
}

/// A process function as the runtime knows it.
#[derive(Debug)]
pub struct Function {
    /// The name it is found by.
    pub name: &'static str,
    /// Its types, as they are written.
    pub signature: &'static str,
    /// Where it stands.
    pub file: &'static str,
    /// The line there, from 1.
    pub line: u32,
    /// The column there, from 1.
    pub column: u32,
    /// How long one call may take in a pool.
    pub timeout: Option<Duration>,
    /// How often a pool tries again after a death or a timeout.
    pub retries: Option<u32>,
    /// Runs all that is left of some items: decodes the arguments, calls the function, encodes the
    /// result.
    pub run: fn(&mut Items<'_, '_>),
}

/// What `inventory` collects.
#[derive(Debug)]
pub struct Registered(pub &'static Function);

inventory::collect!(Registered);

/// The items of a call, on the worker's side.
pub struct Items<'i, 'm> {
    source: &'i mut dyn Source<'m>,
    call: &'i mut Call<'m>,
}

/// Where items come from, and where their results go.
pub(crate) trait Source<'m> {
    /// Ends the item in `call`, if it has a result; then makes it the next one. Tells whether there
    /// is one.
    fn next(&mut self, call: &mut Call<'m>) -> bool;

    /// Ends the item in `call`, which came to no result.
    fn failed(&mut self, call: &mut Call<'m>, error: CallError);
}

impl<'i, 'm> Items<'i, 'm> {
    pub(crate) fn new(source: &'i mut dyn Source<'m>, call: &'i mut Call<'m>) -> Items<'i, 'm> {
        Items { source, call }
    }

    /// Calls `body` for each. One loop for all, where the types are known: for short functions the
    /// way from one item to the next is what counts.
    #[inline]
    pub fn each(&mut self, body: impl Fn(&mut Call<'m>) -> Result<(), CallError>) {
        while self.source.next(self.call) {
            match body(self.call) {
                Ok(()) => self.call.has_result = true,
                Err(error) => self.source.failed(self.call, error),
            }
        }
    }
}

/// One item, on the worker's side.
#[derive(Debug)]
pub struct Call<'m> {
    input: &'m [u8],
    bulks: &'m [Bulk],
    handles: Option<Arc<Handles>>,
    /// Empty, or the result.
    output: Encoder,
    has_result: bool,
    /// Whether an `Err` that it returns is a failure and no result.
    is_initializer: bool,
}

impl std::fmt::Debug for Items<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Items")
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}

/// Why a call came to no result, when it did not panic.
#[derive(Debug)]
pub enum CallError {
    /// The arguments could not be decoded.
    Decode(DecodeError),
    /// The result could not be encoded.
    Encode(EncodeError),
    /// It is an initializer that returned an `Err`, which says this.
    Refused(String),
    /// There is no such function, as this says.
    NoFunction(String),
}

impl<'m> Call<'m> {
    /// None yet; of those to come this lies apart. Results are written into `output`. That of an
    /// initializer fails if the function returns an `Err`.
    pub(crate) fn new(bulks: &'m [Bulk], output: Encoder, is_initializer: bool) -> Call<'m> {
        Call {
            input: &[],
            bulks,
            handles: None,
            output,
            has_result: false,
            is_initializer,
        }
    }

    /// From now on it is the item with these arguments. What it was before has come to no result, or
    /// that was taken.
    #[inline]
    pub(crate) fn begin(&mut self, input: &'m [u8], handles: Option<Arc<Handles>>) {
        (self.input, self.handles) = (input, handles);
    }

    /// The result, if there is one, when everything else of the item was dropped. Whoever asks
    /// empties it.
    #[inline]
    pub(crate) fn result(&mut self) -> Option<Result<&mut Encoder, EncodeError>> {
        if !std::mem::take(&mut self.has_result) {
            return None;
        }
        let loans = Handles::check_loans(self.output.loans());
        Some(loans.map(|()| &mut self.output))
    }

    /// Has an empty `output` for the next result.
    pub(crate) fn renew(&mut self, output: Encoder) {
        self.has_result = false;
        self.output = output;
    }

    pub(crate) fn into_output(self) -> Encoder {
        self.output
    }

    /// Reads the arguments, once; they may borrow from the message.
    ///
    /// # Errors
    ///
    /// If the bytes are not such arguments.
    #[inline]
    pub fn decode<A>(
        &mut self,
        read: impl FnOnce(&mut Decoder<'m>) -> Result<A, DecodeError>,
    ) -> Result<A, CallError> {
        let handles = self.handles.take();
        wire::decode(
            self.input,
            Apart::Trusted(self.bulks),
            handles.as_deref(),
            read,
        )
        .map_err(CallError::Decode)
    }

    /// Calls the function.
    ///
    /// # Errors
    ///
    /// None of its own.
    #[inline]
    pub fn invoke<R>(&mut self, body: impl FnOnce() -> R) -> Result<R, CallError> {
        Ok(body())
    }

    /// Looks at the result, where an `Err` is a failure.
    ///
    /// # Errors
    ///
    /// If it is one, with what `failure` says of it.
    #[inline]
    pub fn check(&self, failure: impl FnOnce() -> Option<String>) -> Result<(), CallError> {
        match self.is_initializer {
            true => failure().map_or(Ok(()), |reason| Err(CallError::Refused(reason))),
            false => Ok(()),
        }
    }

    /// Writes the result.
    ///
    /// # Errors
    ///
    /// If it cannot be encoded.
    #[inline]
    pub fn finish(
        &mut self,
        write: impl FnOnce(&mut Encoder) -> Result<(), EncodeError>,
    ) -> Result<(), CallError> {
        write(&mut self.output)
            .and_then(|()| self.output.end_item())
            .map_err(CallError::Encode)
    }
}

/// What a function has returned, whose `failure` is what its `Err` says, if it is one. Method
/// resolution tells apart what types say, as with the [lanes](crate::wire::Lane):
/// `(&&&Returned(&output)).failure()` finds the first of [`Displays`], [`Debugs`], [`Fails`] and
/// [`Succeeds`] that there is for the type.
#[derive(Debug)]
pub struct Returned<'o, T>(pub &'o T);

/// A result whose error says what it is.
pub trait Displays {
    /// What the error says.
    fn failure(&self) -> Option<String>;
}

impl<T, E: std::fmt::Display> Displays for &&&Returned<'_, Result<T, E>> {
    fn failure(&self) -> Option<String> {
        self.0.as_ref().err().map(ToString::to_string)
    }
}

/// A result whose error can be printed.
pub trait Debugs {
    /// What the error looks like.
    fn failure(&self) -> Option<String>;
}

impl<T, E: std::fmt::Debug> Debugs for &&Returned<'_, Result<T, E>> {
    fn failure(&self) -> Option<String> {
        self.0.as_ref().err().map(|error| format!("{error:?}"))
    }
}

/// A result.
pub trait Fails {
    /// That there is an error.
    fn failure(&self) -> Option<String>;
}

impl<T, E> Fails for &Returned<'_, Result<T, E>> {
    fn failure(&self) -> Option<String> {
        let says = || "one that says nothing of itself".to_owned();
        self.0.as_ref().err().map(|_| says())
    }
}

/// Anything else.
pub trait Succeeds {
    /// Nothing.
    fn failure(&self) -> Option<String>;
}

impl<T> Succeeds for Returned<'_, T> {
    fn failure(&self) -> Option<String> {
        None
    }
}

/// All process functions of the program, sorted by name.
#[derive(Debug)]
pub(crate) struct Catalogue {
    functions: Vec<&'static Function>,
    fingerprint: u64,
}

impl Catalogue {
    /// The catalogue of this program.
    ///
    /// # Errors
    ///
    /// If two functions have one name.
    pub(crate) fn get() -> Result<&'static Catalogue, Error> {
        static CATALOGUE: OnceLock<Result<Catalogue, Error>> = OnceLock::new();
        let registered = || {
            inventory::iter::<Registered>
                .into_iter()
                .map(|entry| entry.0)
        };
        CATALOGUE
            .get_or_init(|| Catalogue::of(registered().collect()))
            .as_ref()
            .map_err(Clone::clone)
    }

    fn of(mut functions: Vec<&'static Function>) -> Result<Catalogue, Error> {
        functions.sort_by_key(|function| (function.name, function.file, function.line));
        let twice = functions
            .windows(2)
            .find(|pair| pair[0].name == pair[1].name);
        if let Some([one, other]) = twice {
            return Err(Error::new(
                ErrorKind::Spawn,
                format!(
                    "two process functions have the name `{}`: {}:{}:{} and {}:{}:{}; give one of \
                     them another with `#[mp::process_fn(name = \"...\")]`",
                    one.name, one.file, one.line, one.column, other.file, other.line, other.column,
                ),
            )
            .with_function(one.name));
        }
        let fingerprint = fingerprint(&functions, statics::describe());
        Ok(Catalogue {
            functions,
            fingerprint,
        })
    }

    /// The function of this number.
    pub(crate) fn function(&self, number: u32) -> Option<&'static Function> {
        self.functions.get(number as usize).copied()
    }

    /// The number of a function of this program.
    pub(crate) fn number(&self, function: &Function) -> Option<u32> {
        let place = self
            .functions
            .binary_search_by_key(&function.name, |entry| entry.name)
            .ok()?;
        u32::try_from(place).ok()
    }

    /// Tells binaries apart that would not understand each other.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub(crate) fn len(&self) -> usize {
        self.functions.len()
    }
}

/// FNV-1a, 64 bits (draft-eastlake-fnv), over the version, every name and signature, and the
/// statics.
fn fingerprint(functions: &[&Function], statics: impl Iterator<Item = String>) -> u64 {
    let texts = functions
        .iter()
        .flat_map(|function| [function.name, function.signature])
        .map(str::to_owned);
    std::iter::once(env!("CARGO_PKG_VERSION").to_owned())
        .chain(texts)
        .chain(statics)
        .flat_map(|text| text.into_bytes().into_iter().chain([0xff]))
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &'static str, line: u32) -> &'static Function {
        Box::leak(Box::new(Function {
            name,
            signature: "()",
            file: "src/jobs.rs",
            line,
            column: 1,
            timeout: None,
            retries: None,
            run: |_| (),
        }))
    }

    #[test]
    fn a_function_is_found_by_its_number() {
        let (a, b) = (function("a", 1), function("b", 2));
        let catalogue = Catalogue::of(vec![b, a]).expect("the names differ");
        assert_eq!(
            (catalogue.number(a), catalogue.number(b)),
            (Some(0), Some(1))
        );
        assert_eq!(
            catalogue.function(1).map(|function| function.name),
            Some("b")
        );
        assert!(catalogue.function(2).is_none());
    }

    #[test]
    fn two_functions_of_one_name_are_reported_with_both_places() {
        let error = Catalogue::of(vec![function("a", 1), function("b", 2), function("a", 3)])
            .expect_err("two are called `a`");
        let text = error.to_string();
        assert!(
            text.contains("src/jobs.rs:1:1") && text.contains("src/jobs.rs:3:1"),
            "{text}"
        );
    }

    #[test]
    fn another_function_or_static_changes_the_fingerprint() {
        let (a, b) = (function("a", 1), function("b", 2));
        let none = std::iter::empty::<String>;
        assert_ne!(fingerprint(&[a], none()), fingerprint(&[a, b], none()));
        let one = || std::iter::once("HITS 24 8".to_owned());
        assert_ne!(fingerprint(&[a], none()), fingerprint(&[a], one()));
    }
}
