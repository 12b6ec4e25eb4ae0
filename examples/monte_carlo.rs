//! Pi and the price of an option, by chance: `cargo run --release --example monte_carlo [SAMPLES]`.
//!
//! Every sample has random numbers of its own, which depend on its number alone, and sums are added
//! up in the order of the samples. So the result is the same to the last bit by however many workers:
//! `MP_WORKERS=1` and `MP_WORKERS=3` print the same (what differs, how long it took, goes to standard
//! error).

mod ending;

use std::f64::consts::{PI, TAU};
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::{env, ops::Range, time::Instant};

use mp::prelude::*;

use ending::{Outcome, WrongArguments, exit_code};

const USAGE: &str = "monte_carlo [SAMPLES]";
const SAMPLES: u64 = 20_000_000;
/// An item of the pool. Another number would be another order of additions.
const BLOCK: u64 = 1 << 16;

/// Number `n` of the sequence that SplitMix64 makes of the seed 0: a Weyl sequence, mixed. (Steele,
/// Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014; the constants are those
/// of Stafford's mixer 13.) It takes no state, so everybody begins wherever he likes.
fn random(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Two numbers for each sample, in the middle of 2^53 steps from 0 to 1: neither 0 nor 1.
fn two_uniform(sample: u64) -> [f64; 2] {
    let first = sample.wrapping_mul(2);
    [first, first + 1].map(|n| ((random(n) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64)
}

/// A number of the normal distribution (Box and Muller, 1958).
fn normal(sample: u64) -> f64 {
    let [u, v] = two_uniform(sample);
    (-2.0 * u.ln()).sqrt() * (TAU * v).cos()
}

/// The right to buy something in `years` at the price `strike`.
struct Call {
    price: f64,
    strike: f64,
    rate: f64,
    volatility: f64,
    years: f64,
}

const CALL: Call = Call {
    price: 100.0,
    strike: 105.0,
    rate: 0.03,
    volatility: 0.2,
    years: 1.0,
};

impl Call {
    fn spread(&self) -> f64 {
        self.volatility * self.years.sqrt()
    }

    fn discount(&self) -> f64 {
        (-self.rate * self.years).exp()
    }

    /// What it is worth today if chance has it so (a geometric Brownian motion).
    fn payoff(&self, chance: f64) -> f64 {
        let drift = self.rate * self.years - self.spread().powi(2) / 2.0;
        let price = self.price * (drift + self.spread() * chance).exp();
        self.discount() * (price - self.strike).max(0.0)
    }

    /// What it is worth on average (Black and Scholes, 1973).
    fn closed_form(&self) -> f64 {
        let growth = (self.price / self.strike).ln() + self.rate * self.years;
        let d = growth / self.spread() + self.spread() / 2.0;
        let strike = self.strike * self.discount();
        self.price * normal_cdf(d) - strike * normal_cdf(d - self.spread())
    }
}

/// How much of the normal distribution is below `x`, by its series (Marsaglia: "Evaluating the normal
/// distribution", 2004).
fn normal_cdf(x: f64) -> f64 {
    let (mut sum, mut term, mut n) = (x, x, 1.0);
    while sum + term != sum {
        n += 2.0;
        term *= x * x / n;
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / TAU.sqrt()
}

/// How many points were in the circle; the sums of the payoffs and of their squares.
type Sums = (u64, f64, f64);

#[mp::process_fn]
fn simulate(samples: Range<u64>) -> Sums {
    let mut sums = (0, 0.0, 0.0);
    for sample in samples {
        let [x, y] = two_uniform(sample);
        sums.0 += u64::from(x * x + y * y < 1.0);
        let payoff = CALL.payoff(normal(sample));
        sums.1 += payoff;
        sums.2 += payoff * payoff;
    }
    sums
}

fn row(name: &str, mean: f64, deviation: f64, samples: f64, exact: f64) -> String {
    let error = deviation / samples.sqrt();
    let off = (mean - exact) / error;
    format!("{name:<7} {mean:<19} {error:<12.9} {exact:<19} {off:+.2}")
}

/// How many; of less than two there is no deviation.
fn samples() -> Option<u64> {
    let mut arguments = env::args_os().skip(1);
    let samples = match arguments.next() {
        Some(samples) => samples.to_str()?.parse().ok()?,
        None => SAMPLES,
    };
    (samples >= 2 && arguments.next().is_none()).then_some(samples)
}

fn run() -> Outcome {
    let samples = samples().ok_or(WrongArguments)?;
    let begin = Instant::now();
    let pool = Pool::with_default_workers()?;
    let blocks = (0..samples.div_ceil(BLOCK)).map(|n| n * BLOCK);
    let blocks = blocks.map(|start| start..samples.min(start.saturating_add(BLOCK)));
    let mut all = (0, 0.0, 0.0);
    for sums in pool.imap(simulate, blocks) {
        let (inside, sum, squares) = sums?;
        all = (all.0 + inside, all.1 + sum, all.2 + squares);
    }

    let n = samples as f64;
    let part = all.0 as f64 / n;
    let mean = all.1 / n;
    let deviation = ((all.2 - n * mean * mean) / (n - 1.0)).max(0.0).sqrt();
    let mut out = io::stdout();
    writeln!(out, "{samples} samples")?;
    writeln!(
        out,
        "        estimate            std. error   exact               off by std. errors"
    )?;
    let pi_deviation = 4.0 * (part * (1.0 - part)).sqrt();
    writeln!(out, "{}", row("pi", 4.0 * part, pi_deviation, n, PI))?;
    writeln!(
        out,
        "{}",
        row("option", mean, deviation, n, CALL.closed_form())
    )?;
    writeln!(
        io::stderr(),
        "by {} workers: {:.1?}",
        mp::cpu_count(),
        begin.elapsed()
    )?;
    Ok(())
}

#[mp::main]
fn main() -> ExitCode {
    exit_code(USAGE, run())
}
