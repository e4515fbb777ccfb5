//! A `kustomization.yaml` by the reference of Kustomize's kustomization file: `images` for what the
//! resources of an overlay run, and a ConfigMap `release-ledger` with everything, also with what is no
//! image.
//!
//! An overlay is one target's, so each target has a document of its own. Kustomize reads only the first
//! document of a file, which the file says where it has more.

use std::collections::BTreeMap;

use ledger_domain::{LiveRelease, ServiceName, TargetName};

use super::document::{Map, Node};
use super::{Manifest, parts, slot, yaml};

type Services<'a> = Vec<(&'a ServiceName, &'a LiveRelease)>;

/// A document a target; one without images where nothing runs.
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
        file.push_str("# One document a target. Kustomize reads only the first document of a file:\n");
        file.push_str("# put each into the overlay of its target.\n");
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
                "# {service}: not among the images: its artifact is no image, or its version cannot be a tag\n"
            )),
        }
    }
    let config_map = Map::default()
        .text("name", "release-ledger")
        // A name with a hash would leave a ConfigMap behind with every position.
        .put("options", Map::default().put("disableNameSuffixHash", Node::True).node())
        .put("literals", Node::List(literals(manifest, target, services)));
    let kustomization = Map::default()
        .text("apiVersion", "kustomize.config.k8s.io/v1beta1")
        .text("kind", "Kustomization")
        .put("images", Node::List(images))
        .put("configMapGenerator", Node::List(vec![config_map.node()]));
    comments + &yaml::document(&kustomization.node())
}

/// What is put in the place of the image that resources call by the service's name. A digest, which
/// cannot move, stands without a tag.
fn image<'a>(service: &'a ServiceName, live: &LiveRelease) -> Option<Node<'a>> {
    let image = live.release.image()?;
    let map = Map::default().text("name", service.as_str()).maybe_text("newName", image.repository);
    let map = match image.digest {
        Some(digest) => map.text("digest", digest),
        None => map.maybe_text("newTag", image.tag),
    };
    Some(map.node())
}

/// The ConfigMap's data. A service's keys end in a dot and a word, so that no two are the same. It is
/// not told by annotations: they would be in every pod's template, and a new position would restart
/// every pod.
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

/// Kustomize takes a pair of quotes off a value, so that a value which begins with one gets another.
fn literal<'a>(key: &str, value: &str) -> Node<'a> {
    let quote = if value.starts_with(['"', '\'']) { "\"" } else { "" };
    Node::Text(format!("{key}={quote}{value}{quote}").into())
}
