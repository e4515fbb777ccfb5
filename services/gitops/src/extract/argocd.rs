//! The revision of an Argo CD Application.

use std::rc::Rc;

use super::Stated;
use crate::document::Node;
use crate::pin::{Pin, moving, text_of, version};

/// Returns the release that a document states; `None` if it is no Application.
pub(super) fn extract(document: &Node) -> Option<Stated> {
    // Another project has a kind of this name.
    let is_argocd =
        document.text_at(&["apiVersion"]).is_none_or(|version| version.starts_with("argoproj.io/"));
    if document.text_at(&["kind"]) != Some("Application") || !is_argocd {
        return None;
    }
    Some(Stated::of_resource(document, read))
}

fn read(document: &Node, warnings: &mut Vec<String>) -> Result<Pin, String> {
    let Some(spec) = document.get("spec")? else { return Err("the Application has no spec".to_owned()) };
    let sources: Vec<&Node> = match (spec.get("sources")?, spec.get("source")?) {
        // Argo CD ignores `source` if there are `sources`.
        (Some(Node::Sequence(sources)), _) if !sources.is_empty() => sources.iter().map(Rc::as_ref).collect(),
        (_, Some(source)) => vec![source],
        _ => return Err("the Application has no source".to_owned()),
    };
    let mut revisions = Vec::new();
    for source in sources.into_iter().filter(|source| is_deployed(source)) {
        let node = source.get("targetRevision")?;
        let node = node.ok_or("a source has no targetRevision, which means the latest commit or chart")?;
        let text = text_of(node).map_err(|detail| format!("targetRevision: {detail}"))?;
        if !revisions.contains(&text) {
            revisions.push(text);
        }
    }
    match revisions.as_slice() {
        [one] => {
            warnings.extend(one.warning.clone().into_iter().chain(moving(&one.text)));
            Ok(Pin { version: version(&one.text)?, artifact: None, detail: None })
        }
        [] => Err("no source of the Application is deployed: each is a ref only".to_owned()),
        _ => Err("the Application has several sources with different revisions: name a field, such as \
                  spec.sources[0].targetRevision"
            .to_owned()),
    }
}

/// Returns false for a source that only provides values to another.
fn is_deployed(source: &Node) -> bool {
    let has = |name| !matches!(source.get(name), Ok(None));
    !has("ref") || has("chart") || has("path")
}
