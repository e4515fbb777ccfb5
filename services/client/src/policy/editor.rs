//! The editor of the user.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::environment;

/// A text that the user edits, in a file. It is removed on drop, unless it is kept.
pub(super) struct Draft(NamedTempFile);

impl Draft {
    /// Writes the text to a new file, which only the user can read.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn new(text: &str) -> anyhow::Result<Self> {
        let failed = "cannot write a temporary file";
        let file = tempfile::Builder::new().prefix("policy-").suffix(".json").tempfile().context(failed)?;
        file.as_file().write_all(text.as_bytes()).context(failed)?;
        Ok(Self(file))
    }

    /// Opens the file in the editor that `VISUAL` or `EDITOR` names, waits for its end, and returns the text.
    ///
    /// # Errors
    /// No editor is named, it fails, or the file cannot be read.
    pub(super) async fn edit(&self) -> anyhow::Result<String> {
        let editor = environment::editor().context("no editor; set VISUAL or EDITOR to one, such as vi")?;
        let (shell, script) = ("/bin/sh", format!("{editor} \"$@\""));
        // As git does: the variable may contain arguments.
        let ended = Command::new(shell)
            .args(["-c", script.as_str(), editor.as_str()])
            .arg(self.0.path())
            .status()
            .await;
        let ended = ended.with_context(|| format!("cannot run the editor {editor}"))?;
        ensure!(ended.success(), "the editor {editor} ended with {ended}; nothing is changed");
        // Some editors replace the file: read it by its name.
        read(self.0.path()).context("cannot read the edited file")
    }

    /// Keeps the file, so that no edit is lost; returns its path.
    pub(super) fn keep(self) -> Option<PathBuf> {
        self.0.into_temp_path().keep().ok()
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    std::fs::File::open(path).and_then(crate::bounded::read_text)
}
