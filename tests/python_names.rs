//! The page of Python's names names what there is, on both sides, and leaves nothing out.

mod watchdog;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use watchdog::within;

const PAGE: &str = include_str!("../src/guide/python.md");

/// Public names of Python 3.11, and those that came up to 3.14; `ask.py` gives those of the Python
/// that runs it.
const PYTHON: &str = include_str!("python_names/names.txt");
const ASK: &str = include_str!("python_names/ask.py");

/// What the tables tell of other packages.
const OF_OTHERS: [&str; 2] = [
    "concurrent.futures.tqdm",
    "multiprocessing.shared_memory.numpy.ndarray",
];

/// Names each path in code, so that it exists, and as text.
macro_rules! items {
    ($($($segment:ident)::+ $($bang:literal)?),+ $(,)?) => {
        #[allow(unused_imports, reason = "to name them is enough")]
        mod named {
            $(use $($segment)::+ as _;)+
        }
        const ITEMS: &[&str] = &[$(concat!($("::", stringify!($segment)),+ $(, $bang)?)),+];
    };
}

/// The same for methods: the type, the method, and what is generic in either.
macro_rules! methods {
    ($($($segment:ident)::+ $(<$($generic:ty),+>)?
        => $method:ident $(<$($of:ty),+>)? $(as $shape:ty)?;)+) => {
        #[test]
        fn every_method_is_there() {
            $(let _ $(: $shape)? = <$($segment)::+ $(<$($generic),+>)?>::$method $(::<$($of),+>)?;)+
        }
        const METHODS: &[&str] =
            &[$(concat!($("::", stringify!($segment)),+, "::", stringify!($method))),+];
    };
}

items! {
    mp::main, mp::test, mp::process_fn, mp::spawn "!", mp::shared "!", mp::locked "!",
    mp::init, mp::current, mp::active_children, mp::cpu_count, mp::guide, mp::prelude,
    mp::ProcessFn, mp::Builder, mp::Process, mp::ProcessInfo, mp::Stdio,
    mp::StartMethod, mp::StartMethod::Exec, mp::StartMethod::ForkServer,
    mp::Error, mp::Panic, mp::ErrorKind, mp::ErrorKind::Cancelled, mp::ErrorKind::Closed,
    mp::ErrorKind::Died, mp::ErrorKind::Encode, mp::ErrorKind::Initializer,
    mp::ErrorKind::Poisoned, mp::ErrorKind::TimedOut,
    mp::Pool, mp::PoolBuilder, mp::PoolStats, mp::Backend, mp::Backend::Threads, mp::Task,
    mp::TaskOptions, mp::WithOptions, mp::as_completed, mp::AsCompleted, mp::wait_any, mp::Waitable,
    mp::pool::apply, mp::pool::imap, mp::pool::imap_unordered, mp::pool::map, mp::pool::starmap,
    mp::pool::submit, mp::pool::submit_map, mp::pool::with,
    mp::Shared, mp::Shareable, mp::SharedStatic, mp::Value, mp::Lock, mp::Array, mp::ArrayChunk,
    mp::channel, mp::unbounded_channel, mp::pipe, mp::Sender, mp::Receiver, mp::SendError,
    mp::Portable, mp::Queue, mp::Connection, mp::channel::IntoIter, mp::channel::Iter,
    mp::sync, mp::sync::Barrier, mp::sync::BarrierWaitResult, mp::sync::Condvar, mp::sync::Event,
    mp::sync::Mutex, mp::sync::MutexGuard, mp::sync::Once, mp::sync::OnceLock, mp::sync::OnceState,
    mp::sync::Permit, mp::sync::PoisonCause, mp::sync::Poisoned, mp::sync::ReentrantMutex,
    mp::sync::ReentrantMutexGuard, mp::sync::RwLock, mp::sync::RwLockReadGuard,
    mp::sync::RwLockWriteGuard, mp::sync::Semaphore, mp::sync::TryLockError,
    mp::sync::WaitTimeoutResult,
}

#[mp::process_fn]
fn square(x: i64) -> i64 {
    x * x
}

type Numbers = Vec<i64>;
type Tuples = Vec<(i64,)>;
type Callback = fn(&Result<u8, mp::Error>);

methods! {
    mp::Builder => name as fn(_, String) -> _;
    mp::Builder => start_method;
    mp::Process<u8> => exit_status;
    mp::Process<u8> => id;
    mp::Process<u8> => interrupt;
    mp::Process<u8> => is_finished;
    mp::Process<u8> => join;
    mp::Process<u8> => kill;
    mp::Process<u8> => name;
    mp::Process<u8> => terminate;
    mp::Process<u8> => wait;
    mp::Process<u8> => wait_timeout;
    mp::Error => exit_status;
    mp::Error => signal;
    mp::Error => stderr;
    mp::Pool => new;
    mp::Pool => with_default_workers;
    mp::Pool => with;
    mp::Pool => apply<square>;
    mp::Pool => map<square, i64, Numbers>;
    mp::Pool => starmap<square, Tuples>;
    mp::Pool => imap<square, i64, Numbers>;
    mp::Pool => imap_unordered<square, i64, Numbers>;
    mp::Pool => submit<square>;
    mp::Pool => submit_map<square, i64, Numbers>;
    mp::Pool => close;
    mp::Pool => join;
    mp::Pool => terminate;
    mp::Pool => stats;
    mp::PoolBuilder => backend;
    mp::PoolBuilder => initializer<square>;
    mp::PoolBuilder => max_tasks_per_worker;
    mp::PoolBuilder => start_method;
    mp::TaskOptions => chunk_size;
    mp::TaskOptions => timeout;
    mp::Task<u8> => cancel;
    mp::Task<u8> => is_finished;
    mp::Task<u8> => join;
    mp::Task<u8> => on_done as fn(&_, Callback);
    mp::Task<u8> => wait;
    mp::Task<u8> => wait_timeout;
    mp::Shared<u8> => new;
    mp::Shared<[u8]> => from_slice;
    mp::Shared<[u8]> => from_fn as fn(_, fn(usize) -> u8) -> _;
    mp::Shared<[u8]> => zeroed;
    mp::Array<u8> => from_slice;
    mp::Array<u8> => zeroed;
    mp::SendError<u8> => into_inner;
    mp::Queue<u8> => bounded;
    mp::Queue<u8> => unbounded;
    mp::Queue<u8> => put;
    mp::Queue<u8> => put_timeout;
    mp::Queue<u8> => try_put;
    mp::Queue<u8> => get;
    mp::Queue<u8> => get_timeout;
    mp::Queue<u8> => try_get;
    mp::Queue<u8> => len;
    mp::Queue<u8> => is_empty;
    mp::Queue<u8> => close;
    mp::Queue<u8> => task_done;
    mp::Queue<u8> => join;
    mp::Queue<u8> => join_timeout;
    mp::Connection<u8, u8> => send;
    mp::Connection<u8, u8> => recv;
    mp::Connection<u8, u8> => recv_timeout;
    mp::Connection<u8, u8> => try_recv;
    mp::Connection<u8, u8> => poll;
    mp::sync::Mutex<u8> => lock;
    mp::sync::Mutex<u8> => try_lock;
    mp::sync::Mutex<u8> => lock_timeout;
    mp::sync::Mutex<u8> => is_locked;
    mp::sync::Mutex<u8> => get;
    mp::sync::Mutex<u8> => set;
    mp::sync::Mutex<u8> => update as fn(&_, fn(&mut u8) -> u8) -> _;
    mp::sync::ReentrantMutex<u8> => lock;
    mp::sync::ReentrantMutex<u8> => is_locked;
    mp::sync::Condvar => wait<u8>;
    mp::sync::Condvar => wait_timeout<u8>;
    mp::sync::Condvar => wait_while as fn(&_, _, fn(&mut u8) -> bool) -> _;
    mp::sync::Condvar => notify_one;
    mp::sync::Condvar => notify_n;
    mp::sync::Condvar => notify_all;
    mp::sync::Semaphore => new;
    mp::sync::Semaphore => bounded;
    mp::sync::Semaphore => acquire;
    mp::sync::Semaphore => permit;
    mp::sync::Semaphore => release;
    mp::sync::Semaphore => value;
    mp::sync::Event => set;
    mp::sync::Event => clear;
    mp::sync::Event => is_set;
    mp::sync::Event => wait;
    mp::sync::Event => wait_timeout;
    mp::sync::Barrier => wait;
    mp::sync::Barrier => wait_timeout;
    mp::sync::Barrier => abort;
    mp::sync::Barrier => reset;
    mp::sync::Barrier => is_broken;
    mp::sync::BarrierWaitResult => is_leader;
}

/// What is there with a feature alone.
const WITH_FEATURES: [&str; 4] = [
    "mp::Pod",
    "mp::shareable_pod!",
    "mp::ndarray::View",
    "mp::TaskOptions::progress",
];

#[cfg(feature = "bytemuck")]
#[allow(unused_imports, reason = "to name them is enough")]
use mp::{Pod as _, shareable_pod as _};

#[cfg(feature = "ndarray")]
#[allow(unused_imports, reason = "to name it is enough")]
use mp::ndarray::View as _;

#[cfg(feature = "indicatif")]
#[test]
fn there_is_progress() {
    let _ = mp::TaskOptions::progress;
}

/// The page without its programs.
fn prose() -> impl Iterator<Item = &'static str> {
    let mut is_program = false;
    PAGE.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_program ^= is_fence;
        !is_program && !is_fence
    })
}

/// What stands between backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The first cell of a row of a table.
fn first_cell(line: &str) -> Option<&str> {
    line.strip_prefix('|')?.split(" | ").next()
}

/// The length of the identifier that `text` begins with.
fn identifier(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len())
}

/// The paths in a span that begin with `mp::`, macros with their `!`.
fn mp_paths(span: &str) -> Vec<&str> {
    let mut paths = Vec::new();
    for (at, _) in span.match_indices("mp::") {
        let path = &span[at..];
        let mut end = "mp".len();
        while path[end..].starts_with("::") && identifier(&path[end + 2..]) > 0 {
            end += 2 + identifier(&path[end + 2..]);
        }
        end += usize::from(path[end..].starts_with('!'));
        paths.push(&path[..end]);
    }
    paths
}

/// The page's part on the way from Python, and its part on the way back.
fn parts() -> (Vec<&'static str>, Vec<&'static str>) {
    let lines: Vec<_> = prose().collect();
    let back = lines
        .iter()
        .position(|line| *line == "# The way back")
        .expect("it is there");
    (lines[..back].to_vec(), lines[back..].to_vec())
}

/// The names of Python that the tables begin with.
fn python_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut module = "";
    for line in parts().0 {
        if let Some(heading) = line.strip_prefix("# ") {
            module = spans(heading).next().unwrap_or_default();
        }
        for span in first_cell(line).into_iter().flat_map(spans) {
            let name = span.split('(').next().unwrap_or_default();
            let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
            if !module.is_empty() && name.chars().all(is_name) {
                names.insert(format!("{module}.{name}"));
            }
        }
    }
    names
}

/// What the facade exports, by its own text.
fn exports() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let source = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name);
        fs::read_to_string(path).expect("a source file can be read")
    };
    let text: String = source("lib.rs")
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut module = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("pub ").into_iter().chain(rest.find("\n}")).min() {
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("\n}") {
            module.clear();
            rest = after;
            continue;
        }
        let end = rest.find([';', '{']).expect("an item has an end");
        let mut words = rest[..end].split_whitespace().skip(1);
        let (kind, name) = (words.next(), words.next().unwrap_or_default());
        match kind {
            Some("mod") if rest[end..].starts_with('{') => {
                module = format!("{name}::");
            }
            Some("mod") if name == "ndarray" => {
                let inside = source("ndarray.rs");
                let traits = inside
                    .lines()
                    .filter_map(|line| line.strip_prefix("pub trait "));
                found.extend(
                    traits.map(|line| format!("mp::ndarray::{}", &line[..identifier(line)])),
                );
            }
            Some("mod") => {
                found.insert(format!("mp::{name}"));
            }
            Some("type") => {
                found.insert(format!("mp::{}", &name[..identifier(name)]));
            }
            Some("use") if module == "prelude::" => {
                found.insert("mp::prelude".to_owned());
            }
            Some("use") => {
                let end = rest.find(';').expect("an item has an end");
                let all = rest[..end].rsplit("::").next().unwrap_or_default();
                let names = all
                    .split(['{', '}', ',', ' ', '\n'])
                    .filter(|name| !name.is_empty());
                let public = names.filter(|name| !name.starts_with("__"));
                found.extend(public.map(|name| format!("mp::{module}{name}")));
            }
            _ => {}
        }
        rest = &rest[end..];
    }
    if source("shareable_pod.rs").contains("\nmacro_rules! shareable_pod ") {
        found.insert("mp::shareable_pod".to_owned());
    }
    found
}

#[test]
fn every_path_on_the_page_exists_and_none_is_listed_in_vain() {
    let listed = ITEMS.iter().chain(METHODS);
    let listed: BTreeSet<_> = listed
        .map(|path| path.trim_start_matches("::"))
        .chain(WITH_FEATURES)
        .collect();
    let lines = prose().flat_map(spans);
    let on_page: BTreeSet<_> = lines.flat_map(mp_paths).collect();
    let unknown: Vec<_> = on_page.difference(&listed).collect();
    assert!(
        unknown.is_empty(),
        "the page names what is not listed here: {unknown:?}"
    );
    let unused: Vec<_> = listed.difference(&on_page).collect();
    assert!(
        unused.is_empty(),
        "listed here, and not on the page: {unused:?}"
    );
}

#[test]
fn every_name_of_python_is_on_the_page() {
    let on_page = python_names();
    let listed: BTreeSet<String> = PYTHON.lines().map(str::to_owned).collect();
    assert!(listed.len() > 300, "there are {} names", listed.len());
    let missing: Vec<_> = listed.difference(&on_page).collect();
    assert!(missing.is_empty(), "not on the page: {missing:#?}");
    let unknown: Vec<_> = on_page
        .difference(&listed)
        .filter(|name| !OF_OTHERS.contains(&name.as_str()))
        .collect();
    assert!(unknown.is_empty(), "no names of Python: {unknown:#?}");
}

#[test]
fn the_python_that_is_here_has_no_other_names() {
    let ask = || Command::new("python3").args(["-c", ASK]).output();
    let Ok(output) = within(Duration::from_secs(120), ask) else {
        return;
    };
    // It may be one without these modules.
    if !output.status.success() {
        return;
    }
    let on_page = python_names();
    let names = String::from_utf8_lossy(&output.stdout);
    let missing: Vec<_> = names
        .lines()
        .filter(|name| !on_page.contains(*name))
        .collect();
    assert!(missing.is_empty(), "not on the page: {missing:#?}");
}

#[test]
fn the_way_back_has_every_public_item() {
    let exports = exports();
    assert!(
        exports.len() > 70,
        "the test has lost sight of lib.rs: {exports:?}"
    );
    let (_, back) = parts();
    let cells = back.into_iter().filter_map(first_cell).flat_map(spans);
    let on_page: BTreeSet<String> = cells
        .flat_map(mp_paths)
        .map(|path| path.trim_end_matches('!').to_owned())
        .collect();
    let missing: Vec<_> = exports.difference(&on_page).collect();
    assert!(missing.is_empty(), "not on the way back: {missing:?}");
    let unknown: Vec<_> = on_page.difference(&exports).collect();
    assert!(unknown.is_empty(), "no public item: {unknown:?}");
}
