//! The guide leaves out nothing that it means to have all of.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl Into<PathBuf>) -> String {
    let path = root().join(path.into());
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_kind_of_error_has_a_row() {
    let errors = text("mp-runtime/src/error.rs");
    let kinds = errors
        .split("pub enum ErrorKind {")
        .nth(1)
        .expect("the kinds");
    let kinds = kinds.split('}').next().expect("their end");
    let kinds: Vec<_> = kinds
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','))
        .filter(|kind| !kind.starts_with("//"))
        .collect();
    assert!(kinds.len() >= 16, "{kinds:?}");
    let page = text("src/guide/errors.md");
    for kind in kinds {
        let row = format!("| [`{kind}`](mp::ErrorKind::{kind}) |");
        assert!(page.contains(&row), "there is no row for `{kind}`");
    }
}

#[test]
fn the_readme_links_to_pages_that_are_there() {
    let readme = text("README.md");
    let links = readme.split("](src/guide/").skip(1);
    let pages: Vec<_> = links.filter_map(|rest| rest.split(')').next()).collect();
    assert!(pages.len() > 10, "{pages:?}");
    for page in pages {
        assert!(root().join("src/guide").join(page).is_file(), "{page}");
    }
}

#[test]
fn every_page_is_in_the_contents_and_has_its_module() {
    let (contents, modules) = (text("src/guide/guide.md"), text("src/guide/mod.rs"));
    let files = fs::read_dir(root().join("src/guide")).expect("the folder can be read");
    let mut count = 0;
    for file in files {
        let path = file.expect("its entries can be read").path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.extension().is_some_and(|ending| ending == "md") && name != "guide" {
            count += 1;
            assert!(
                contents.contains(&format!("[`{name}`]")),
                "`{name}` is not in the contents"
            );
            let module = format!("#[doc = include_str!(\"{name}.md\")]\npub mod {name} {{}}");
            assert!(modules.contains(&module), "`{name}` has no module");
        }
    }
    assert!(count > 10, "the test has lost sight of the pages: {count}");
}
