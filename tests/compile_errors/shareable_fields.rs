use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use mp::{Shareable, Shared};

#[derive(Shareable)]
struct Text {
    borrowed: &'static str,
    owned: String,
    path: std::path::PathBuf,
    either: Cow<'static, str>,
}

#[derive(Shareable)]
struct Items {
    list: Vec<u8>,
    slice: &'static [u8],
    map: HashMap<u32, u32>,
    ordered: std::collections::BTreeSet<u32>,
}

#[derive(Shareable)]
struct Pointers {
    reference: &'static u32,
    raw: *const u32,
    boxed: Box<u32>,
    counted: Arc<u32>,
    counted_here: std::rc::Rc<u32>,
}

#[derive(Shareable)]
struct Code(fn(u32) -> u32, Box<dyn Fn() + Send>);

#[derive(Shareable)]
struct Primitives {
    mutex: std::sync::Mutex<u32>,
    lock: ::std::sync::RwLock<u32>,
    condvar: std::sync::Condvar,
    once: std::sync::OnceLock<u32>,
    lazy: std::sync::LazyLock<u32>,
    barrier: std::sync::Barrier,
}

#[derive(Shareable)]
struct Nested {
    array: [String; 2],
    tuple: (u8, (String, u8)),
    optional: Option<Vec<u8>>,
    guarded: mp::sync::Mutex<Box<u8>>,
}

#[derive(Shareable)]
struct Unsized {
    slice: [u8],
}

#[derive(Shareable)]
struct Hidden {
    object: dyn Send,
}

// What uses them is right.
fn share(text: Text, nested: Nested) -> Result<Shared<Text>, mp::Error> {
    mp::shared!(nested)?;
    Shared::new(text)
}

fn main() {
    let _ = share;
}
