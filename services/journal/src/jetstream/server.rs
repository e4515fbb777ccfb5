//! Which servers a ledger can be kept on.

use std::fmt;

/// A server's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion(u32, u32, u32);

/// The server does not do what a ledger needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// It tells no version that can be read.
    #[error("the NATS server tells no version that can be read: {0:?}")]
    Unreadable(String),
    /// It is too old: before 2.12.1 there is no atomic batch with duplicate detection in it.
    #[error("nats-server {0} is too old: a ledger needs 2.12.1 or later, 2.15.1 is recommended")]
    TooOld(ServerVersion),
    /// It is too old for replicas: before these, expectations could be violated on three nodes.
    #[error(
        "nats-server {0} is too old for {1} replicas: 2.12.14, 2.14.4, 2.15 or later is needed, 2.15.1 is recommended"
    )]
    TooOldForReplicas(ServerVersion, usize),
}

impl ServerVersion {
    pub(super) fn parse(text: &str) -> Result<Self, VersionError> {
        let unreadable = || VersionError::Unreadable(text.to_owned());
        let release = text.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
        let mut parts = release.split('.').map(str::parse);
        let mut part = || parts.next().and_then(Result::ok).ok_or_else(unreadable);
        Ok(Self(part()?, part()?, part()?))
    }

    pub(super) fn check(self, replicas: usize) -> Result<(), VersionError> {
        if self < Self(2, 12, 1) {
            return Err(VersionError::TooOld(self));
        }
        let fit_for_replicas = match self {
            Self(2, 12 | 13, patch) => patch >= 14,
            Self(2, 14, patch) => patch >= 4,
            _ => true,
        };
        if replicas > 1 && !fit_for_replicas {
            return Err(VersionError::TooOldForReplicas(self, replicas));
        }
        Ok(())
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: &str, replicas: usize) -> Result<(), VersionError> {
        ServerVersion::parse(version)?.check(replicas)
    }

    #[test]
    fn the_oldest_server_depends_on_the_replicas() {
        for good in ["2.12.1", "2.14.0", "2.15.1", "2.15.0-dev", "3.0.0"] {
            assert_eq!(check(good, 1), Ok(()), "{good}");
        }
        for good in ["2.12.14", "2.14.4", "2.15.0", "2.15.1"] {
            assert_eq!(check(good, 3), Ok(()), "{good}");
        }
        for old in ["2.9.10", "2.11.11", "2.12.0"] {
            assert!(matches!(check(old, 1), Err(VersionError::TooOld(_))), "{old}");
        }
        for old in ["2.12.13", "2.14.3"] {
            assert!(matches!(check(old, 3), Err(VersionError::TooOldForReplicas(..))), "{old}");
        }
    }

    #[test]
    fn a_version_that_cannot_be_read_is_refused() {
        assert!(matches!(check("", 1), Err(VersionError::Unreadable(_))));
        assert!(matches!(check("2.15", 1), Err(VersionError::Unreadable(_))));
    }
}
