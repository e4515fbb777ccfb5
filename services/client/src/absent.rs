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

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;

    #[test]
    fn an_absent_command_takes_any_arguments() {
        let command = AbsentArgs::augment_args(clap::Command::new("hook").disable_help_flag(true));
        let given = ["test", "--config=ledger.toml", "--help", "-x"];
        let matches = command.try_get_matches_from(std::iter::once("hook").chain(given));
        let matches = matches.expect("no argument is checked");
        let found: Vec<_> = matches.get_many::<OsString>("arguments").expect("arguments").collect();
        assert_eq!(found, given);
    }

    #[test]
    fn the_error_names_the_command_and_the_feature() {
        assert_eq!(
            AbsentCommand::Server("serve").to_string(),
            "this build of release-ledger has the client's commands only; `serve` needs a build with the feature `server`"
        );
    }
}
