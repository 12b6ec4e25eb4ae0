//! `shared!`, `locked!` and `derive(Shareable)`: all they promise to accept, and what it does then.
#![forbid(unsafe_code)]
#![deny(missing_docs, warnings, clippy::all)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::watchdog::within;
use mp::sync::Mutex;
use mp::{Error, ErrorKind, Shareable, Shared, Value};

const LIMIT: Duration = Duration::from_secs(60);

mod statics {
    //! One file's statics do not count another's.

    mp::shared! {
        /// Requests served.
        pub static HITS: u64 = 0;

        pub(super) static HISTOGRAM: [u32; 4] = [0; 4];
        #[allow(non_upper_case_globals)]
        pub(crate) static lowerCase: u8 = 1 + 2;

        /// Absent.
        #[cfg(any())]
        pub static ABSENT: Unknown = unknown();

        #[cfg(all())]
        #[cfg_attr(all(), doc = "Present.")]
        #[doc(alias = "here")]
        pub static PRESENT: (u8, bool) = (6 + 1, true);

        #[cfg(not(all()))]
        pub static PRESENT: u8 = 0;

        #[deprecated(note = "use `PRESENT`")]
        pub static OLD: i32 = -1;

        #[expect(non_upper_case_globals)]
        pub static r#match: char = 'm';
        static PRIVATE: Option<u16> = None;
    }

    mp::shared! {}

    pub(super) fn private() -> Result<Option<u16>, mp::Error> {
        PRIVATE.get()
    }

    pub(super) mod below {
        mp::shared! { pub(in super::super) static HITS: u64 = super::START; }
    }

    const START: u64 = 10;
}

#[mp::test]
fn a_static_is_declared_as_any_other() -> Result<(), Error> {
    within(LIMIT, || {
        statics::HITS.set(3)?;
        assert_eq!(statics::HITS.get()?, 3);
        assert_eq!(statics::below::HITS.get()?, 10);
        assert_eq!(statics::lowerCase.get()?, 3);
        assert_eq!(statics::PRESENT.get()?, (7, true));
        assert_eq!(statics::r#match.get()?, 'm');
        assert_eq!(statics::private()?, None);
        assert_eq!(statics::HISTOGRAM.get()?, [0; 4]);
        #[allow(deprecated)]
        let old = statics::OLD.get()?;
        assert_eq!(old, -1);
        Ok(())
    })
}

fn count_calls() -> Result<u32, Error> {
    mp::shared! {
        static CALLS: u32 = 0;
    }
    mp::locked!(calls = CALLS => {
        *calls += 1;
        *calls
    })
}

fn count_other_calls() -> Result<u32, Error> {
    mp::shared!(
        static CALLS: u32 = 100;
    );
    mp::locked!(calls = CALLS => {
        *calls += 1;
        *calls
    })
}

#[mp::test]
fn statics_in_two_functions_may_have_one_name() -> Result<(), Error> {
    within(LIMIT, || {
        assert_eq!((count_calls()?, count_calls()?), (1, 2));
        assert_eq!(count_other_calls()?, 101);
        assert_eq!(count_calls()?, 3);
        Ok(())
    })
}

macro_rules! counter {
    ($name:ident: $ty:ty = $start:expr) => {
        mp::shared! { static $name: $ty = $start; }
    };
}

counter!(MADE_BY_A_MACRO: u64 = 5 + 1);

#[mp::test]
fn statics_and_sections_come_out_of_macros() -> Result<(), Error> {
    macro_rules! increment {
        ($counter:expr) => {
            mp::locked!(counter = $counter => *counter += 1)
        };
    }
    macro_rules! locked_as {
        ($value:ident, $body:expr) => {
            mp::locked!($value => $body)
        };
    }
    within(LIMIT, || {
        increment!(MADE_BY_A_MACRO)?;
        let value = mp::shared!(1)?;
        increment!(value)?;
        locked_as!(value, *value *= 2)?;
        assert_eq!((MADE_BY_A_MACRO.get()?, value.get()?), (7, 4));
        Ok(())
    })
}

#[mp::test]
fn a_value_is_any_expression() -> Result<(), Error> {
    within(LIMIT, || {
        let total: Value<f64> = mp::shared!(0.5)?;
        let sum: Value<u64> = mp::shared!((1..=4).sum(),)?;
        let block = mp::shared!({
            let half = 21;
            half * 2
        })?;
        let constant = mp::shared!(const { 1_u8 + 1 })?;
        assert_eq!((total.get()?, sum.get()?), (0.5, 10));
        assert_eq!((block.get()?, constant.get()?), (42, 2));
        Ok(())
    })
}

#[mp::test]
fn one_value_is_locked() -> Result<(), Error> {
    within(LIMIT, || {
        let total = mp::shared!(1.0_f64)?;
        mp::locked!(total => { *total += 0.5; })?;
        let doubled = mp::locked!(total => *total * 2.0)?;
        assert_eq!(doubled, 3.0);
        let by_reference = &total;
        mp::locked!(by_reference => *by_reference = 0.0)?;
        assert_eq!(total.get()?, 0.0);
        Ok(())
    })
}

#[mp::test]
fn several_values_are_locked_in_any_order() -> Result<(), Error> {
    within(LIMIT, || {
        let a = mp::shared!(1_u8)?;
        let b = mp::shared!(20_u32)?;
        let c = mp::shared!([300_u64])?;
        for _ in 0..3 {
            mp::locked!(a, b => {
                *a += 1;
                *b += u32::from(*a);
            })?;
            mp::locked!(b, a => *a += u8::try_from(*b % 2).unwrap_or(0))?;
            mp::locked!(a, b, c, => c[0] += u64::from(*a) + u64::from(*b))?;
            mp::locked!(c, b, a => { c[0] -= u64::from(*a) + u64::from(*b); },)?;
            mp::locked!(b, c, a => (*a, *b, *c))?;
        }
        let fourth = Mutex::new('d');
        let all = mp::locked!(c, fourth, a, b => (*fourth, c[0], *a < 10, *b > 20))?;
        assert_eq!(all, ('d', 300, true, true));
        assert!(!a.is_locked() && !b.is_locked() && !c.is_locked() && !fourth.is_locked());
        Ok(())
    })
}

#[mp::test]
fn two_names_for_one_lock_are_an_error_and_leave_nothing_locked() -> Result<(), Error> {
    within(LIMIT, || {
        let value = mp::shared!(1)?;
        let other = mp::shared!(1)?;
        let mut ran = false;
        let twice = mp::locked!(value, again = value => {
            ran = true;
            *value + *again
        });
        let among_others = mp::locked!(value, other, again = value => *value + *other + *again);
        for error in [twice, among_others].map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::WouldDeadlock);
        }
        assert!(!ran && !value.is_locked() && !other.is_locked());
        Ok(())
    })
}

struct Stats {
    total: Value<f64>,
    hits: (Value<u64>, Value<u64>),
    rows: Vec<Value<u64>>,
}

impl Stats {
    fn new() -> Result<Self, Error> {
        Ok(Self {
            total: mp::shared!(0.0)?,
            hits: (mp::shared!(0)?, mp::shared!(0)?),
            rows: vec![mp::shared!(0)?, mp::shared!(0)?],
        })
    }

    fn add(&self, sample: f64) -> Result<u64, Error> {
        mp::locked!(total = self.total, hits = self.hits.1, _first = self.rows[0] => {
            *total += sample;
            *hits += 1;
            *hits
        })
    }

    fn hits(&self, index: usize) -> Value<u64> {
        self.rows[index].clone()
    }
}

#[mp::test]
fn fields_and_other_expressions_are_locked_under_a_name() -> Result<(), Error> {
    within(LIMIT, || {
        let stats = Stats::new()?;
        let index: Option<usize> = stats.rows.len().checked_sub(1);
        let last = &&stats.rows[1];
        assert_eq!((stats.add(0.5)?, stats.add(1.5)?), (1, 2));
        mp::locked!(row = stats.rows[index.unwrap_or(0)] => *row = 1)?;
        mp::locked!(row = &stats.rows[1] => *row += 1)?;
        mp::locked!(row = **last, unused = stats.hits.0 => *row += 1)?;
        mp::locked!(total = if stats.rows.len() > 2 { &stats.hits.0 } else { &stats.hits.1 } => {
            *total += 10;
        })?;
        assert_eq!(stats.rows[1].get()?, 3);
        assert_eq!(stats.hits.1.get()?, 12);
        Ok(())
    })
}

#[mp::test]
fn what_the_operands_make_lives_until_the_end() -> Result<(), Error> {
    fn nth<'a>(rows: &'a [Value<u64>], index: &'a usize) -> &'a Value<u64> {
        &rows[*index]
    }
    within(LIMIT, || {
        let stats = Stats::new()?;
        let borrowed = mp::locked!(
            made = stats.hits(0),
            other = mp::shared!(5_u64)?,
            row = nth(&[stats.hits(1)], &usize::from(false)) => {
            *made += 1;
            *row += *made + *other;
            *row
        });
        assert_eq!(borrowed?, 6);
        assert_eq!((stats.rows[0].get()?, stats.rows[1].get()?), (1, 6));
        Ok(())
    })
}

fn first_positive(values: &[Value<i64>], log: &Value<u64>) -> Result<Option<i64>, Error> {
    for value in values {
        mp::locked!(log, value = value => {
            *log += 1;
            if *value == 0 {
                continue;
            }
            if *value < -9 {
                break;
            }
            if *value > 0 {
                return Ok(Some(*value));
            }
            *value = 0;
        })?;
    }
    Ok(None)
}

#[mp::test]
fn break_continue_and_return_leave_the_section_and_unlock() -> Result<(), Error> {
    within(LIMIT, || {
        let values = [0, -1, 7, 8].map(|value| mp::shared!(value).expect("there is room"));
        let log = mp::shared!(0)?;
        assert_eq!(first_positive(&values, &log)?, Some(7));
        assert_eq!((log.get()?, values[1].get()?), (3, 0));
        values[0].set(-10)?;
        assert_eq!(first_positive(&values, &log)?, None);
        assert_eq!(log.get()?, 4);
        assert!(!values.iter().any(|value| value.is_locked()));

        let found = 'rows: loop {
            for value in &values {
                mp::locked!(log, v = value, w = STATIC => {
                    if *v == 8 {
                        break 'rows *v + *w;
                    }
                    *log += 1;
                })?;
            }
        };
        assert_eq!((found, log.get()?), (9, 7));
        Ok(())
    })
}

#[mp::test]
fn a_body_need_not_have_a_value() -> Result<(), Error> {
    fn returned(value: &Value<u64>) -> Result<u64, Error> {
        mp::locked!(value => { return Ok(*value + 1) })
    }
    within(LIMIT, || {
        let value = mp::shared!(1)?;
        let other = mp::shared!(2)?;
        for _ in 0..2 {
            mp::locked!(value => continue)?;
        }
        loop {
            mp::locked!(other => *other += 1)?;
            if other.get()? == 4 {
                mp::locked!(value, other => {
                    *value += *other;
                    break;
                })?;
            }
        }
        assert_eq!(returned(&value)?, 6);
        Ok(())
    })
}

mp::shared! { static STATIC: i64 = 1; }

#[derive(Debug, PartialEq)]
enum Failure {
    Parse,
    Shared(ErrorKind),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Shared(error.kind())
    }
}

impl From<std::num::ParseIntError> for Failure {
    fn from(_: std::num::ParseIntError) -> Self {
        Self::Parse
    }
}

fn add_text(sum: &Value<u64>, text: &str) -> Result<u64, Failure> {
    let sum = mp::locked!(sum => {
        *sum += text.parse::<u64>()?;
        *sum
    })?;
    Ok(sum)
}

#[mp::test]
fn a_question_mark_leaves_the_function_and_unlocks() -> Result<(), Error> {
    within(LIMIT, || {
        let sum = mp::shared!(1)?;
        assert_eq!(add_text(&sum, "2"), Ok(3));
        assert_eq!(add_text(&sum, "two"), Err(Failure::Parse));
        assert!(!sum.is_locked());
        mp::locked!(held = sum => {
            assert_eq!(
                add_text(&sum, "2"),
                Err(Failure::Shared(ErrorKind::WouldDeadlock))
            );
            *held = 0;
        })?;
        assert_eq!(sum.get()?, 0);
        Ok(())
    })
}

#[mp::test]
fn a_section_has_the_value_of_its_body() -> Result<(), Error> {
    within(LIMIT, || {
        let value = mp::shared!(3_u32)?;
        let doubled = mp::locked!(value => { *value } * 2)?;
        let text = mp::locked!(value => format!("{}", *value))?;
        let nested: Result<u8, String> = mp::locked!(value => u8::try_from(*value)
            .map_err(|error| error.to_string()))?;
        let matched = mp::locked!(value => match *value { 3 => "three", _ => "other" })?;
        let coerced: Result<Box<dyn Fn() -> u32>, Error> = mp::locked!(value => {
            let now = *value;
            Box::new(move || now)
        });
        let section = mp::locked!(value => {
            let other = mp::shared!(1_u32)?;
            mp::locked!(other => *value + *other)?
        })?;
        assert_eq!((doubled, text.as_str(), nested), (6, "3", Ok(3)));
        assert_eq!((matched, coerced?(), section), ("three", 3, 4));
        Ok(())
    })
}

#[mp::test]
fn temporaries_of_the_body_are_gone_before_the_guards() -> Result<(), Error> {
    /// Lends the guard, and looks at it once more when it is dropped.
    struct Reader<'a>(&'a u64);

    impl Reader<'_> {
        fn read(&self) -> u64 {
            *self.0
        }
    }

    impl Drop for Reader<'_> {
        fn drop(&mut self) {
            assert_eq!(*self.0, 4);
        }
    }

    within(LIMIT, || {
        let value = mp::shared!(4)?;
        assert_eq!(mp::locked!(value => Reader(&value).read())?, 4);
        assert_eq!(mp::locked!(value => { Reader(&value).read() })?, 4);
        Ok(())
    })
}

/// Named.
#[derive(Shareable, Clone, Copy, PartialEq, Debug)]
pub struct Named {
    /// Documented.
    pub number: f64,
    r#type: Kind,
    nested: Tuple,
    list: [(u8, Option<u16>); 2],
    size: usize,
}

#[derive(Shareable, Clone, Copy, PartialEq, Debug)]
#[repr(C, align(16))]
struct Tuple(u8, pub(crate) i64, Unit);

#[derive(Shareable, Clone, Copy, PartialEq, Debug)]
struct Unit;

#[derive(Shareable, Clone, Copy, PartialEq, Debug)]
struct Empty {}

#[derive(Shareable, Clone, Copy, PartialEq, Debug)]
#[repr(transparent)]
struct Wrapper<T>(T);

#[derive(Shareable)]
struct Generic<T: Copy = u8, U = [T; 2], const N: usize = 3>
where
    U: PartialEq,
{
    first: T,
    second: U,
    rest: [T; N],
    #[cfg(any())]
    absent: Unknown,
}

#[derive(mp::Shareable)]
struct InPlace {
    count: AtomicU64,
    guarded: Mutex<Wrapper<Kind>>,
    #[allow(dead_code)]
    optional: Option<Kind>,
}

#[derive(Shareable, Clone, Copy, PartialEq, Debug)]
enum Kind {
    Small,
    Large = 0xFF,
}

#[derive(Shareable, Clone, Copy, PartialEq, Debug)]
#[repr(u8)]
enum Byte {
    Zero,
    Max = u8::MAX,
}

#[derive(Shareable, Clone, Copy, PartialEq, Debug)]
#[repr(i8)]
enum Signed {
    Min = i8::MIN,
    NoField(),
    NoNamedField {},
}

#[derive(Shareable, Clone, Copy, PartialEq, Debug)]
enum Single {
    Only,
}

#[derive(Shareable)]
#[deprecated]
struct Old {
    #[deprecated]
    field: u8,
}

const NAMED: Named = Named {
    number: 0.5,
    r#type: Kind::Small,
    nested: Tuple(1, -2, Unit),
    list: [(3, None), (4, Some(5))],
    size: 6,
};

mp::shared! {
    static RECORD: Named = NAMED;
    static ENUMS: (Byte, Option<Signed>) = (Byte::Max, Some(Signed::Min));
    static GENERIC: Generic = Generic { first: 1, second: [2, 3], rest: [4; 3] };
}

#[mp::test]
fn a_derived_type_is_shared() -> Result<(), Error> {
    within(LIMIT, || {
        assert_eq!(RECORD.get()?, NAMED);
        mp::locked!(record = RECORD, enums = ENUMS, generic = GENERIC => {
            record.r#type = Kind::Large;
            record.nested.1 = 2;
            *enums = (Byte::Zero, Some(Signed::NoField()));
            generic.first += generic.second[1] + generic.rest[2];
        })?;
        let record = RECORD.get()?;
        assert_eq!(
            (record.r#type, record.nested),
            (Kind::Large, Tuple(1, 2, Unit))
        );
        assert_eq!(ENUMS.get()?, (Byte::Zero, Some(Signed::NoField())));
        assert_eq!(mp::locked!(generic = GENERIC => generic.first)?, 8);

        ENUMS.set((Byte::Max, Some(Signed::NoNamedField {})))?;
        mp::shared!((Unit, Single::Only))?.set((Unit, Single::Only))?;
        mp::shared!((Empty {}, Some(Single::Only)))?.set((Empty {}, None))?;
        #[allow(deprecated)]
        let old = mp::shared!(Old { field: 1 })?;
        #[allow(deprecated)]
        let field = mp::locked!(old => old.field)?;
        assert_eq!(field, 1);
        Ok(())
    })
}

#[mp::test]
fn a_derived_type_holds_locks_and_atomics() -> Result<(), Error> {
    within(LIMIT, || {
        let place = Shared::new(InPlace {
            count: AtomicU64::new(0),
            guarded: Mutex::new(Wrapper(Kind::Small)),
            optional: None,
        })?;
        place.count.fetch_add(2, Ordering::Relaxed);
        let kind = mp::locked!(kind = place.guarded => {
            kind.0 = Kind::Large;
            kind.0
        })?;
        assert_eq!(kind, Kind::Large);
        assert_eq!(place.count.load(Ordering::Relaxed), 2);
        Ok(())
    })
}

#[mp::test]
fn types_are_derived_in_functions() -> Result<(), Error> {
    #[derive(Shareable)]
    struct Local<const N: usize>([Inner; N]);

    #[derive(Shareable, Clone, Copy)]
    struct Inner {
        value: u8,
    }

    within(LIMIT, || {
        let local = mp::shared!(Local([Inner { value: 1 }; 3]))?;
        let sum = mp::locked!(local => local.0.iter().map(|inner| inner.value).sum::<u8>())?;
        assert_eq!(sum, 3);
        Ok(())
    })
}
