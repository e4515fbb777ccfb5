//! Import cycles between the files of a crate.
//!
//! A file may use its ancestors (`super`), and a parent its children; any other two files that use each other, directly
//! or through more files, cannot be read one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::assert_none;
use crate::modules::{Module, modules};
use crate::workspace::crates;

/// A module as its path below the crate's root: `["queries", "points"]`.
type Name = Vec<String>;

#[test]
fn files_of_a_crate_do_not_use_each_other_in_cycles() {
    let mut violations = Vec::new();
    for found in crates() {
        let sources = found.folder.join("src");
        let files = modules(&found);
        let named: BTreeMap<Name, &Module> = files
            .iter()
            .filter(|module| !module.is_test)
            .filter_map(|module| Some((name(module.path.strip_prefix(&sources).ok()?), module)))
            .collect();
        for cycle in cycles(&uses(&named)) {
            let cycle: Vec<_> = cycle.iter().map(|name| name.join("/")).collect();
            violations.push(format!("{}: {}", found.name, cycle.join(" -> ")));
        }
    }
    assert_none(&violations, "Move the code that both files need to a third file:");
}

/// Returns the module of a file: `queries/points.rs` is `["queries", "points"]`, and the crate's root is empty.
fn name(path: &Path) -> Name {
    let parts = path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts == ["lib"] || parts == ["main"] { Vec::new() } else { parts }
}

/// Returns the other modules that each module uses, without its ancestors.
fn uses(named: &BTreeMap<Name, &Module>) -> BTreeMap<Name, BTreeSet<Name>> {
    let used = |(module, file): (&Name, &&Module)| {
        let paths = paths(file.code()).into_iter().filter_map(|path| absolute(module, &path));
        let mut used: BTreeSet<Name> = paths.filter_map(|path| owner(named, path)).collect();
        used.retain(|other| !module.starts_with(other));
        (module.clone(), used)
    };
    named.iter().map(used).collect()
}

/// Returns the module that a path leads into: its longest prefix that is a file.
fn owner(named: &BTreeMap<Name, &Module>, mut path: Name) -> Option<Name> {
    while !named.contains_key(&path) {
        path.pop()?;
    }
    Some(path)
}

/// Returns the path from the crate's root; `None` for a path into another crate.
fn absolute(module: &Name, path: &[String]) -> Option<Name> {
    let (first, rest) = path.split_first()?;
    let mut base = match first.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.clone(),
        _ => return None,
    };
    let ups = path.iter().take_while(|part| *part == "super").count();
    base.truncate(base.len().checked_sub(ups)?);
    let rest = if ups > 0 { &path[ups..] } else { rest };
    base.extend(rest.iter().cloned());
    Some(base)
}

/// Returns every path that begins with `crate`, `super` or `self`, with groups (`a::{b, c}`) expanded.
fn paths(code: &str) -> Vec<Name> {
    let mut found = Vec::new();
    let code: String =
        code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':') {
                expand(&mut Vec::new(), &code[at..], &mut found);
            }
        }
    }
    found
}

/// Reads one path, or a group of paths, and returns what follows it.
fn expand<'c>(prefix: &mut Name, code: &'c str, found: &mut Vec<Name>) -> &'c str {
    let depth = prefix.len();
    let mut rest = code.trim_start();
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group.trim_start();
            while !rest.is_empty() && !rest.starts_with('}') {
                rest = expand(prefix, rest, found).trim_start();
                rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
            }
            rest = rest.strip_prefix('}').unwrap_or(rest);
            break;
        }
        let end = rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len());
        if end == 0 {
            // Skip a glob, or anything else that is no path, up to the next item of the group.
            rest = &rest[rest.find([',', '}', ';', '\n']).unwrap_or(rest.len())..];
            break;
        }
        prefix.push(rest[..end].to_owned());
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(more) => rest = more,
            None => {
                found.push(prefix.clone());
                rest = rest
                    .strip_prefix(" as ")
                    .map_or(rest, |name| &name[name.find([',', '}', ';']).unwrap_or(0)..]);
                break;
            }
        }
    }
    prefix.truncate(depth);
    rest
}

/// Returns each cycle once, as a path from a module back to itself.
fn cycles(uses: &BTreeMap<Name, BTreeSet<Name>>) -> Vec<Vec<Name>> {
    let mut found: Vec<Vec<Name>> = Vec::new();
    for module in uses.keys() {
        if found.iter().any(|cycle| cycle.contains(module)) {
            continue;
        }
        found.extend(shortest_cycle(uses, module));
    }
    found
}

/// Returns the shortest path from a module back to itself.
fn shortest_cycle(uses: &BTreeMap<Name, BTreeSet<Name>>, module: &Name) -> Option<Vec<Name>> {
    let mut paths = vec![vec![module.clone()]];
    let mut seen = BTreeSet::new();
    while !paths.is_empty() {
        let mut longer = Vec::new();
        for path in paths {
            for next in path.last().and_then(|last| uses.get(last)).into_iter().flatten() {
                let mut path = path.clone();
                path.push(next.clone());
                if next == module {
                    return Some(path);
                }
                if seen.insert(next.clone()) {
                    longer.push(path);
                }
            }
        }
        paths = longer;
    }
    None
}

#[test]
fn paths_are_read_from_groups_and_aliases() {
    let code = "use crate::a::{self, b::{C, d as e}, f::*};\n// use crate::comment;\nlet x = super::g::h();";
    let found: Vec<_> = paths(code).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["crate::a::self", "crate::a::b::C", "crate::a::b::d", "super::g::h"]);
}

#[test]
fn a_cycle_is_found_through_a_third_file() {
    let name = |text: &str| vec![text.to_owned()];
    let uses: BTreeMap<Name, BTreeSet<Name>> = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]
        .map(|(from, to)| (name(from), [name(to)].into()))
        .into();
    assert_eq!(cycles(&uses), [vec![name("a"), name("b"), name("c"), name("a")]]);
}
