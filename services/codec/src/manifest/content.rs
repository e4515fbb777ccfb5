//! The content of a manifest, and the names of a release's parts in every format.

use ledger_domain::{Composition, EnvironmentName, LiveRelease, Position, Release, ShortText};

/// An environment's composition at a position, to be written in a format of an infrastructure-as-code tool.
#[derive(Debug, Clone, Copy)]
pub struct Manifest<'a> {
    /// The environment.
    pub environment: &'a EnvironmentName,
    /// The position at which the composition holds.
    pub position: Position,
    /// The releases that run in the environment.
    pub composition: &'a Composition,
}

/// Returns the known parts of a release with the names that they have throughout the API.
pub(super) fn parts(release: &Release) -> impl Iterator<Item = (&'static str, &str)> {
    [
        ("version", Some(release.version.as_str())),
        ("artifact", release.artifact.as_ref().map(|artifact| artifact.as_str())),
        ("config", release.config.as_ref().map(|config| config.as_str())),
        ("infrastructure", release.infrastructure.as_ref().map(ShortText::as_str)),
        ("commit", release.commit.as_ref().map(ShortText::as_str)),
    ]
    .into_iter()
    .filter_map(|(name, text)| Some((name, text?)))
}

/// Returns the live slot of a lane with slots, in the form of a part of the release.
pub(super) fn slot(live: &LiveRelease) -> Option<(&'static str, &str)> {
    Some(("slot", live.slot.as_ref()?.as_str()))
}
