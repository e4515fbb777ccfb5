//! The chart and the image of a Flux `HelmRelease`.

use super::{Stated, helm};
use crate::document::Node;
use crate::pin::{Pin, moving, text_of, version};
use ledger_domain::ShortText;

/// Returns the release that a document states; `None` if it is no `HelmRelease`.
pub(super) fn extract(document: &Node) -> Option<Stated> {
    if document.text_at(&["kind"]) != Some("HelmRelease") {
        return None;
    }
    Some(Stated::of_resource(document, read))
}

fn read(document: &Node, warnings: &mut Vec<String>) -> Result<Pin, String> {
    let Some(spec) = document.get("spec")? else { return Err("the HelmRelease has no spec".to_owned()) };
    let chart = chart_version(spec, warnings)?;
    let values = match spec.get("values")? {
        Some(values @ Node::Mapping(_)) => helm::of_values(values),
        _ => None,
    };
    match (values, chart) {
        (Some(Stated { pin: Ok(pin), warnings: of_values, .. }), chart) => {
            warnings.extend(of_values);
            let detail = chart.map(|chart| ShortText::parse(&format!("chart {chart}")));
            Ok(Pin {
                detail: detail.transpose().map_err(|error| format!("the chart's version {error}"))?,
                ..pin
            })
        }
        // The chart chooses the image: its version is that of the release.
        (None, Some(chart)) => Ok(Pin { version: version(&chart)?, artifact: None, detail: None }),
        (Some(Stated { pin: Err(detail), .. }), _) => Err(detail),
        (None, None) => {
            Err("the HelmRelease states neither spec.chart.spec.version nor values.image.tag".to_owned())
        }
    }
}

fn chart_version(spec: &Node, warnings: &mut Vec<String>) -> Result<Option<String>, String> {
    let Some(chart @ Node::Mapping(_)) = spec.get("chart")? else { return Ok(None) };
    let node = match chart.get("spec")? {
        Some(chart_spec) => chart_spec.get("version")?,
        // The first generation of Flux.
        None => chart.get("version")?,
    };
    let Some(node) = node else { return Ok(None) };
    let text = text_of(node).map_err(|detail| format!("the chart's version: {detail}"))?;
    warnings.extend(text.warning.into_iter().chain(moving(&text.text)));
    Ok(Some(text.text))
}
