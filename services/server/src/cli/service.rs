//! The commands of a build with the service.

use clap::Subcommand;

use crate::{archive, hook, projections, restore, serve, up};

pub(super) use ledger_projections::SchemaVersion;

/// A command with direct access to the servers, the settings or an archive of the service.
#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    Up(up::Up),
    Serve(Box<serve::Serve>),
    Archive(Box<archive::Archive>),
    Restore(Box<restore::Restore>),
    #[command(subcommand)]
    Hook(hook::HookCommand),
    #[command(subcommand)]
    Projections(projections::Command),
    Verify(Box<projections::Verify>),
}

impl ServiceCommand {
    /// Runs the command.
    pub(super) async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        match self {
            Self::Up(up) => up.run(schema_version).await,
            Self::Serve(serve) => serve.run(schema_version).await,
            Self::Archive(archive) => archive.run().await,
            Self::Restore(restore) => restore.run(schema_version).await,
            Self::Hook(hook) => hook.run(),
            Self::Projections(command) => command.run(schema_version).await,
            Self::Verify(verify) => verify.run(schema_version).await,
        }
    }
}
