//! What cannot be a field of a struct in shared memory, as far as the way it is written tells.
//!
//! The trait decides in the end. A type that is refused here gets a message that says what to use
//! instead of exactly this type.

use syn::{GenericArgument, Path, PathArguments, Type, TypePath, TypePtr, TypeReference};

use crate::errors::Errors;

/// Reports each type within `ty` that points into the memory of one process.
pub(super) fn check(ty: &Type, errors: &mut Errors) {
    match ty {
        Type::Group(group) => check(&group.elem, errors),
        Type::Paren(paren) => check(&paren.elem, errors),
        Type::Array(array) => check(&array.elem, errors),
        Type::Tuple(tuple) => tuple.elems.iter().for_each(|item| check(item, errors)),
        Type::Path(path) => check_path(path, errors),
        Type::Reference(reference) => errors.at(ty, reference_advice(reference)),
        Type::Ptr(TypePtr { .. }) => errors.at(
            ty,
            "an address of one process means nothing in another: hold the value itself, or an \
             index into an array",
        ),
        Type::FnPtr(_) => errors.at(
            ty,
            "a function has another address in each process: hold an enum without fields that \
             says which function to call",
        ),
        Type::Slice(_) => errors.at(
            ty,
            "a slice has no size of its own: hold an array, `[T; N]`, and how much of it counts",
        ),
        Type::TraitObject(_) => errors.at(
            ty,
            "a `dyn` value finds its methods by an address of one process: hold a concrete type",
        ),
        Type::ImplTrait(_) => errors.at(ty, "`impl` names no layout: hold a concrete type"),
        _ => {}
    }
}

fn reference_advice(reference: &TypeReference) -> &'static str {
    match &*reference.elem {
        Type::Path(path) if path.path.is_ident("str") => TEXT,
        Type::Slice(_) => {
            "an address of one process means nothing in another: hold an array, `[T; N]`, and how \
             much of it counts"
        }
        _ => {
            "an address of one process means nothing in another: hold the value itself, not a \
             reference"
        }
    }
}

const TEXT: &str = "this text would be in the memory of one process: hold a `[u8; N]`, and how \
                    much of it counts";
const ITEMS: &str = "these items would be in the memory of one process: hold an array, `[T; N]`, \
                     and how much of it counts";
const BOXED: &str = "the value would be in the memory of one process: hold it directly";
const COUNTED: &str = "the value would be in the memory of one process, and counted there alone: \
                       hold it directly, and share the whole struct with `mp::Shared`";

/// What of std points into the memory of one process. The rest of std fails in the trait.
const POINTERS: [(&[&str], &str); 5] = [
    (&["str", "String", "OsString", "CString", "PathBuf"], TEXT),
    (&["Vec", "VecDeque", "LinkedList", "BinaryHeap"], ITEMS),
    (&["HashMap", "HashSet", "BTreeMap", "BTreeSet"], ITEMS),
    (&["Box", "Cow"], BOXED),
    (&["Rc", "Arc"], COUNTED),
];

/// What std has for the threads of one process, and what `mp::sync` has in its stead.
const PRIMITIVES: [(&str, &str); 8] = [
    ("Mutex", "Mutex"),
    ("ReentrantLock", "ReentrantMutex"),
    ("RwLock", "RwLock"),
    ("Condvar", "Condvar"),
    ("Barrier", "Barrier"),
    ("Once", "Once"),
    ("OnceLock", "OnceLock"),
    ("LazyLock", "OnceLock"),
];

/// Those whose parameter lies in place, so that a field of one is a field of the other.
const WRAPPERS: [&str; 6] = [
    "Option",
    "Mutex",
    "ReentrantMutex",
    "RwLock",
    "OnceLock",
    "Wrapping",
];

fn check_path(path: &TypePath, errors: &mut Errors) {
    if path.qself.is_some() {
        return;
    }
    let Some(last) = path.path.segments.last() else {
        return;
    };
    if let Some(advice) = advice(&path.path) {
        errors.at(path, advice);
    } else if let PathArguments::AngleBracketed(arguments) = &last.arguments
        && WRAPPERS.iter().any(|wrapper| last.ident == wrapper)
    {
        for argument in &arguments.args {
            if let GenericArgument::Type(ty) = argument {
                check(ty, errors);
            }
        }
    }
}

/// A bare name is taken for what std calls so. A user's own type of that name is one that is
/// written with its path, `self::String`.
fn advice(path: &Path) -> Option<String> {
    let name = path.segments.last()?.ident.to_string();
    let is_std = is_of_std(path);
    if is_std || path.segments.len() == 1 {
        let pointer = POINTERS
            .iter()
            .find(|(names, _)| names.contains(&name.as_str()));
        if let Some((_, advice)) = pointer {
            return Some((*advice).to_owned());
        }
    }
    let (_, instead) = PRIMITIVES
        .iter()
        .find(|(primitive, _)| is_std && *primitive == name)?;
    Some(format!(
        "std's `{name}` is for the threads of one process: use `mp::sync::{instead}`"
    ))
}

fn is_of_std(path: &Path) -> bool {
    let crates = ["std", "alloc", "core"];
    path.segments.len() > 1 && crates.iter().any(|name| path.segments[0].ident == name)
}
