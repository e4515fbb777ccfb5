//! Scripts: they reject arguments that they do not know, before they install or compile anything.

use std::process::{Command, Output};

use crate::assert_none;
use crate::tree::root;

/// Scripts with options of their own.
const SCRIPTS: &[&str] = &["bench", "build", "faults", "model", "quickstart", "test"];

#[test]
fn an_unknown_argument_is_rejected_with_the_usage_in_one_line() {
    let violations: Vec<_> = SCRIPTS
        .iter()
        .filter_map(|script| {
            let Output { status, stderr, .. } = Command::new(root().join("ops").join(script))
                .arg("--no-such-option")
                .output()
                .expect("the script runs");
            let text = String::from_utf8_lossy(&stderr);
            let is_usage = text.starts_with("error: unknown ")
                && text.contains(&format!("; usage: ops/{script}"))
                && text.lines().count() == 1;
            (status.code() != Some(2) || !is_usage).then(|| format!("ops/{script}: {status}: {text}"))
        })
        .collect();
    assert_none(
        &violations,
        "Parse the arguments before need_servers, and call usage_error (ops/lib/servers.sh):",
    );
}
