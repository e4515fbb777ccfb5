//! Dependencies between the crates of the workspace: ARCHITECTURE.md must list those of the manifests.

use crate::assert_none;
use crate::tree::{files, read, relative, root};
use crate::workspace::{Crate, Dependency, crates, members};

#[test]
fn the_arrows_of_the_architecture_are_those_of_the_manifests() {
    let architecture = read(&root().join("ARCHITECTURE.md"));
    let (_, block) = architecture.split_once("\n```arrows\n").expect("ARCHITECTURE.md has a block ```arrows");
    let (block, _) = block.split_once("\n```").expect("the block ends");
    let documented: Vec<_> = block.lines().map(str::trim_end).collect();

    let crates = crates();
    let width = crates.iter().map(|found| found.name.len()).max().unwrap_or_default();
    let line = |found: &Crate| format!("{:width$} -> {}", found.name, found.arrows().join(" "));
    let actual: Vec<_> = crates.iter().map(|found| line(found).trim_end().to_owned()).collect();

    assert!(
        documented == actual,
        "ARCHITECTURE.md has\n\n{}\n\nbut the manifests have\n\n{}\n\n\
         Remove the dependency; or, if the design changes, update the block and write a decision.",
        documented.join("\n"),
        actual.join("\n")
    );
}

#[test]
fn members_are_listed_in_flow_order() {
    let crates = crates();
    let mut violations = Vec::new();
    for (index, found) in crates.iter().enumerate() {
        let earlier = &crates[..index];
        let is_later = |name: &str| !earlier.iter().any(|other| other.name == name);
        let ours = found.dependencies.iter().filter(|dependency| dependency.is_ours);
        for Dependency { name, .. } in ours.filter(|dependency| is_later(&dependency.name)) {
            violations.push(format!("{} depends on {name}", found.name));
        }
    }
    assert_none(
        &violations,
        "A crate must depend only on earlier members of Cargo.toml: move it, or reverse the dependency.",
    );
}

#[test]
fn every_crate_in_the_tree_is_a_member() {
    let members: Vec<_> = members().iter().map(|member| format!("{member}/Cargo.toml")).collect();
    let mut manifests: Vec<_> =
        files(&root().join("services")).into_iter().filter(|path| path.ends_with("Cargo.toml")).collect();
    manifests.push(root().join("tests/Cargo.toml"));
    let mut violations: Vec<_> = manifests.iter().map(|path| relative(path)).collect();
    violations.retain(|manifest| !members.contains(manifest));
    assert_none(&violations, "List the crate in the members of Cargo.toml, in flow order, or remove it.");
}
