//! The env format: assignments `NAME='value'` that a shell can source (POSIX, Shell Command Language, quoting). Parsers
//! of `.env` files can read them too, as long as no value contains a single quote.
//!
//! Each lane has the variables `<LANE>_SERVICE`, `_TARGET` and `_VERSION` and, if known, `_ARTIFACT`,
//! `_ARTIFACT_DIGEST`, `_CONFIG`, `_INFRASTRUCTURE`, `_COMMIT` and `_SLOT`. `<LANE>` is the service, followed by the
//! target unless that is `default`, in upper case, with `_` for all characters but letters and digits:
//! `SEARCH_API_EU_WEST_1`. `RELEASE_LEDGER_LANES` lists the lane names.
//!
//! Lanes with colliding names (`a-b` and `a.b`) all get escaped names instead: each character that is neither a
//! lower-case letter nor a digit becomes `_` and its two hexadecimal digits, and `__` precedes the target: `A_2DB` and
//! `A_2EB`. Escaped names are unique, so that no lane is lost.

use std::collections::{BTreeMap, BTreeSet};

use ledger_domain::{ServiceName, TargetName};

use super::content::{Manifest, parts, slot};

type Lane<'a> = (&'a ServiceName, &'a TargetName);

/// Writes the file.
pub(super) fn file(manifest: &Manifest<'_>) -> String {
    let lanes: Vec<_> = manifest.composition.lanes().collect();
    let names = lane_names(&lanes.iter().map(|(service, target, _)| (*service, *target)).collect::<Vec<_>>());
    let mut out = String::new();
    assign("RELEASE_LEDGER", "environment", manifest.environment.as_str(), &mut out);
    assign("RELEASE_LEDGER", "position", &manifest.position.to_string(), &mut out);
    assign("RELEASE_LEDGER", "digest", &manifest.composition.digest(), &mut out);
    assign("RELEASE_LEDGER", "lanes", &names.join(" "), &mut out);
    for ((service, target, live), name) in lanes.iter().zip(&names) {
        assign(name, "service", service.as_str(), &mut out);
        assign(name, "target", target.as_str(), &mut out);
        for (part, text) in parts(&live.release).chain(slot(live)) {
            assign(name, part, text, &mut out);
        }
        if let Some(digest) = live.release.artifact.as_ref().and_then(|artifact| artifact.digest()) {
            assign(name, "artifact_digest", &digest, &mut out);
        }
    }
    out
}

/// Writes an assignment in single quotes, within which a shell treats every other character literally.
fn assign(name: &str, part: &str, value: &str, out: &mut String) {
    let (part, value) = (part.to_ascii_uppercase(), value.replace('\'', r"'\''"));
    out.push_str(&format!("{name}_{part}='{value}'\n"));
}

/// Returns a unique name for each lane. The variable names are unique as well: no suffix (`_VERSION`, `_SLOT` and so
/// on) is the end of another.
fn lane_names(lanes: &[Lane<'_>]) -> Vec<String> {
    let mut escaped = BTreeSet::new();
    loop {
        let names: Vec<_> = lanes
            .iter()
            .map(|lane| if escaped.contains(lane) { escaped_name(*lane) } else { short_name(*lane) })
            .collect();
        let mut lanes_by_name: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, lane) in names.iter().zip(lanes) {
            lanes_by_name.entry(name).or_default().push(*lane);
        }
        let before = escaped.len();
        escaped.extend(lanes_by_name.into_values().filter(|lanes| lanes.len() > 1).flatten());
        // An escaped name may collide with another lane's short name, which is then escaped too. The loop ends at the
        // latest when all names are escaped.
        if escaped.len() == before {
            return names;
        }
    }
}

fn short_name((service, target): Lane<'_>) -> String {
    let sanitized = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_uppercase();
    // A variable name must not start with a digit.
    let mut name = if starts_with_digit(service) { "_".to_owned() } else { String::new() };
    name.push_str(&sanitized(service.as_str()));
    if *target != TargetName::default() {
        name.push('_');
        name.push_str(&sanitized(target.as_str()));
    }
    name
}

fn escaped_name((service, target): Lane<'_>) -> String {
    let mut name = String::new();
    for (index, character) in service.as_str().chars().enumerate() {
        push_escaped(character, index == 0, &mut name);
    }
    if *target != TargetName::default() {
        name.push_str("__");
        target.as_str().chars().for_each(|character| push_escaped(character, false, &mut name));
    }
    name
}

fn push_escaped(character: char, is_first: bool, name: &mut String) {
    match character {
        'a'..='z' => name.push(character.to_ascii_uppercase()),
        '0'..='9' if !is_first => name.push(character),
        _ => name.push_str(&format!("_{:02X}", u32::from(character))),
    }
}

fn starts_with_digit(service: &ServiceName) -> bool {
    service.as_str().starts_with(|first: char| first.is_ascii_digit())
}
