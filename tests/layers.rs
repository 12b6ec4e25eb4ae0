//! Rules of the repository, held as tests.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers of the runtime: a module names only modules before it in this list, or itself.
const LAYERS: [&str; 12] = [
    "error", "few", "os", "shm", "sync", "wire", "channel", "registry", "link", "process", "pool",
    "wait",
];

/// The layers that may hold unsafe code.
const UNSAFE_LAYERS: [&str; 4] = ["os", "shm", "sync", "link"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(below: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![below.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("its entries can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The layer a file of the runtime belongs to.
fn layer_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix(root().join("mp-runtime/src")).ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "lib").then(|| name.to_owned())
}

/// The modules at the crate's root that a line names.
fn named_modules(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").map(move |(at, prefix)| {
        let rest = &line[at + prefix.len()..];
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        &rest[..end]
    })
}

fn place(layer: &str) -> usize {
    LAYERS
        .iter()
        .position(|name| *name == layer)
        .unwrap_or_else(|| panic!("`{layer}` is no layer: add it to the table"))
}

#[test]
fn a_layer_names_only_layers_above_it() {
    let mut found = 0;
    for file in rust_files(&root().join("mp-runtime/src")) {
        let Some(own) = layer_of(&file) else { continue };
        let text = fs::read_to_string(&file).expect("a source file can be read");
        for (number, line) in text.lines().enumerate() {
            // What documentation links to is no dependency.
            if line.trim_start().starts_with("//") {
                continue;
            }
            for named in named_modules(line) {
                found += 1;
                assert!(
                    place(named) <= place(&own),
                    "{}:{}: `{own}` names `{named}`, which is below it",
                    file.display(),
                    number + 1,
                );
            }
        }
    }
    assert!(
        found > 50,
        "the test has lost sight of the sources: it found {found} uses"
    );
}

#[test]
fn the_modules_are_declared_in_the_order_of_the_layers() {
    let lib = fs::read_to_string(root().join("mp-runtime/src/lib.rs")).expect("lib.rs is there");
    let declared: Vec<&str> = lib
        .lines()
        .filter_map(|line| {
            line.trim_start_matches("pub ")
                .strip_prefix("mod ")?
                .strip_suffix(';')
        })
        .collect();
    assert_eq!(declared, LAYERS);
}

#[test]
fn unsafe_code_stays_in_its_layers() {
    for folder in ["mp-runtime/src", "mp-macros/src", "src", "examples"] {
        for file in rust_files(&root().join(folder)) {
            if layer_of(&file).is_some_and(|layer| UNSAFE_LAYERS.contains(&layer.as_str())) {
                continue;
            }
            let text = fs::read_to_string(&file).expect("a source file can be read");
            let is_code = |line: &&str| !line.trim_start().starts_with("//");
            let block = ["unsafe ", "{"].concat();
            let found = text
                .lines()
                .filter(is_code)
                .any(|line| line.contains(&block));
            assert!(!found, "{}: there is an unsafe block", file.display());
        }
    }
}

#[test]
fn the_table_of_layers_is_in_architecture_md() {
    let text =
        fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let mut rest = text.as_str();
    for layer in LAYERS {
        let row = format!("| `{layer}` |");
        let at = rest
            .find(&row)
            .unwrap_or_else(|| panic!("no row `{row}`, or not in its place"));
        rest = &rest[at + row.len()..];
    }
}

#[test]
fn every_further_dependency_has_its_reason_in_architecture_md() {
    const CHOSEN: [&str; 9] = [
        "syn",
        "quote",
        "proc-macro2",
        "ipc-channel",
        "serde",
        "nix",
        "inventory",
        "mp-macros",
        "mp-runtime",
    ];
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml is there");
    let text =
        fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let tables = [
        "[workspace.dependencies]",
        "[dependencies]",
        "[dev-dependencies]",
    ];
    for table in tables {
        let body = manifest.split(table).nth(1).expect("the table is there");
        let lines = body
            .lines()
            .skip(1)
            .take_while(|line| !line.starts_with('['));
        for line in lines.filter(|line| !line.trim_start().starts_with('#')) {
            let Some(name) = line
                .split(['=', '.', ' '])
                .next()
                .filter(|name| !name.is_empty())
            else {
                continue;
            };
            let has_reason = CHOSEN.contains(&name) || text.contains(&format!("| `{name}` |"));
            assert!(
                has_reason,
                "the dependency `{name}` has no row with its reason"
            );
        }
    }
}
