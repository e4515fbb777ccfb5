//! The SQL statements of the projections, as files.

use std::fs;
use std::path::{Path, PathBuf};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../services/projections/sql");

/// Returns the text of a statement with the fragments that it includes. `path` is below the folder of statements,
/// without the extension.
pub fn statement(path: &str) -> String {
    let file = Path::new(FOLDER).join(path).with_extension("sql");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    ledger_projections::expand_includes(&text)
}

/// Returns the paths of all statements, sorted, without the fragments.
pub fn statement_paths() -> Vec<String> {
    let entries = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<PathBuf>>()
    };
    let files = entries(Path::new(FOLDER)).into_iter().flat_map(|folder| entries(&folder));
    let path = |file: PathBuf| {
        let below = file.strip_prefix(FOLDER).expect("a path below the folder");
        below.with_extension("").display().to_string()
    };
    let mut paths: Vec<String> = files.map(path).filter(|path| !path.starts_with("fragments/")).collect();
    paths.sort_unstable();
    paths
}
