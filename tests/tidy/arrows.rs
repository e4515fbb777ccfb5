//! Which crate may know which: ARCHITECTURE.md draws it, cargo is asked whether it is true.

use crate::refuse;
use crate::tree::{files, read, root, shown};
use crate::workspace::{Crate, Dependency, crates, members};

#[test]
fn the_arrows_of_the_architecture_are_those_of_cargo() {
    let architecture = read(&root().join("ARCHITECTURE.md"));
    let (_, drawn) = architecture.split_once("\n```arrows\n").expect("ARCHITECTURE.md has a block ```arrows");
    let (drawn, _) = drawn.split_once("\n```").expect("the block ends");
    let drawn: Vec<_> = drawn.lines().map(str::trim_end).collect();

    let crates = crates();
    let width = crates.iter().map(|found| found.name.len()).max().unwrap_or_default();
    let line = |found: &Crate| format!("{:width$} -> {}", found.name, found.arrows().join(" "));
    let real: Vec<_> = crates.iter().map(|found| line(found).trim_end().to_owned()).collect();

    assert!(
        drawn == real,
        "ARCHITECTURE.md draws\n\n{}\n\nbut the manifests say\n\n{}\n\n\
         Take the dependency back; or, if the design is to change, draw it and say why in services/decisions.",
        drawn.join("\n"),
        real.join("\n")
    );
}

#[test]
fn members_are_listed_in_flow_order() {
    let crates = crates();
    let mut wrong = Vec::new();
    for (index, found) in crates.iter().enumerate() {
        let earlier = &crates[..index];
        let is_late = |name: &str| !earlier.iter().any(|known| known.name == name);
        let ours = found.dependencies.iter().filter(|dependency| dependency.is_ours);
        for Dependency { name, .. } in ours.filter(|dependency| is_late(&dependency.name)) {
            wrong.push(format!("{} depends on {name}", found.name));
        }
    }
    refuse(
        &wrong,
        "A crate depends only on those before it in Cargo.toml's members: move it, or turn the arrow round.",
    );
}

#[test]
fn every_crate_in_the_tree_is_a_member() {
    let members: Vec<_> = members().iter().map(|member| format!("{member}/Cargo.toml")).collect();
    let mut found: Vec<_> =
        files(&root().join("services")).into_iter().filter(|path| path.ends_with("Cargo.toml")).collect();
    found.push(root().join("tests/Cargo.toml"));
    let mut wrong: Vec<_> = found.iter().map(|path| shown(path)).collect();
    wrong.retain(|manifest| !members.contains(manifest));
    refuse(&wrong, "List the crate, by hand and in flow order, in Cargo.toml's members; or remove it.");
}
