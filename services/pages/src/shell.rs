//! Commands to copy into a shell.

use crate::paths::DEFAULT_TENANT;

/// A command line of the program, as a POSIX shell reads it.
#[derive(Debug, Clone)]
pub struct CommandLine(String);

impl CommandLine {
    /// Returns the command line of a subcommand.
    #[must_use]
    pub fn new(subcommand: &str) -> Self {
        Self(format!("release-ledger {subcommand}"))
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, text: &str) -> Self {
        self.0.push(' ');
        self.0.push_str(&quoted(text));
        self
    }

    /// Adds a flag with its value, if there is one.
    #[must_use]
    pub fn flag(mut self, name: &str, value: Option<&str>) -> Self {
        let Some(value) = value else { return self };
        self.0.push(' ');
        self.0.push_str(name);
        self.argument(value)
    }

    /// Adds the flag of the tenant, unless it is the default.
    #[must_use]
    pub fn of_tenant(self, tenant: &str) -> Self {
        self.flag("--tenant", (tenant != DEFAULT_TENANT).then_some(tenant))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the command that requests a path of the API.
pub(crate) fn curl(path: &str) -> String {
    format!("curl -H \"Authorization: Bearer $RELEASE_LEDGER_TOKEN\" \"$RELEASE_LEDGER_URL\"{}", quoted(path))
}

/// Returns an argument unchanged, or in quotes if a shell could read it in another way.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_its_arguments_and_the_flags_that_are_set() {
        let command = CommandLine::new("state").argument("production").flag("--at", Some("-1"));
        let command = command.flag("--known-at", None).of_tenant("shop");

        assert_eq!(command.as_str(), "release-ledger state production --at -1 --tenant shop");
        assert_eq!(CommandLine::new("overview").of_tenant("default").as_str(), "release-ledger overview");
    }

    #[test]
    fn a_shell_reads_any_text_as_one_argument() {
        for (text, argument) in
            [("", "''"), ("a b", "'a b'"), ("$(id)", "'$(id)'"), ("it's", r"'it'\''s'"), ("a;b", "'a;b'")]
        {
            assert_eq!(
                CommandLine::new("entry").argument(text).as_str(),
                format!("release-ledger entry {argument}")
            );
        }
    }

    #[test]
    fn a_query_is_quoted() {
        assert!(curl("/v1/rollbacks?a=1&b=2").ends_with(" \"$RELEASE_LEDGER_URL\"'/v1/rollbacks?a=1&b=2'"));
    }
}
