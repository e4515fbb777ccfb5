//! Property tests: every format reads back as the same composition, for any names and texts.

use proptest::prelude::*;

use super::*;

/// The values of a lane that a manifest contains, by name.
type LaneValues = BTreeMap<&'static str, String>;

fn lanes_of(composition: &Composition) -> Vec<LaneValues> {
    let lanes = composition.lanes().map(|(service, target, live)| {
        let release = &live.release;
        let known = [
            ("service", Some(service.as_str())),
            ("target", Some(target.as_str())),
            ("slot", live.slot.as_ref().map(SlotName::as_str)),
            ("version", Some(release.version.as_str())),
            ("artifact", release.artifact.as_ref().map(Artifact::as_str)),
            ("config", release.config.as_ref().map(ConfigDigest::as_str)),
            ("infrastructure", release.infrastructure.as_ref().map(ShortText::as_str)),
            ("commit", release.commit.as_ref().map(ShortText::as_str)),
        ];
        known.into_iter().filter_map(|(name, text)| Some((name, text?.to_owned()))).collect()
    });
    lanes.collect()
}

const PARTS: [&str; 5] = ["version", "artifact", "config", "infrastructure", "commit"];

fn named_values<'a>(parts: &[&'static str], get: impl Fn(&str) -> Option<&'a str>) -> LaneValues {
    parts.iter().filter_map(|part| Some((*part, get(part)?.to_owned()))).collect()
}

fn lanes_of_document(manifest: &Value) -> Vec<LaneValues> {
    let lanes = manifest["lanes"].as_array().expect("a list").iter().map(|lane| {
        let mut values = named_values(&["service", "target", "slot"], |name| lane.get(name)?.as_str());
        values.extend(named_values(&PARTS, |name| lane["release"].get(name)?.as_str()));
        values
    });
    lanes.collect()
}

fn lanes_of_helm_values(values: &Value) -> Vec<LaneValues> {
    let services = values["services"].as_object().expect("a map").iter();
    let lanes = services.flat_map(|(service, node)| {
        let targets = node["targets"].as_object().expect("a map").iter();
        targets.map(move |(target, lane)| {
            let mut values =
                named_values(&["slot", "version", "artifact", "commit"], |name| lane.get(name)?.as_str());
            values.extend(named_values(&["config"], |_| lane.get("configDigest")?.as_str()));
            values
                .extend(named_values(&["infrastructure"], |_| lane.get("infrastructureRevision")?.as_str()));
            values.extend([("service", service.clone()), ("target", target.clone())]);
            values
        })
    });
    let mut lanes: Vec<_> = lanes.collect();
    lanes.sort_by_key(|lane| (lane["service"].clone(), lane["target"].clone()));
    lanes
}

/// Parses by Kustomize's rules: a literal's key ends at the first `=`, and one pair of quotes is stripped from the
/// value.
fn lanes_of_kustomizations(documents: &[Value]) -> Vec<LaneValues> {
    let mut lanes: BTreeMap<(String, String), LaneValues> = BTreeMap::new();
    for document in documents {
        let literals = document["configMapGenerator"][0]["literals"].as_array().expect("a list");
        let pairs = literals.iter().map(|literal| literal.as_str()?.split_once('='));
        let pairs: Vec<_> = pairs.map(|pair| pair.expect("a literal")).collect();
        let target = pairs.iter().find(|(key, _)| *key == "target").map_or("", |(_, target)| *target);
        for (key, value) in pairs {
            let Some((service, part)) = key.rsplit_once('.') else { continue };
            let quote = value.chars().next().filter(|first| ['"', '\''].contains(first));
            let inner = quote.and_then(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
            let lane = lanes.entry((service.to_owned(), target.to_owned())).or_default();
            lane.extend([("service", service.to_owned()), ("target", target.to_owned())]);
            lane.extend(named_values(&["slot"], |slot| (slot == part).then_some(inner.unwrap_or(value))));
            lane.extend(named_values(&PARTS, |name| (name == part).then_some(inner.unwrap_or(value))));
        }
    }
    lanes.into_values().collect()
}

fn lanes_of_shell(environment: &BTreeMap<String, String>) -> Vec<LaneValues> {
    let lanes = environment["RELEASE_LEDGER_LANES"].split_whitespace().map(|lane| {
        let get = |part: &str| {
            environment.get(&format!("{lane}_{}", part.to_ascii_uppercase())).map(String::as_str)
        };
        let mut values = named_values(&["service", "target", "slot"], get);
        values.extend(named_values(&PARTS, get));
        values
    });
    lanes.collect()
}

fn any_short_text() -> impl Strategy<Value = ShortText> {
    let special = "'\"\\$`#:-{}[]&*!|>%@,=~ \u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}\u{a0}é😀";
    let special = prop::sample::select(special.chars().collect::<Vec<_>>());
    let character = prop_oneof![any::<char>(), special, prop::char::range('0', 'z')];
    let text = prop::collection::vec(character, 1..12).prop_map(String::from_iter);
    let text = prop_oneof![
        text,
        prop::sample::select(vec!["no", "1.10", "1e3", "null", "~", "v1"]).prop_map(String::from)
    ];
    text.prop_filter_map("not a short text", |text| ShortText::stored(text.trim()).ok())
}

fn any_artifact() -> impl Strategy<Value = Artifact> {
    let texts = [
        SHA256.to_owned(),
        format!("it's\u{2028} odd: @{SHA256}"),
        format!("registry.example:5000/a@{SHA256}"),
        format!("pkg:oci/a@{}?repository_url=registry.example/a&tag=v1", SHA256.replace(':', "%3A")),
        "pkg:cargo/rand@0.9.1".to_owned(),
    ];
    prop::sample::select(texts.to_vec()).prop_map(|text| Artifact::stored(&text).expect("an artifact"))
}

fn any_release() -> impl Strategy<Value = Release> {
    let optional_text = || prop::option::of(any_short_text());
    let digest = prop::sample::select(vec![ConfigDigest::parse(SHA256).expect("a digest")]);
    (
        any_short_text(),
        prop::option::of(any_artifact()),
        prop::option::of(digest),
        optional_text(),
        optional_text(),
    )
        .prop_map(|(version, artifact, config, infrastructure, commit)| Release {
            version,
            artifact,
            config,
            infrastructure,
            commit,
        })
}

/// Generates names from few characters, so that many differ only in case and punctuation.
fn any_composition() -> impl Strategy<Value = Composition> {
    let service = "[aA1n][aAo12d._-]{0,4}";
    let target = prop_oneof![Just("default".to_owned()), "[aA1][a2b._-]{0,2}"];
    let slot = prop::option::of(prop::sample::select(vec!["blue", "no"]));
    let lane = (service, target, slot, any_release())
        .prop_map(|(service, target, slot, release)| lane(&service, &target, slot, release));
    prop::collection::vec(lane, 0..12).prop_map(Composition::from_iter)
}

proptest! {
    #[test]
    fn json_and_yaml_read_back_as_the_same_composition(composition in any_composition()) {
        let from_json: Value = serde_json::from_str(&write(&composition, Format::Json)).expect("JSON");
        prop_assert_eq!(lanes_of_document(&from_json), lanes_of(&composition));
        prop_assert_eq!(yaml(&write(&composition, Format::Yaml)), from_json);
    }

    #[test]
    fn helm_values_read_back_as_the_same_composition(composition in any_composition()) {
        let values = yaml(&write(&composition, Format::HelmValues));
        prop_assert_eq!(lanes_of_helm_values(&values), lanes_of(&composition));
        prop_assert_eq!(&values["releaseLedger"]["digest"], &composition.digest());
    }

    #[test]
    fn kustomizations_read_back_as_the_same_composition(composition in any_composition()) {
        let documents = yamls(&write(&composition, Format::Kustomize));
        prop_assert_eq!(lanes_of_kustomizations(&documents), lanes_of(&composition));
    }
}

proptest! {
    // Each case starts a shell.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_sourced_file_reads_back_as_the_same_composition(composition in any_composition()) {
        let environment = sourced(&write(&composition, Format::Env));
        prop_assert_eq!(lanes_of_shell(&environment), lanes_of(&composition));
    }
}
