//! The image in the values of a Helm chart.

use std::rc::Rc;

use super::Stated;
use crate::document::Node;
use crate::field::FieldPath;
use crate::pin::{Pin, Text, ValueForm, image, pin, text_of};

/// Returns the release that the values state; `None` if they state no image.
pub(super) fn extract(documents: &[Rc<Node>]) -> Option<Stated> {
    match documents {
        [] => None,
        [values] => of_values(values).or_else(|| {
            let is_empty = FieldPath::of_keys(&["image", "tag"]).find(values) != Ok(None);
            let detail = "image.tag is empty: the chart chooses the version".to_owned();
            is_empty.then(|| Stated::of_path(Err(detail)))
        }),
        _ => {
            Some(Stated::of_path(Err("the file has several documents; values of a chart are one".to_owned())))
        }
    }
}

/// Returns the release that values state in `image`; `None` if they state neither tag nor digest, or empty ones.
pub(super) fn of_values(values: &Node) -> Option<Stated> {
    let mut warnings = Vec::new();
    match read(values, &mut warnings) {
        Ok(pin) => pin.map(|pin| Stated { service: None, pin: Ok(pin), warnings }),
        Err(detail) => Some(Stated { service: None, pin: Err(detail), warnings }),
    }
}

fn read(values: &Node, warnings: &mut Vec<String>) -> Result<Option<Pin>, String> {
    let Some(node) = values.get("image")? else { return Ok(None) };
    if let Node::Scalar { .. } = node {
        return pin(&text_of(node)?.text, ValueForm::Image).map(Some);
    }
    let tag = part(node, "tag")?;
    let digest = part(node, "digest")?;
    if tag.is_none() && digest.is_none() {
        return Ok(None);
    }
    warnings.extend(tag.as_ref().and_then(|tag| tag.warning.clone()));
    let registry = part(node, "registry")?.map(|registry| registry.text);
    let repository = part(node, "repository")?.map(|repository| repository.text);
    let repository = match (registry, repository) {
        (Some(registry), Some(repository)) => Some(format!("{registry}/{repository}")),
        (_, repository) => repository,
    };
    let [tag, digest] = [tag, digest].map(|part| part.map(|part| part.text));
    image(repository.as_deref(), tag.as_deref(), digest.as_deref()).map(Some)
}

/// Returns a part of an image; `None` if it is missing or empty, which charts take for missing.
fn part(image: &Node, name: &str) -> Result<Option<Text>, String> {
    match FieldPath::of_keys(&[name]).find(image)? {
        None | Some(Node::Null) => Ok(None),
        Some(Node::Scalar { text, .. }) if text.trim().is_empty() => Ok(None),
        Some(node) => text_of(node).map(Some).map_err(|detail| format!("image.{name}: {detail}")),
    }
}
