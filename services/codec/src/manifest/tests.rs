//! Tests of every format with real parsers: `sh`, and parsers of JSON and YAML.

mod properties;
mod samples;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use chrono::DateTime;
use ledger_domain::{
    Artifact, Composition, ConfigDigest, EnvironmentName, EventId, EventRef, LiveRelease, Position, Release,
    ServiceName, ShortText, SlotName, TargetName,
};
use serde_json::{Value, json};

use super::{Format, Manifest};

const SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

type Lane = ((ServiceName, TargetName), LiveRelease);

fn lane(service: &str, target: &str, slot: Option<&str>, release: Release) -> Lane {
    let since = EventRef {
        occurred_at: DateTime::UNIX_EPOCH,
        position: Position::new(1),
        event_id: EventId::parse("e").expect("an id"),
    };
    let slot = slot.map(|slot| SlotName::parse(slot).expect("a slot"));
    let service = ServiceName::parse(service).expect("a service");
    ((service, TargetName::parse(target).expect("a target")), LiveRelease { slot, release, since })
}

fn short_text(text: &str) -> ShortText {
    ShortText::stored(text).expect("a short text")
}

fn version(text: &str) -> Release {
    Release::of_version(short_text(text))
}

fn whole_release(artifact: &str) -> Release {
    Release {
        version: short_text("v948"),
        artifact: Some(Artifact::parse(artifact).expect("an artifact")),
        config: Some(ConfigDigest::parse(SHA256).expect("a digest")),
        infrastructure: Some(short_text("git:3f2a")),
        commit: Some(short_text("9f11e2b")),
    }
}

/// Returns a service at two targets, one with slots, and a service at one target.
fn two_targets() -> Composition {
    let image = format!("registry.example/search-api@{SHA256}");
    Composition::from_iter([
        lane("search-api", "eu", Some("blue"), whole_release(&image)),
        lane("search-api", "us", None, version("1.10")),
        lane("web", "eu", None, version("v1'; rm -rf \"$HOME\" \\n")),
    ])
}

fn write(composition: &Composition, format: Format) -> String {
    let environment = EnvironmentName::parse("production").expect("a name");
    Manifest { environment: &environment, position: Position::new(42), composition }.write(format)
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn yamls(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Returns the environment that a shell exports after sourcing the file.
fn sourced(file: &str) -> BTreeMap<String, String> {
    let mut command = Command::new("/bin/sh");
    let mut shell = command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let script = format!("set -aeu\n{file}set +a\nenv\n");
    shell.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("a script is read");
    let output = shell.wait_with_output().expect("a shell ends");
    assert!(output.status.success(), "{file}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let pairs = text.lines().map(|line| line.split_once('=').expect("a variable"));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn a_format_is_parsed_from_its_name() {
    for format in Format::ALL {
        assert_eq!(Format::parse(format.name()), Ok(*format));
    }
    let error = Format::parse("toml").expect_err("an unknown format");
    assert_eq!(
        error.to_string(),
        "unknown manifest format \"toml\"; use json, yaml, env, kustomize or helm-values"
    );
}

#[test]
fn every_format_ends_with_a_line_feed_and_contains_the_digest() {
    for composition in [Composition::default(), two_targets()] {
        for format in Format::ALL {
            let text = write(&composition, *format);
            assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{text}");
            assert!(text.contains(&composition.digest()), "{text}");
        }
    }
}

#[test]
fn an_empty_composition_can_be_written() {
    let nothing = Composition::default();
    let expected =
        json!({"environment": "production", "position": 42, "digest": nothing.digest(), "lanes": []});
    assert_eq!(serde_json::from_str::<Value>(&write(&nothing, Format::Json)).expect("JSON"), expected);
    assert_eq!(yaml(&write(&nothing, Format::Yaml)), expected);
    assert_eq!(yaml(&write(&nothing, Format::HelmValues))["services"], json!({}));
    assert_eq!(yaml(&write(&nothing, Format::Kustomize))["images"], json!([]));
    assert_eq!(sourced(&write(&nothing, Format::Env))["RELEASE_LEDGER_LANES"], "");
}

#[test]
fn the_output_does_not_depend_on_when_a_release_was_deployed() {
    let one = lane("a", "eu", None, version("v1"));
    let mut later = one.clone();
    later.1.since.occurred_at += chrono::TimeDelta::days(1);
    later.1.since.position = Position::new(7);
    for format in Format::ALL {
        let [one, later] = [&one, &later].map(|lane| Composition::from_iter([lane.clone()]));
        assert_eq!(write(&one, *format), write(&later, *format));
    }
}

#[test]
fn versions_that_look_like_other_yaml_types_stay_strings() {
    for text in ["no", "1.10", "1e3", "null", "~", "0x1F", "2024-01-01", "{a: b}", "- a", "a: b # c", "*a"] {
        let composition = Composition::from_iter([lane("no", "1e3", None, version(text))]);
        let read = yaml(&write(&composition, Format::Yaml));
        assert_eq!(read["lanes"][0]["release"]["version"], text);
        let read = yaml(&write(&composition, Format::HelmValues));
        assert_eq!(read["services"]["no"]["targets"]["1e3"]["version"], text);
    }
}

#[test]
fn yaml_line_breaks_and_unprintable_characters_are_escaped() {
    let odd = "a\u{2028}b: c\u{2029}\u{feff}d\u{fffe}\u{ffff}é😀";
    let composition = Composition::from_iter([lane("a", "default", None, version(odd))]);
    let text = write(&composition, Format::Yaml);
    assert!(text.contains(r#""a\u2028b: c\u2029\ufeffd\ufffe\uffffé😀""#), "{text}");
    assert_eq!(yaml(&text)["lanes"][0]["release"]["version"], odd);
}

#[test]
fn a_shell_reads_values_literally() {
    for text in ["v1'; rm -rf /", "''", "'", "$(id) `id` $HOME", "a\\", "\"", "é 😀 #1", "a=b", "!!"] {
        let composition = Composition::from_iter([lane("a", "default", None, version(text))]);
        assert_eq!(sourced(&write(&composition, Format::Env))["A_VERSION"], text);
    }
}

#[test]
fn a_variable_name_does_not_start_with_a_digit() {
    let composition = Composition::from_iter([lane("9.lives", "1", None, version("v1"))]);
    assert_eq!(sourced(&write(&composition, Format::Env))["_9_LIVES_1_VERSION"], "v1");
}

#[test]
fn lanes_with_colliding_names_get_escaped_names() {
    let lanes = [
        ("a-b", "default", "A_2DB"),
        ("a.b", "default", "A_2EB"),
        ("a", "b", "A__B"),
        // Its short name equals the escaped name of another lane.
        ("a_2db", "default", "A_5F2DB"),
        ("X", "default", "_58"),
        ("x", "default", "X"),
        ("9", "C", "_39___43"),
        ("9", "c", "_39__C"),
        ("c", "default", "C"),
    ];
    let composition: Composition =
        lanes.iter().map(|(service, target, name)| lane(service, target, None, version(name))).collect();
    let environment = sourced(&write(&composition, Format::Env));
    for (service, target, name) in &lanes {
        assert_eq!(environment.get(&format!("{name}_VERSION")).map(String::as_str), Some(*name));
        assert_eq!(environment[&format!("{name}_SERVICE")], *service);
        assert_eq!(environment[&format!("{name}_TARGET")], *target);
    }
    assert_eq!(environment["RELEASE_LEDGER_LANES"].split(' ').count(), lanes.len());
}

#[test]
fn kustomize_images_have_a_digest_or_a_tag_but_not_both() {
    let purl = format!("pkg:oci/b@{SHA256}?repository_url=registry.example/x/b");
    let composition = Composition::from_iter([
        lane("a", "default", None, version("v1")),
        lane("b", "default", None, whole_release(&purl)),
        lane("c", "default", None, whole_release("pkg:cargo/rand@0.9.1")),
        lane("d", "default", None, version("v1+build")),
    ]);
    let text = write(&composition, Format::Kustomize);
    assert_eq!(
        yaml(&text)["images"],
        json!([
            {"name": "a", "newTag": "v1"},
            {"name": "b", "newName": "registry.example/x/b", "digest": SHA256},
        ])
    );
    for comment in ["# c: not in images", "# d: not in images"] {
        assert!(text.contains(comment), "{text}");
    }
    let literals = &yaml(&text)["configMapGenerator"][0]["literals"];
    assert!(literals.as_array().expect("a list").contains(&json!("d.version=v1+build")), "{text}");
}

#[test]
fn kustomize_literals_keep_the_quotes_of_a_value() {
    for (text, literal) in [
        ("'v1'", "a.version=\"'v1'\""),
        ("\"", "a.version=\"\"\""),
        ("\"v1", "a.version=\"\"v1\""),
        ("v1'", "a.version=v1'"),
    ] {
        let composition = Composition::from_iter([lane("a", "default", None, version(text))]);
        let read = yaml(&write(&composition, Format::Kustomize));
        assert_eq!(read["configMapGenerator"][0]["literals"][4], literal);
    }
}

#[test]
fn kustomize_has_one_document_per_target() {
    let documents = yamls(&write(&two_targets(), Format::Kustomize));
    let targets: Vec<_> =
        documents.iter().map(|document| &document["configMapGenerator"][0]["literals"][3]).collect();
    assert_eq!(targets, ["target=eu", "target=us"]);
}
