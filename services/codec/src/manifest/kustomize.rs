//! The Kustomize format: a `kustomization.yaml`. `images` sets the images of an overlay's resources, and the ConfigMap
//! `release-ledger` contains all releases, including those without an image.
//!
//! An overlay belongs to one target, so each target has its own document. Kustomize reads only the first document of a
//! file; a file with several documents starts with a comment that says so.

use std::collections::BTreeMap;

use ledger_domain::{LiveRelease, ServiceName, TargetName};

use super::content::{Manifest, parts, slot};
use super::document::{Map, Node};
use super::yaml;

type Services<'a> = Vec<(&'a ServiceName, &'a LiveRelease)>;

/// Writes one document per target, or a document without images if nothing runs.
pub(super) fn kustomizations(manifest: &Manifest<'_>) -> String {
    let mut targets: BTreeMap<&TargetName, Services<'_>> = BTreeMap::new();
    for (service, target, live) in manifest.composition.lanes() {
        targets.entry(target).or_default().push((service, live));
    }
    if targets.is_empty() {
        return kustomization(manifest, None, &[]);
    }
    let documents = targets.iter().map(|(target, services)| kustomization(manifest, Some(target), services));
    let documents: Vec<_> = documents.collect();
    let mut file = String::new();
    if documents.len() > 1 {
        file.push_str("# One document per target. Kustomize reads only the first document of a file:\n");
        file.push_str("# copy each document into the overlay of its target.\n");
    }
    file.push_str(&documents.join("---\n"));
    file
}

fn kustomization(
    manifest: &Manifest<'_>,
    target: Option<&TargetName>,
    services: &[(&ServiceName, &LiveRelease)],
) -> String {
    let mut comments = target.map_or(String::new(), |target| format!("# target: {target}\n"));
    let mut images = Vec::new();
    for (service, live) in services {
        match image(service, live) {
            Some(image) => images.push(image),
            None => comments.push_str(&format!(
                "# {service}: not in images: its artifact is not an image, or its version is not a valid tag\n"
            )),
        }
    }
    let config_map = Map::default()
        .text("name", "release-ledger")
        // A hash suffix in the name would leave an unused ConfigMap behind at every position.
        .put("options", Map::default().put("disableNameSuffixHash", Node::True).node())
        .put("literals", Node::List(literals(manifest, target, services)));
    let kustomization = Map::default()
        .text("apiVersion", "kustomize.config.k8s.io/v1beta1")
        .text("kind", "Kustomization")
        .put("images", Node::List(images))
        .put("configMapGenerator", Node::List(vec![config_map.node()]));
    comments + &yaml::document(&kustomization.node())
}

/// Returns the replacement for the image that has the service's name in the resources. A digest is immutable, so it is
/// written without a tag.
fn image<'a>(service: &'a ServiceName, live: &LiveRelease) -> Option<Node<'a>> {
    let image = live.release.image()?;
    let map = Map::default().text("name", service.as_str()).optional_text("newName", image.repository);
    let map = match image.digest {
        Some(digest) => map.text("digest", digest),
        None => map.optional_text("newTag", image.tag),
    };
    Some(map.node())
}

/// Returns the ConfigMap's data. A service's keys end in a dot and the name of a part, so that keys are unique. The
/// data is not in annotations: they would be in every pod template, and a new position would restart every pod.
fn literals<'a>(
    manifest: &Manifest<'_>,
    target: Option<&TargetName>,
    services: &[(&ServiceName, &LiveRelease)],
) -> Vec<Node<'a>> {
    let mut literals = vec![
        literal("environment", manifest.environment.as_str()),
        literal("position", &manifest.position.to_string()),
        literal("digest", &manifest.composition.digest()),
    ];
    literals.extend(target.map(|target| literal("target", target.as_str())));
    for (service, live) in services {
        let known = parts(&live.release).chain(slot(live));
        literals.extend(known.map(|(part, text)| literal(&format!("{service}.{part}"), text)));
    }
    literals
}

/// Returns an entry of the ConfigMap. Kustomize strips one pair of quotes from a value, so a value that starts with a
/// quote gets an extra pair.
fn literal<'a>(key: &str, value: &str) -> Node<'a> {
    let quote = if value.starts_with(['"', '\'']) { "\"" } else { "" };
    Node::Text(format!("{key}={quote}{value}{quote}").into())
}
