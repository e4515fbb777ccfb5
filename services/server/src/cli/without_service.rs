//! The commands of the service in a build without it: each is an error.

use std::future::{Ready, ready};

use clap::Subcommand;
use ledger_client::{AbsentArgs, AbsentCommand};

/// Schema version of the projections, which this build does not have.
#[derive(Debug, Clone, Copy)]
pub struct SchemaVersion;

impl SchemaVersion {
    /// The only version.
    pub const CURRENT: Self = Self;
}

/// A command that needs a build with the service. The help does not list it.
#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// Absent from this build
    #[command(hide = true, disable_help_flag = true)]
    Up(AbsentArgs),
    /// Absent from this build
    #[command(hide = true, disable_help_flag = true)]
    Serve(AbsentArgs),
    /// Absent from this build
    #[command(hide = true, disable_help_flag = true)]
    Archive(AbsentArgs),
    /// Absent from this build
    #[command(hide = true, disable_help_flag = true)]
    Restore(AbsentArgs),
    /// Absent from this build
    #[command(hide = true, disable_help_flag = true)]
    Hook(AbsentArgs),
    /// Absent from this build
    #[command(hide = true, disable_help_flag = true)]
    Projections(AbsentArgs),
    /// Absent from this build
    #[command(hide = true, disable_help_flag = true)]
    Verify(AbsentArgs),
}

impl ServiceCommand {
    const fn name(&self) -> &'static str {
        match self {
            Self::Up(_) => "up",
            Self::Serve(_) => "serve",
            Self::Archive(_) => "archive",
            Self::Restore(_) => "restore",
            Self::Hook(_) => "hook",
            Self::Projections(_) => "projections",
            Self::Verify(_) => "verify",
        }
    }

    /// Reports that the command is absent.
    pub(super) fn run(self, _schema_version: SchemaVersion) -> Ready<anyhow::Result<()>> {
        ready(Err(AbsentCommand::Server(self.name()).into()))
    }
}
