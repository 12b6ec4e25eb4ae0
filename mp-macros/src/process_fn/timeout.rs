//! The time limit of a call, written as a number and a unit: `"250ms"`, `"1.5s"`.

use std::fmt;

/// The units, from the shortest to the longest, with their lengths in nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A time limit in nanoseconds. It is never zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Timeout {
    pub(super) nanoseconds: u64,
}

impl Timeout {
    /// Reads `"1.5s"` exactly: no figure passes through a floating-point number. A fraction of a
    /// nanosecond is cut off.
    pub(super) fn parse(text: &str) -> Result<Self, Mistake> {
        let unit_start = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or(Mistake::Malformed)?;
        let (number, unit) = text.split_at(unit_start);
        let (_, unit_nanoseconds) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or(Mistake::Malformed)?;
        match scale(number, *unit_nanoseconds)? {
            0 => Err(Mistake::Zero),
            nanoseconds => Ok(Self { nanoseconds }),
        }
    }
}

/// Why a text is not a time limit. `Display` says it to the user, with what to write instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mistake {
    Malformed,
    Zero,
    TooLong,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self {
            Self::Malformed => "`timeout` is a number and a unit, such as \"2s\" or \"1.5m\"",
            Self::Zero => {
                "a `timeout` of zero would end every call: write a longer one, or none for no limit"
            }
            Self::TooLong => {
                "this `timeout` exceeds the longest there is, 584 years: leave it out for no limit"
            }
        };
        let [rest @ .., (last, _)] = UNITS;
        let rest = rest.map(|(name, _)| name).join(", ");
        write!(f, "{reason}; the units are {rest} and {last}")
    }
}

/// A digit further behind the point than this is less than a nanosecond, even of an hour.
const MAX_DECIMALS: usize = 18;

/// Multiplies a decimal number with a unit.
fn scale(number: &str, unit_nanoseconds: u64) -> Result<u64, Mistake> {
    let (whole, decimals) = match number.split_once('.') {
        Some((whole, decimals)) => (digits(whole)?, digits(decimals)?),
        None => (digits(number)?, "0"),
    };
    let whole: u64 = whole.parse().map_err(|_| Mistake::TooLong)?;

    let decimals = &decimals[..decimals.len().min(MAX_DECIMALS)];
    let divisor = (0..decimals.len()).fold(1, |divisor: u128, _| divisor * 10);
    let decimals: u128 = decimals.parse().map_err(|_| Mistake::Malformed)?;

    let nanoseconds = u128::from(whole) * u128::from(unit_nanoseconds)
        + decimals * u128::from(unit_nanoseconds) / divisor;
    u64::try_from(nanoseconds).map_err(|_| Mistake::TooLong)
}

/// At least one digit, and nothing else.
fn digits(text: &str) -> Result<&str, Mistake> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text)
    } else {
        Err(Mistake::Malformed)
    }
}
