//! Reads the releases that a file states, by the extraction of its rule.

mod argocd;
mod flux;
mod helm;
mod kustomize;

use std::rc::Rc;

use crate::document::Node;
use crate::field::FieldPath;
use crate::pin::{Pin, ValueForm, pin, text_of};
use crate::rule::{Extraction, PathLane};

/// A release that a file states.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stated {
    /// The name of the service in the file, if the extraction finds one.
    pub service: Option<String>,
    /// The release, or the reason for which it is not known. A lane with such a reason keeps what it ran.
    pub pin: Result<Pin, String>,
    /// Reasons for which the release may not be what the file seems to state.
    pub warnings: Vec<String>,
}

impl Stated {
    /// Creates a statement about the lane of the path.
    fn of_path(pin: Result<Pin, String>) -> Self {
        Self { service: None, pin, warnings: Vec::new() }
    }

    /// Creates a statement about the service that a Kubernetes resource is named for. `read` reads its release, and adds
    /// warnings.
    fn of_resource(
        resource: &Node,
        read: impl FnOnce(&Node, &mut Vec<String>) -> Result<Pin, String>,
    ) -> Self {
        let service = resource.text_at(&["metadata", "name"]).map(str::to_owned);
        let mut warnings = Vec::new();
        let pin = read(resource, &mut warnings);
        Self { service, pin, warnings }
    }
}

/// Returns the releases that the documents of a file state. A lane that is not among them runs nothing by this file.
///
/// # Errors
/// The releases of the file are not clear; its lanes keep what they ran.
pub(crate) fn extract(
    extraction: &Extraction,
    lane: &PathLane,
    documents: &[Rc<Node>],
) -> Result<Vec<Stated>, String> {
    if let Some(other) = documents.iter().find(|document| !matches!(***document, Node::Mapping(_))) {
        return Err(format!("a document is {}, not a mapping", other.phrase()));
    }
    match extraction {
        Extraction::Field { field, form } => Ok(by_field(field, *form, documents).into_iter().collect()),
        Extraction::Kustomize { image } => kustomize::extract(image.as_deref(), lane, documents),
        Extraction::Helm => Ok(helm::extract(documents).into_iter().collect()),
        Extraction::ArgoCd => Ok(documents.iter().filter_map(|document| argocd::extract(document)).collect()),
        Extraction::Flux => Ok(documents.iter().filter_map(|document| flux::extract(document)).collect()),
    }
}

fn by_field(field: &FieldPath, form: ValueForm, documents: &[Rc<Node>]) -> Option<Stated> {
    let nodes = match field.find_all(documents) {
        Ok(nodes) => nodes,
        Err(detail) => return Some(Stated::of_path(Err(detail))),
    };
    let mut texts = nodes.into_iter().map(text_of).collect::<Vec<_>>().into_iter();
    let first = match texts.next()? {
        Ok(first) => first,
        Err(detail) => return Some(Stated::of_path(Err(format!("{field}: {detail}")))),
    };
    if texts.any(|other| other.map(|other| other.text) != Ok(first.text.clone())) {
        let detail =
            format!("{field} has several values in the file: select a document, as in [kind=…].{field}");
        return Some(Stated::of_path(Err(detail)));
    }
    let pin = pin(&first.text, form).map_err(|detail| format!("{field}: {detail}"));
    Some(Stated { service: None, pin, warnings: first.warning.into_iter().collect() })
}

#[cfg(test)]
mod tests;
