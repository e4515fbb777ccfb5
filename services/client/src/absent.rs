//! Commands that a build of the program does not have.

use std::ffi::OsString;

/// This build of the program does not have the command.
#[derive(Debug, thiserror::Error)]
pub enum AbsentCommand {
    /// A command of the service, which is named.
    #[error(
        "this build of release-ledger has the client's commands only; `{0}` needs a build with the feature `server`"
    )]
    Server(&'static str),
    /// The command `import gitops`.
    #[error(
        "this build of release-ledger cannot read Git repositories; `import gitops` needs a build with the feature \
         `gitops`"
    )]
    GitOps,
}

/// Any arguments: those of an absent command are not checked.
#[derive(Debug, clap::Args)]
pub struct AbsentArgs {
    /// The arguments of the command
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub arguments: Vec<OsString>,
}
