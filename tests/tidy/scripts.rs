//! Scripts: they reject arguments that they do not know, before they install or compile anything.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::assert_none;
use crate::tree::{files, read, relative, root};

#[test]
fn an_unknown_argument_is_rejected_with_the_usage_in_one_line() {
    let scripts: Vec<_> = files(&root().join("ops")).into_iter().filter(|path| has_options(path)).collect();
    assert!(!scripts.is_empty(), "ops has scripts");

    let violations: Vec<_> = scripts
        .iter()
        .filter_map(|path| {
            let script = relative(path);
            let Output { status, stderr, .. } =
                Command::new(path).arg("--no-such-option").output().expect("the script runs");
            let text = String::from_utf8_lossy(&stderr);
            let is_usage = text.starts_with("error: unknown ")
                && text.contains(&format!("; usage: {script}"))
                && text.lines().count() == 1;
            (status.code() != Some(2) || !is_usage).then(|| format!("{script}: {status}: {text}"))
        })
        .collect();
    assert_none(
        &violations,
        "Parse the arguments before need_servers, and call usage_error (ops/lib/servers.sh):",
    );
}

#[test]
fn the_commands_of_the_guide_for_scale_print_estimates() {
    let guide = read(&root().join("ops/guides/scale.md"));
    let (_, block) = guide.split_once("```sh\n").expect("commands");
    let (commands, _) = block.split_once("```").expect("an end");

    for command in commands.lines() {
        let Output { status, stdout, stderr } =
            Command::new("bash").args(["-c", command]).current_dir(root()).output().expect("bash runs");
        assert!(status.success(), "{command}: {}", String::from_utf8_lossy(&stderr));
        assert!(stdout.len() > 500, "{command}");
    }
}

#[test]
fn planted_errors_apply_to_the_tree() {
    let is_patch = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "patch");
    let patches: Vec<PathBuf> = files(&root().join("tests")).into_iter().filter(is_patch).collect();
    assert!(!patches.is_empty(), "there are planted errors");
    let violations: Vec<String> = patches
        .iter()
        .filter_map(|patch| {
            let output = Command::new("git")
                .args(["apply", "--check"])
                .arg(patch)
                .current_dir(root())
                .output()
                .expect("git runs");
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            (!output.status.success()).then(|| format!("{}: {}", relative(patch), errors.trim()))
        })
        .collect();
    assert_none(&violations, "Regenerate the patch for the present code.");
}

/// Returns true for a program whose arguments are not names of planted patches.
fn has_options(path: &Path) -> bool {
    let metadata = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let is_executable = metadata.permissions().mode() & 0o111 != 0;
    is_executable && !read(path).contains("source ops/lib/planted.sh")
}
