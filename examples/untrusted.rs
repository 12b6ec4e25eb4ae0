//! Parses texts of strangers: `cargo run --release --example untrusted [FILE…]`, or some that come
//! with it. The parser has the weaknesses that parsers have: it calls itself for each level of nesting,
//! takes a text's word for how much memory to ask for, and forgets the end of the text in one loop.
//! Each of them ends one worker, the error says what became of it, and the next text is parsed.
//!
//! The language is that of Rust's arrays: `[1, "two", [3; 4]] /* a comment */`.

mod ending;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::{env, fs, time::Duration};

use mp::prelude::*;
use serde::{Deserialize, Serialize};

use ending::{Outcome, WrongArguments, exit_code};

const USAGE: &str = "untrusted [FILE…]";
const TIME_LIMIT: Duration = Duration::from_secs(1);
const MEMORY_LIMIT_BYTES: u64 = 128 << 20;

#[derive(Clone, Serialize, Deserialize)]
enum Value {
    Number(f64),
    Text(String),
    List(Vec<Value>),
}

impl Value {
    /// So many values, this one and those within.
    fn count(&self) -> usize {
        match self {
            Value::List(list) => 1 + list.iter().map(Value::count).sum::<usize>(),
            Value::Number(_) | Value::Text(_) => 1,
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn eat(&mut self, what: &str) -> bool {
        let is_there = self.rest().starts_with(what);
        self.at += if is_there { what.len() } else { 0 };
        is_there
    }

    fn take_while(&mut self, is_wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !is_wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn expected<T>(&self, what: &str) -> Result<T, String> {
        let line = 1 + self.text[..self.at].matches('\n').count();
        let found = match self.rest().chars().next() {
            Some(c) => format!("not {c:?}"),
            None => "and the text ends".to_owned(),
        };
        Err(format!("line {line}: {what} is expected here, {found}"))
    }

    /// Weakness: at the end of the text, it waits for the end of the comment for ever.
    fn skip_blank(&mut self) {
        self.take_while(char::is_whitespace);
        while self.eat("/*") {
            while !self.eat("*/") {
                self.at += self.rest().chars().next().map_or(0, char::len_utf8);
            }
            self.take_while(char::is_whitespace);
        }
    }

    /// Weakness: the stack is as deep as the text.
    fn value(&mut self) -> Result<Value, String> {
        self.skip_blank();
        let value = match self.rest().chars().next() {
            Some('[') => Value::List(self.list()?),
            Some('"') => {
                self.at += 1;
                let text = self.take_while(|c| c != '"');
                if !self.eat("\"") {
                    return self.expected("the end of a text");
                }
                Value::Text(text.to_owned())
            }
            Some('-' | '0'..='9') => Value::Number(self.number()?),
            _ => return self.expected("a value"),
        };
        self.skip_blank();
        Ok(value)
    }

    /// Weakness: a number of the text says how many values there are in memory.
    fn list(&mut self) -> Result<Vec<Value>, String> {
        self.eat("[");
        let mut list = Vec::new();
        self.skip_blank();
        while !self.eat("]") {
            let value = self.value()?;
            if self.eat(";") {
                self.skip_blank();
                let count = self.number()? as usize;
                list = vec![value; count]; // panics where there cannot be so many
                self.skip_blank();
            } else {
                list.push(value);
                if self.eat(",") {
                    self.skip_blank();
                    continue;
                }
            }
            if !self.rest().starts_with(']') {
                return self.expected("`]`");
            }
        }
        Ok(list)
    }

    fn number(&mut self) -> Result<f64, String> {
        let digits = self.take_while(|c| c.is_ascii_digit() || "+-.eE".contains(c));
        digits
            .parse()
            .or_else(|_| self.expected(&format!("a number, not {digits:?},")))
    }
}

#[mp::process_fn]
fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value()?;
    match parser.rest() {
        "" => Ok(value),
        _ => parser.expected("the end"),
    }
}

/// Reads it here, too: it may be a FIFO, or without an end.
#[mp::process_fn]
fn parse_file(path: OsString) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    parse(&text)
}

fn examples() -> [(&'static str, String); 8] {
    let deep = |levels| "[".repeat(levels) + &"]".repeat(levels);
    [
        ("harmless", r#"[1, "two", [3; 4]] /* a comment */"#.into()),
        ("wrong", "[1,\n 2".into()),
        ("a million levels", deep(1_000_000)),
        ("ten thousand million values", "[[0; 1e5]; 1e5]".into()),
        ("more than can be counted", "[0; 1e30]".into()),
        ("an endless comment", "[1, 2] /* and so on".into()),
        ("a thousand levels", deep(1000)),
        ("harmless again", "[[1, 2], [3, 4]]".into()),
    ]
}

fn run() -> Outcome {
    let paths = Vec::from_iter(env::args_os().skip(1));
    if (paths.iter()).any(|path| path.as_encoded_bytes().starts_with(b"-")) {
        return Err(WrongArguments.into());
    }
    let limited = Pool::builder().memory_limit(MEMORY_LIMIT_BYTES);
    let pool = limited.task_timeout(TIME_LIMIT).workers(2).build()?;
    let names: Vec<String>;
    let results: Box<dyn Iterator<Item = _>>;
    if paths.is_empty() {
        names = examples().map(|(name, _)| name.to_owned()).into();
        results = Box::new(pool.imap(parse, examples().map(|(_, text)| text)));
    } else {
        names = paths.iter().map(|path| format!("{path:?}")).collect();
        results = Box::new(pool.imap(parse_file, paths));
    }

    let mut out = io::stdout();
    let mut parsed = 0;
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(Ok(value)) => {
                parsed += 1;
                writeln!(out, "{name}: fine, {} values", value.count())?;
            }
            Ok(Err(reason)) => writeln!(out, "{name}: {reason}")?,
            Err(error) => {
                writeln!(out, "{name}: {:?}: {error}", error.kind())?;
                let text = error.stderr().unwrap_or_default();
                if let Some(line) = text.lines().find(|line| !line.is_empty()) {
                    writeln!(out, "    it had said: {line}")?;
                }
            }
        }
    }
    writeln!(out, "{parsed} of {} parsed", names.len())?;
    pool.join()?;
    Ok(())
}

#[mp::main]
fn main() -> ExitCode {
    exit_code(USAGE, run())
}
