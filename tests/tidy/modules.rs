//! The files that the compiler reads, found by following `mod` from the roots of each crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::assert_none;
use crate::tree::{files, is_rust, read, relative, root, rust_files};
use crate::workspace::{Crate, crates};

/// A source file of a crate.
pub(crate) struct Module {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// True if only tests include it.
    pub(crate) is_test: bool,
}

/// Attribute of a module of tests.
const TESTS: &str = "#[cfg(test)]";

impl Module {
    /// Returns the text before the module of tests at its end.
    pub(crate) fn code(&self) -> &str {
        let tests = self.text.find(&format!("\n{TESTS}\nmod tests {{"));
        &self.text[..tests.unwrap_or(self.text.len())]
    }

    /// Returns the modules in files of their own: the name, and true if only tests include it.
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

    /// Returns the folder of its child modules.
    fn folder(&self, is_root: bool) -> PathBuf {
        let folder = self.path.parent().expect("a file is in a folder");
        if is_root || self.path.ends_with("mod.rs") {
            folder.to_owned()
        } else {
            folder.join(self.path.file_stem().expect("a file has a name"))
        }
    }
}

/// Returns all source files of a crate.
pub(crate) fn modules(found: &Crate) -> Vec<Module> {
    let mut modules: BTreeMap<PathBuf, Module> = BTreeMap::new();
    for path in &found.roots {
        follow(path, true, false, &mut modules);
    }
    modules.into_values().collect()
}

fn follow(path: &Path, is_root: bool, is_test: bool, modules: &mut BTreeMap<PathBuf, Module>) {
    // A file that other code also includes is not for tests only.
    if modules.get(path).is_some_and(|known| is_test || !known.is_test) {
        return;
    }
    let module = Module { path: path.to_owned(), text: read(path), is_test };
    let folder = module.folder(is_root);
    for (name, for_tests) in module.declared() {
        let candidates = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
        if let Some(child) = candidates.iter().find(|child| child.is_file()) {
            follow(child, false, is_test || for_tests, modules);
        }
    }
    modules.insert(path.to_owned(), module);
}

#[test]
fn every_rust_file_is_compiled() {
    let crates = crates();
    let compiled: Vec<_> = crates.iter().flat_map(modules).map(|module| module.path).collect();
    let mut violations = rust_files();
    violations.retain(|path| !compiled.contains(path));
    let violations: Vec<_> = violations.iter().map(|path| relative(path)).collect();
    assert_none(&violations, "No `mod` includes the file: declare it (without #[path]), or remove it.");
}

#[test]
fn every_other_file_in_a_source_folder_is_named_by_a_source() {
    let mut violations = Vec::new();
    for found in crates().iter().filter(|found| found.folder.starts_with(root().join("services"))) {
        let modules = modules(found);
        for path in files(&found.folder.join("src")).iter().filter(|path| !is_rust(path)) {
            let name = path.file_name().expect("a file has a name").to_string_lossy();
            if !modules.iter().any(|module| module.text.contains(&*name)) {
                violations.push(relative(path));
            }
        }
    }
    assert_none(&violations, "No source file of the crate names the file: include it, or remove it.");
}
