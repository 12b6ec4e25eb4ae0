//! Tables in a Markdown file that a bench writes anew, each between two comments that name it.

use std::fs;
use std::path::Path;

use super::Failure;

/// Replaces what stands between `<!-- name -->` and `<!-- /name -->`.
pub(crate) fn replace(file: &Path, name: &str, table: &str) -> Result<(), Failure> {
    let text = fs::read_to_string(file)?;
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let parts = text.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) =
        parts.ok_or_else(|| format!("{} has no {begin} and {end}", file.display()))?;
    fs::write(file, format!("{before}{begin}\n\n{table}\n{end}{after}"))?;
    Ok(())
}
