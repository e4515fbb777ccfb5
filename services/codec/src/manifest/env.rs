//! Assignments `NAME='value'` that a shell sources (POSIX, Shell Command Language, quoting) and that
//! readers of `.env` files read, as long as no value has a single quote in it.
//!
//! Of a lane there are `<LANE>_SERVICE`, `_TARGET`, `_VERSION` and what else is known: `_ARTIFACT`,
//! `_ARTIFACT_DIGEST`, `_CONFIG`, `_INFRASTRUCTURE`, `_COMMIT`, `_SLOT`. `<LANE>` is the service, and
//! after it the target where that is not `default`, in upper case, with `_` for all but letters and
//! digits: `SEARCH_API_EU_WEST_1`. `RELEASE_LEDGER_LANES` lists them.
//!
//! Lanes that would be called alike (`a-b` and `a.b`) are all spelt out instead: each character that is
//! neither a small letter nor a digit as `_` and its two hexadecimal digits, and `__` before the target:
//! `A_2DB` and `A_2EB`. No two lanes are spelt alike, so that nothing is lost.

use std::collections::{BTreeMap, BTreeSet};

use ledger_domain::{ServiceName, TargetName};

use super::{Manifest, parts, slot};

type Lane<'a> = (&'a ServiceName, &'a TargetName);

/// The file.
pub(super) fn file(manifest: &Manifest<'_>) -> String {
    let lanes: Vec<_> = manifest.composition.lanes().collect();
    let names = names(&lanes.iter().map(|(service, target, _)| (*service, *target)).collect::<Vec<_>>());
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

/// Within single quotes a shell reads everything as itself but the single quote.
fn assign(name: &str, part: &str, value: &str, out: &mut String) {
    let (part, value) = (part.to_ascii_uppercase(), value.replace('\'', r"'\''"));
    out.push_str(&format!("{name}_{part}='{value}'\n"));
}

/// The lanes' names, all different. A part's word ends none of the others after an underscore, so the
/// names of the variables differ as well.
fn names(lanes: &[Lane<'_>]) -> Vec<String> {
    let mut spelt = BTreeSet::new();
    loop {
        let names: Vec<_> = lanes
            .iter()
            .map(|lane| if spelt.contains(lane) { spell_out(*lane) } else { shorten(*lane) })
            .collect();
        let mut lanes_by_name: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, lane) in names.iter().zip(lanes) {
            lanes_by_name.entry(name).or_default().push(*lane);
        }
        let before = spelt.len();
        spelt.extend(lanes_by_name.into_values().filter(|alike| alike.len() > 1).flatten());
        // A lane spelt out may be called like another's short name, which is then spelt out too. That
        // ends at the latest when all are.
        if spelt.len() == before {
            return names;
        }
    }
}

fn shorten((service, target): Lane<'_>) -> String {
    let safe = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_uppercase();
    // A variable's name does not begin with a digit.
    let mut name = if starts_with_digit(service) { "_".to_owned() } else { String::new() };
    name.push_str(&safe(service.as_str()));
    if *target != TargetName::default() {
        name.push('_');
        name.push_str(&safe(target.as_str()));
    }
    name
}

fn spell_out((service, target): Lane<'_>) -> String {
    let mut name = String::new();
    for (index, character) in service.as_str().chars().enumerate() {
        spell(character, index == 0, &mut name);
    }
    if *target != TargetName::default() {
        name.push_str("__");
        target.as_str().chars().for_each(|character| spell(character, false, &mut name));
    }
    name
}

fn spell(character: char, is_first: bool, name: &mut String) {
    match character {
        'a'..='z' => name.push(character.to_ascii_uppercase()),
        '0'..='9' if !is_first => name.push(character),
        _ => name.push_str(&format!("_{:02X}", u32::from(character))),
    }
}

fn starts_with_digit(service: &ServiceName) -> bool {
    service.as_str().starts_with(|first: char| first.is_ascii_digit())
}
