//! Manifests: the composition of an environment, written so that the environment can be rebuilt elsewhere.
//!
//! Every format is complete: it contains each lane with its service, target and slot, and all five parts of its
//! release. None contains a time, so two environments that run the same releases differ only in name, slots and
//! position. The output is deterministic: the same composition gives the same bytes. It ends with a line feed and
//! contains the composition's digest, with which a rebuilt environment can be verified.

mod content;
mod document;
mod env;
mod helm;
mod json;
mod kustomize;
mod yaml;

use ledger_domain::{Release, SlotName};

use self::content::parts;
use self::document::{Map, Node};

pub use content::Manifest;

/// A manifest format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// The same object as YAML.
    Yaml,
    /// Variable assignments that a shell can source.
    Env,
    /// A `kustomization.yaml`, one document per target.
    Kustomize,
    /// A values file for Helm.
    HelmValues,
}

/// The error for a name that is not a manifest format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown manifest format {0:?}; use json, yaml, env, kustomize or helm-values")]
pub struct UnknownFormat(pub String);

impl Format {
    /// All formats.
    pub const ALL: &[Self] = &[Self::Json, Self::Yaml, Self::Env, Self::Kustomize, Self::HelmValues];

    /// Parses the name of a format.
    ///
    /// # Errors
    /// No format has this name.
    pub fn parse(text: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.iter().find(|format| format.name() == text);
        found.copied().ok_or_else(|| UnknownFormat(text.chars().take(64).collect()))
    }

    /// Returns the name of the format, such as `helm-values`.
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

    /// Returns the media type; for YAML, that of RFC 9512.
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
    /// Writes the manifest in a format.
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

    /// Returns the document that the formats JSON and YAML share.
    fn node(&self) -> Node<'_> {
        let lanes = self.composition.lanes().map(|(service, target, live)| {
            Map::default()
                .text("service", service.as_str())
                .text("target", target.as_str())
                .optional_text("slot", live.slot.as_ref().map(SlotName::as_str))
                .put("release", release_node(&live.release))
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

fn release_node(release: &Release) -> Node<'_> {
    parts(release).fold(Map::default(), |map, (name, text)| map.text(name, text)).node()
}

#[cfg(test)]
mod tests;
