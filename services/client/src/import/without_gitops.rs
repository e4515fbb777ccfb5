//! `release-ledger import gitops` in a build without it: an error.

use std::future::{Ready, ready};

use crate::absent::{AbsentArgs, AbsentCommand};

/// The command `import gitops`.
#[derive(Debug, clap::Args)]
pub struct ImportGitOps {
    #[command(flatten)]
    arguments: AbsentArgs,
}

impl ImportGitOps {
    /// Reports that the command is absent.
    pub(super) fn run(self) -> Ready<anyhow::Result<()>> {
        drop(self.arguments);
        ready(Err(AbsentCommand::GitOps.into()))
    }
}
