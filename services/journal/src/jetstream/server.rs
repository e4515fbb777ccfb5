//! NATS server versions that a ledger supports.

use std::fmt;

/// Version of a NATS server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion(u32, u32, u32);

/// Error: the server does not support what a ledger needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// The version is not in a known format.
    #[error("cannot parse the version of the NATS server: {0:?}")]
    Unreadable(String),
    /// The server is too old: versions before 2.12.1 have no atomic batch with duplicate detection.
    #[error("nats-server {0} is too old; install 2.12.1 or later (recommended: 2.15.1)")]
    TooOld(ServerVersion),
    /// The server is too old for replicas: earlier versions can violate an expected last sequence on three nodes.
    #[error(
        "nats-server {0} is too old for {1} replicas; \
         install 2.12.14, 2.14.4, 2.15 or later (recommended: 2.15.1)"
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
        let supports_replicas = match self {
            Self(2, 12 | 13, patch) => patch >= 14,
            Self(2, 14, patch) => patch >= 4,
            _ => true,
        };
        if replicas > 1 && !supports_replicas {
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
    fn the_minimum_version_depends_on_the_replicas() {
        for supported in ["2.12.1", "2.14.0", "2.15.1", "2.15.0-dev", "3.0.0"] {
            assert_eq!(check(supported, 1), Ok(()), "{supported}");
        }
        for supported in ["2.12.14", "2.14.4", "2.15.0", "2.15.1"] {
            assert_eq!(check(supported, 3), Ok(()), "{supported}");
        }
        for old in ["2.9.10", "2.11.11", "2.12.0"] {
            assert!(matches!(check(old, 1), Err(VersionError::TooOld(_))), "{old}");
        }
        for old in ["2.12.13", "2.14.3"] {
            assert!(matches!(check(old, 3), Err(VersionError::TooOldForReplicas(..))), "{old}");
        }
    }

    #[test]
    fn a_malformed_version_is_rejected() {
        assert!(matches!(check("", 1), Err(VersionError::Unreadable(_))));
        assert!(matches!(check("2.15", 1), Err(VersionError::Unreadable(_))));
    }
}
