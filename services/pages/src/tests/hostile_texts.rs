//! Hostile texts in every field of every page stay text.

use ledger_domain::is_format;

use super::bodies::pages;
use super::document::{Document, Element};
use crate::shown::{shown, shown_lines};

const TEXTS: &[&str] = &[
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "\" onmouseover=\"alert(1)",
    "' onfocus='alert(1)' autofocus='",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)//https://x.example",
    "data:text/html,<script>alert(1)</script>",
    "https://x.example/\" onclick=\"alert(1)",
    "//x.example/path",
    "/\\x.example/../../signout?a=1&b=2#c",
    "</title></textarea></pre></code><svg onload=alert(1)>",
    "<!-- --><![CDATA[ ]]><?x ?>",
    "{{ 7 * 7 }}{% block content %}{# x #}",
    "&lt;script&gt;&#60;b&#62;&amp;quot;",
    "v1\u{202e}2v\u{200b}\u{0}\u{7}\u{1b}[31m",
    "a\r\nSet-Cookie: x=1\tb",
    "https://ci.example/run?a=1&b=2",
];

/// Elements that the templates use. None loads, runs or embeds anything but the style sheet and the icon.
const ELEMENTS: &[&str] = &[
    "a", "body", "button", "caption", "code", "dd", "div", "dl", "dt", "footer", "form", "h1", "h2", "head",
    "header", "html", "input", "label", "li", "link", "main", "meta", "nav", "ol", "p", "pre", "progress",
    "section", "small", "span", "strong", "table", "tbody", "td", "textarea", "th", "thead", "time", "title",
    "tr", "ul",
];

/// Attributes that the templates use: no style and no event handler.
const ATTRIBUTES: &[&str] = &[
    "action",
    "aria-current",
    "aria-describedby",
    "aria-hidden",
    "aria-label",
    "aria-labelledby",
    "autocomplete",
    "charset",
    "checked",
    "class",
    "content",
    "datetime",
    "for",
    "href",
    "id",
    "lang",
    "max",
    "method",
    "name",
    "rel",
    "required",
    "role",
    "rows",
    "scope",
    "spellcheck",
    "tabindex",
    "title",
    "type",
    "value",
];

#[test]
fn a_text_never_becomes_markup() {
    for text in TEXTS {
        for (page, html) in pages(text) {
            for Element { name, attributes } in Document::read(&html).elements {
                assert!(ELEMENTS.contains(&name.as_str()), "{page}: element {name} from {text:?}");
                for (attribute, _) in attributes {
                    assert!(ATTRIBUTES.contains(&attribute.as_str()), "{page}: {attribute} from {text:?}");
                }
            }
        }
    }
}

#[test]
fn a_page_has_the_same_elements_with_any_text() {
    let names = |text: &str| -> Vec<(&'static str, Vec<String>)> {
        let names =
            |html: &str| Document::read(html).elements.into_iter().map(|element| element.name).collect();
        pages(text).iter().map(|(page, html)| (*page, names(html))).collect()
    };
    let plain = names("plain");
    for text in TEXTS.iter().filter(|text| !text.starts_with("https://ci.example")) {
        assert_eq!(names(text), plain, "{text:?}");
    }
}

#[test]
fn a_link_leads_to_a_path_of_the_service_or_to_a_web_page() {
    for text in TEXTS {
        for (page, html) in pages(text) {
            let document = Document::read(&html);
            for element in &document.elements {
                for target in ["href", "action"].into_iter().filter_map(|name| element.attribute(name)) {
                    let is_own = target.starts_with('#')
                        || (target.starts_with('/')
                            && !target.starts_with("//")
                            && !target.starts_with("/\\"));
                    let is_web = (target.starts_with("https://") || target.starts_with("http://"))
                        && element.name == "a"
                        && element.attribute("rel") == Some("noopener noreferrer");
                    assert!(is_own || is_web, "{page}: {target} from {text:?}");
                }
            }
        }
    }
}

#[test]
fn control_and_format_characters_are_visible() {
    for text in TEXTS {
        for (page, html) in pages(text) {
            let document = Document::read(&html);
            // A form submits its fields unchanged.
            let attributes = document.elements.iter().flat_map(|element| &element.attributes);
            let values = attributes.filter(|(name, _)| name != "value").map(|(_, value)| value.as_str());
            for value in values.chain([document.text.as_str()]) {
                let is_invisible = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || is_format(c);
                assert!(!value.contains(is_invisible), "{page}: {value:?}");
            }
        }
    }
}

#[test]
fn a_text_is_shown_in_full() {
    for text in TEXTS {
        for (page, html) in pages(text) {
            let found = Document::read(&html).text;
            let is_shown = found.contains(&shown(text)) || found.contains(&shown_lines(text));
            assert!(is_shown, "{page} does not show {text:?}");
        }
    }
}
