//! The images of a Kustomization.

use std::rc::Rc;

use super::Stated;
use crate::document::Node;
use crate::pin::{Pin, Text, image, text_of};
use crate::rule::PathLane;

/// Returns the releases that the images of a Kustomization state.
///
/// # Errors
/// The images cannot be read, or it is not clear which one is the service's.
pub(super) fn extract(
    wanted: Option<&str>,
    lane: &PathLane,
    documents: &[Rc<Node>],
) -> Result<Vec<Stated>, String> {
    let mut images = Vec::new();
    for document in documents {
        match document.get("images")? {
            None => {}
            Some(Node::Sequence(items)) => images.extend(items.iter().map(Rc::as_ref)),
            Some(other) => return Err(format!("images is {}, not a list", other.phrase())),
        }
    }
    let mut named = Vec::new();
    for node in images {
        let name = node.text_at(&["name"]).ok_or("an image has no name")?;
        named.push((name, node));
    }
    let Some(service) = &lane.service else {
        named.retain(|(name, _)| wanted.is_none_or(|wanted| is_named(name, wanted)));
        let stated = named.into_iter().map(|(name, node)| statement(Some(last_part(name)), node));
        return Ok(stated.collect());
    };
    let fitting: Vec<_> =
        named.iter().filter(|(name, _)| is_named(name, wanted.unwrap_or(service.as_str()))).collect();
    let chosen = match (fitting.as_slice(), wanted, named.as_slice()) {
        ([one], ..) => Some(one.1),
        ([], None, [only]) => Some(only.1),
        ([], Some(_), _) | ([], None, []) => None,
        _ => return Err("the Kustomization has several images: name the one of the service".to_owned()),
    };
    Ok(chosen.map(|node| statement(None, node)).into_iter().collect())
}

/// Returns true if a name of an image is the wanted one, in full or its last part.
fn is_named(name: &str, wanted: &str) -> bool {
    name == wanted || last_part(name) == wanted
}

fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn statement(service: Option<&str>, node: &Node) -> Stated {
    let mut warnings = Vec::new();
    let pin = read(node, &mut warnings);
    Stated { service: service.map(str::to_owned), pin, warnings }
}

fn read(node: &Node, warnings: &mut Vec<String>) -> Result<Pin, String> {
    let part = |name: &str| -> Result<Option<Text>, String> {
        match node.get(name)? {
            None | Some(Node::Null) => Ok(None),
            Some(node) => text_of(node).map(Some).map_err(|detail| format!("{name} of an image: {detail}")),
        }
    };
    let (tag, digest) = (part("newTag")?, part("digest")?);
    warnings.extend(tag.as_ref().and_then(|tag| tag.warning.clone()));
    let name = part("newName")?.or(part("name")?);
    let [name, tag, digest] = [name, tag, digest].map(|part| part.map(|part| part.text));
    image(name.as_deref(), tag.as_deref(), digest.as_deref())
}
