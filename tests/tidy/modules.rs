//! The files that the compiler reads: from each crate's roots, from `mod` to `mod`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::refuse;
use crate::tree::{files, is_rust, read, root, rust_files, shown};
use crate::workspace::{Crate, crates};

/// A file that a crate's roots reach.
pub(crate) struct Module {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// Whether only tests are compiled from it.
    pub(crate) is_test: bool,
}

/// What stands before a module of tests.
const TESTS: &str = "#[cfg(test)]";

impl Module {
    /// The text up to the module of tests at its end.
    pub(crate) fn code(&self) -> &str {
        let tests = self.text.find(&format!("\n{TESTS}\nmod tests {{"));
        &self.text[..tests.unwrap_or(self.text.len())]
    }

    /// `mod name;` for each file below: its name, and whether it is for tests.
    fn declared(&self) -> impl Iterator<Item = (&str, bool)> {
        let before = std::iter::once("").chain(self.text.lines());
        self.text.lines().zip(before).filter_map(|(line, before)| {
            let line = line.trim();
            let item = match line.split_once(' ') {
                Some((visibility, item)) if visibility.starts_with("pub") => item,
                _ => line,
            };
            let name = item.strip_prefix("mod ")?.strip_suffix(';')?;
            Some((name, before.trim() == TESTS))
        })
    }

    /// The folder in which its children are.
    fn folder(&self, is_root: bool) -> PathBuf {
        let folder = self.path.parent().expect("a file is in a folder");
        if is_root || self.path.ends_with("mod.rs") {
            folder.to_owned()
        } else {
            folder.join(self.path.file_stem().expect("a file has a name"))
        }
    }
}

/// All files of the crate that the compiler reads.
pub(crate) fn modules(found: &Crate) -> Vec<Module> {
    let mut modules: BTreeMap<PathBuf, Module> = BTreeMap::new();
    for path in &found.roots {
        reach(path, true, false, &mut modules);
    }
    modules.into_values().collect()
}

fn reach(path: &Path, is_root: bool, is_test: bool, modules: &mut BTreeMap<PathBuf, Module>) {
    // What tests and others share is not for tests only.
    if modules.get(path).is_some_and(|known| is_test || !known.is_test) {
        return;
    }
    let module = Module { path: path.to_owned(), text: read(path), is_test };
    let folder = module.folder(is_root);
    for (name, for_tests) in module.declared() {
        let candidates = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
        if let Some(child) = candidates.iter().find(|child| child.is_file()) {
            reach(child, false, is_test || for_tests, modules);
        }
    }
    modules.insert(path.to_owned(), module);
}

#[test]
fn every_rust_file_is_compiled() {
    let crates = crates();
    let reached: Vec<_> = crates.iter().flat_map(modules).map(|module| module.path).collect();
    let mut wrong = rust_files();
    wrong.retain(|path| !reached.contains(path));
    let wrong: Vec<_> = wrong.iter().map(|path| shown(path)).collect();
    refuse(&wrong, "No `mod` reaches the file: declare it (without #[path]), or remove it.");
}

#[test]
fn every_other_file_among_the_sources_is_included() {
    let mut wrong = Vec::new();
    for found in crates().iter().filter(|found| found.folder.starts_with(root().join("services"))) {
        let modules = modules(found);
        for path in files(&found.folder.join("src")).iter().filter(|path| !is_rust(path)) {
            let name = path.file_name().expect("a file has a name").to_string_lossy();
            if !modules.iter().any(|module| module.text.contains(&*name)) {
                wrong.push(shown(path));
            }
        }
    }
    refuse(&wrong, "No source of the crate names the file: include it, or remove it.");
}
