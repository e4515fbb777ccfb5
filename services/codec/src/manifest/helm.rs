//! The Helm format: a values file as Helm's documentation describes it. It has services by name, and their targets by
//! name, even if a service has only one target.
//!
//! `image` has the members that charts commonly use: `repository`, `tag` and `digest`. The digest takes
//! precedence if there is one.

use ledger_domain::{LiveRelease, ShortText, SlotName};

use super::content::Manifest;
use super::document::{Map, Node};
use super::yaml;

/// Writes the values file.
pub(super) fn values(manifest: &Manifest<'_>) -> String {
    let ledger = Map::default()
        .text("environment", manifest.environment.as_str())
        // A string: Helm templates parse numbers as floating-point and print large ones as 1e+06.
        .text("position", manifest.position.to_string())
        .text("digest", manifest.composition.digest());
    let lanes: Vec<_> = manifest.composition.lanes().collect();
    let services = lanes.chunk_by(|(one, ..), (other, ..)| one == other).map(|lanes| {
        let targets = lanes
            .iter()
            .fold(Map::default(), |map, (_, target, live)| map.put_named(target.as_str(), lane_node(live)));
        (lanes[0].0.as_str(), Map::default().put("targets", targets.node()).node())
    });
    let services = services.fold(Map::default(), |map, (service, node)| map.put_named(service, node));
    let values = Map::default().put("releaseLedger", ledger.node()).put("services", services.node());
    yaml::document(&values.node())
}

fn lane_node(live: &LiveRelease) -> Node<'_> {
    let release = &live.release;
    let map = Map::default().text("version", release.version.as_str());
    let map = match release.image() {
        Some(image) => map.put(
            "image",
            Map::default()
                .optional_text("repository", image.repository)
                .optional_text("tag", image.tag)
                .optional_text("digest", image.digest)
                .node(),
        ),
        None => map,
    };
    map.optional_text("artifact", release.artifact.as_ref().map(|artifact| artifact.as_str()))
        .optional_text("configDigest", release.config.as_ref().map(|config| config.as_str()))
        .optional_text("infrastructureRevision", release.infrastructure.as_ref().map(ShortText::as_str))
        .optional_text("commit", release.commit.as_ref().map(ShortText::as_str))
        .optional_text("slot", live.slot.as_ref().map(SlotName::as_str))
        .node()
}
