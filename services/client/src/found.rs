//! Exit code of questions: found something, or nothing.

/// Flags of commands that look for something.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(super) struct FoundArgs {
    /// Exit with 3 if there is something to show, and with 0 if there is nothing
    #[arg(long)]
    exit_code: bool,
    /// Print nothing, and exit as with --exit-code
    #[arg(short, long)]
    quiet: bool,
}

/// A question found something; only with `--exit-code` or `--quiet`. The answer is printed already.
#[derive(Debug, thiserror::Error)]
#[error("found something")]
pub struct Found;

impl FoundArgs {
    /// Returns true if the answer is to be printed.
    pub(super) const fn prints(self) -> bool {
        !self.quiet
    }

    /// Returns the result of the command.
    ///
    /// # Errors
    /// [`Found`] if something was found and the flags ask for the exit code.
    pub(super) fn result(self, is_found: bool) -> anyhow::Result<()> {
        if is_found && (self.exit_code || self.quiet) { Err(Found.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_found_is_an_error_only_if_the_flags_ask_for_it() {
        let asked = FoundArgs { exit_code: true, quiet: false };
        let quiet = FoundArgs { exit_code: false, quiet: true };
        assert!(FoundArgs::default().result(true).is_ok());
        assert!(asked.result(false).is_ok() && quiet.result(false).is_ok());
        for flags in [asked, quiet] {
            assert!(flags.result(true).expect_err("found").is::<Found>());
        }
        assert!(asked.prints() && !quiet.prints());
    }
}
