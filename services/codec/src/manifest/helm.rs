//! A values file for Helm, by its documentation's chapter on values files: services by name, then their
//! targets by name, one shape whether a service has one target or several.
//!
//! `image` has the words that charts commonly use, `repository`, `tag` and `digest`, of which the digest
//! wins where there is one.

use ledger_domain::{LiveRelease, ShortText, SlotName};

use super::document::{Map, Node};
use super::{Manifest, yaml};

/// The values.
pub(super) fn values(manifest: &Manifest<'_>) -> String {
    let ledger = Map::default()
        .text("environment", manifest.environment.as_str())
        // As text: templates of Helm read numbers as floating ones and write large ones as 1e+06.
        .text("position", manifest.position.to_string())
        .text("digest", manifest.composition.digest());
    let lanes: Vec<_> = manifest.composition.lanes().collect();
    let services = lanes.chunk_by(|(one, ..), (other, ..)| one == other).map(|lanes| {
        let targets = lanes
            .iter()
            .fold(Map::default(), |map, (_, target, live)| map.put_named(target.as_str(), running(live)));
        (lanes[0].0.as_str(), Map::default().put("targets", targets.node()).node())
    });
    let services = services.fold(Map::default(), |map, (service, node)| map.put_named(service, node));
    let values = Map::default().put("releaseLedger", ledger.node()).put("services", services.node());
    yaml::document(&values.node())
}

fn running(live: &LiveRelease) -> Node<'_> {
    let release = &live.release;
    let map = Map::default().text("version", release.version.as_str());
    let map = match release.image() {
        Some(image) => map.put(
            "image",
            Map::default()
                .maybe_text("repository", image.repository)
                .maybe_text("tag", image.tag)
                .maybe_text("digest", image.digest)
                .node(),
        ),
        None => map,
    };
    map.maybe_text("artifact", release.artifact.as_ref().map(|artifact| artifact.as_str()))
        .maybe_text("configDigest", release.config.as_ref().map(|config| config.as_str()))
        .maybe_text("infrastructureRevision", release.infrastructure.as_ref().map(ShortText::as_str))
        .maybe_text("commit", release.commit.as_ref().map(ShortText::as_str))
        .maybe_text("slot", live.slot.as_ref().map(SlotName::as_str))
        .node()
}
