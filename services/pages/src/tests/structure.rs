//! Structure that every page has: what assistive technology and the content security policy need.

use std::collections::BTreeSet;

use super::bodies::{body, entry_of, now, pages, rollback_of};
use super::document::Document;
use crate::{
    Frame, ReleaseQuestion, approval, entry, environment, icon_path, overview, rollback, rollbacks,
    style_path,
};

/// Returns the pages with data and those without.
fn all() -> Vec<(&'static str, String)> {
    let mut all = pages("search-api");
    let frame = Frame { tenant: Some("default"), ..Frame::default() };
    let empty = [
        ("empty overview", overview(&frame, &no_environments(), &no_rollbacks(), now())),
        ("empty environment", environment(&frame, &nothing_runs(), None, now())),
        ("empty rollbacks", rollbacks(&frame, &no_rollbacks(), None)),
        ("empty question", approval(&frame, &ReleaseQuestion::default(), None, None)),
        ("rollback", rollback(&frame, &body(&rollback_of("a")), None)),
        ("entry", entry(&frame, &body(&entry_of("a")), None)),
    ];
    all.extend(empty.map(|(name, page)| (name, page.expect("a rendered page"))));
    all
}

fn no_environments() -> ledger_api_types::OverviewBody {
    body(&serde_json::json!({"position": 0, "environments": []}))
}

fn no_rollbacks() -> ledger_api_types::RollbacksBody {
    body(&serde_json::json!({"position": 0, "rollbacks": []}))
}

fn nothing_runs() -> ledger_api_types::StateBody {
    let state = serde_json::json!({
        "environment": "production", "position": 0, "at": "latest", "digest": "", "lanes": [],
    });
    body(&state)
}

#[test]
fn a_page_has_a_language_a_title_one_heading_and_one_style_sheet() {
    for (page, html) in all() {
        let document = Document::read(&html);
        assert_eq!(
            document.named("html").next().and_then(|html| html.attribute("lang")),
            Some("en"),
            "{page}"
        );
        for name in ["title", "h1", "main", "header"] {
            assert_eq!(document.named(name).count(), 1, "{page}: {name}");
        }
        let loaded: Vec<_> = document.named("link").filter_map(|link| link.attribute("href")).collect();
        assert_eq!(loaded, [icon_path(), style_path()], "{page}");
    }
}

#[test]
fn every_field_has_a_label() {
    for (page, html) in all() {
        let document = Document::read(&html);
        let labels: BTreeSet<_> =
            document.named("label").filter_map(|label| label.attribute("for")).collect();
        let fields = ["input", "textarea", "select"];
        for field in document.elements.iter().filter(|element| fields.contains(&element.name.as_str())) {
            if field.attribute("type") != Some("hidden") {
                let id = field.attribute("id").expect("a field has an id");
                assert!(labels.contains(id), "{page}: {id} has no label");
            }
        }
        let ids: BTreeSet<_> = document.values("id").collect();
        assert!(labels.is_subset(&ids), "{page}: a label of no field");
    }
}

#[test]
fn an_id_is_unique_and_every_reference_to_one_exists() {
    for (page, html) in all() {
        let document = Document::read(&html);
        let ids: BTreeSet<_> = document.values("id").collect();
        assert_eq!(ids.len(), document.values("id").count(), "{page}: an id is used twice");
        for reference in document.values("aria-labelledby").chain(document.values("aria-describedby")) {
            assert!(ids.contains(reference), "{page}: {reference}");
        }
    }
}

#[test]
fn a_region_has_a_name_of_its_own_and_can_be_scrolled_by_keyboard() {
    for (page, html) in all() {
        let document = Document::read(&html);
        let regions: Vec<_> =
            document.elements.iter().filter(|element| element.attribute("role") == Some("region")).collect();
        let names: BTreeSet<_> = regions.iter().map(|region| region.attribute("aria-labelledby")).collect();
        assert!(!names.contains(&None) && names.len() == regions.len(), "{page}");
        assert!(regions.iter().all(|region| region.attribute("tabindex") == Some("0")), "{page}");
    }
}

#[test]
fn a_table_has_a_caption_and_its_headers_a_scope() {
    for (page, html) in all() {
        let document = Document::read(&html);
        assert_eq!(document.named("table").count(), document.named("caption").count(), "{page}");
        assert!(document.named("th").all(|header| header.attribute("scope").is_some()), "{page}");
    }
}

#[test]
fn a_form_that_changes_something_is_posted_and_names_no_actor() {
    for (page, html) in all() {
        let document = Document::read(&html);
        for form in document.named("form") {
            assert!(matches!(form.attribute("method"), Some("get" | "post")), "{page}");
            assert!(form.attribute("action").is_some(), "{page}");
        }
        assert!(document.values("name").all(|name| name != "actor"), "{page}");
    }
}
