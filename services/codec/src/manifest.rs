//! What runs in an environment, written so that it can be rebuilt elsewhere.
//!
//! Every form is complete: each lane with its service, target and slot, and all five parts of its
//! release. None has a time in it, so that two environments which run the same differ in their names,
//! their slots and the position only. A form is the same bytes for the same composition, ends with a line
//! feed, and has the composition's digest in it, by which whoever rebuilt can tell that it is the same.

mod document;
mod env;
mod helm;
mod json;
mod kustomize;
mod yaml;

use ledger_domain::{Composition, EnvironmentName, LiveRelease, Position, Release, ShortText, SlotName};

use self::document::{Map, Node};

/// An environment's composition at a position, to be written in the words of infrastructure as code.
#[derive(Debug, Clone, Copy)]
pub struct Manifest<'a> {
    /// The environment.
    pub environment: &'a EnvironmentName,
    /// The position that the composition is true for.
    pub position: Position,
    /// What runs in the environment.
    pub composition: &'a Composition,
}

/// A form of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// The same as YAML.
    Yaml,
    /// Assignments that a shell can source.
    Env,
    /// A `kustomization.yaml`, one document a target.
    Kustomize,
    /// A values file for Helm.
    HelmValues,
}

/// No manifest has this form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no format {0:?} is known; formats are json, yaml, env, kustomize and helm-values")]
pub struct UnknownFormat(pub String);

impl Format {
    /// Every format.
    pub const ALL: &[Self] = &[Self::Json, Self::Yaml, Self::Env, Self::Kustomize, Self::HelmValues];

    /// The format with this name.
    ///
    /// # Errors
    /// None has it.
    pub fn parse(text: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.iter().find(|format| format.name() == text);
        found.copied().ok_or_else(|| UnknownFormat(text.chars().take(64).collect()))
    }

    /// `helm-values`: the format's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Env => "env",
            Self::Kustomize => "kustomize",
            Self::HelmValues => "helm-values",
        }
    }

    /// The media type; YAML's is the one of RFC 9512.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml | Self::Kustomize | Self::HelmValues => "application/yaml",
            Self::Env => "text/plain; charset=utf-8",
        }
    }
}

impl Manifest<'_> {
    /// The manifest in this format.
    #[must_use]
    pub fn write(&self, format: Format) -> String {
        match format {
            Format::Json => json::document(&self.node()),
            Format::Yaml => yaml::document(&self.node()),
            Format::Env => env::file(self),
            Format::Kustomize => kustomize::kustomizations(self),
            Format::HelmValues => helm::values(self),
        }
    }

    /// The manifest as a tree, of which JSON and YAML are two spellings.
    fn node(&self) -> Node<'_> {
        let lanes = self.composition.lanes().map(|(service, target, live)| {
            Map::default()
                .text("service", service.as_str())
                .text("target", target.as_str())
                .maybe_text("slot", live.slot.as_ref().map(SlotName::as_str))
                .put("release", release(&live.release))
                .node()
        });
        Map::default()
            .text("environment", self.environment.as_str())
            .put("position", Node::Number(self.position.get()))
            .text("digest", self.composition.digest())
            .put("lanes", Node::List(lanes.collect()))
            .node()
    }
}

fn release(release: &Release) -> Node<'_> {
    parts(release).fold(Map::default(), |map, (name, text)| map.text(name, text)).node()
}

/// The known parts of a release, with the names that they have everywhere in the API.
fn parts(release: &Release) -> impl Iterator<Item = (&'static str, &str)> {
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

/// The slot of a lane that has slots, named and told as a part of the release is.
fn slot(live: &LiveRelease) -> Option<(&'static str, &str)> {
    Some(("slot", live.slot.as_ref()?.as_str()))
}

#[cfg(test)]
mod tests;
