//! The crates of the workspace and their dependencies, from `cargo metadata`.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::tree::{read, root};

/// Purpose of a dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The crate itself.
    Normal,
    /// Its build script.
    Build,
    /// Its tests.
    Tests,
}

/// A dependency of a crate.
#[derive(Debug)]
pub(crate) struct Dependency {
    /// Short name of a crate of the workspace, full name of another.
    pub(crate) name: String,
    /// Name in Rust code.
    pub(crate) rust_name: String,
    pub(crate) purpose: Purpose,
    pub(crate) is_ours: bool,
}

/// A crate of the workspace.
#[derive(Debug)]
pub(crate) struct Crate {
    /// Short name: `domain` is the package `ledger-domain`, `server` is `release-ledger`.
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    /// Root files of its targets.
    pub(crate) roots: Vec<PathBuf>,
}

impl Crate {
    /// Returns the crates of the workspace that it depends on, except for tests and build scripts.
    pub(crate) fn arrows(&self) -> Vec<&str> {
        let is_arrow = |dependency: &&Dependency| dependency.is_ours && dependency.purpose == Purpose::Normal;
        let mut arrows: Vec<_> =
            self.dependencies.iter().filter(is_arrow).map(|dependency| &*dependency.name).collect();
        arrows.sort_unstable();
        arrows
    }
}

/// Returns the folders of the workspace's members, in the order of `Cargo.toml`.
pub(crate) fn members() -> Vec<String> {
    let manifest = read(&root().join("Cargo.toml"));
    let (_, members) =
        manifest.split_once("\nmembers = [\n").expect("Cargo.toml lists the members, one per line");
    let (members, _) = members.split_once(']').expect("the list ends");
    members.lines().map(|line| line.trim().trim_matches([',', '"']).to_owned()).collect()
}

/// Returns the crates of the workspace, in the order of `Cargo.toml`.
pub(crate) fn crates() -> Vec<Crate> {
    let metadata = metadata();
    let mut crates: Vec<_> = array(&metadata["packages"]).iter().map(read_crate).collect();
    let members = members();
    crates.sort_by_key(|found| members.iter().position(|member| found.folder == root().join(member)));
    crates
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("run cargo");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("parse the metadata")
}

fn read_crate(package: &Value) -> Crate {
    let manifest = PathBuf::from(text(&package["manifest_path"]));
    Crate {
        name: short(text(&package["name"])),
        folder: manifest.parent().expect("a manifest is in a folder").to_owned(),
        dependencies: array(&package["dependencies"]).iter().map(read_dependency).collect(),
        roots: array(&package["targets"]).iter().map(|target| text(&target["src_path"]).into()).collect(),
    }
}

fn read_dependency(dependency: &Value) -> Dependency {
    let name = text(&dependency["name"]);
    let is_ours = dependency["path"].is_string();
    Dependency {
        name: if is_ours { short(name) } else { name.to_owned() },
        rust_name: dependency["rename"].as_str().unwrap_or(name).replace('-', "_"),
        purpose: match dependency["kind"].as_str() {
            Some("dev") => Purpose::Tests,
            Some("build") => Purpose::Build,
            _ => Purpose::Normal,
        },
        is_ours,
    }
}

fn short(package: &str) -> String {
    match package {
        "release-ledger" => "server".to_owned(),
        _ => package.strip_prefix("ledger-").unwrap_or(package).to_owned(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("the member is a string")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("the member is a list")
}
