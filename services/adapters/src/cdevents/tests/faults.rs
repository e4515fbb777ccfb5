//! Messages that break their specification. Each is rejected with the place of its fault.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::catalog::{EventType, TYPES};
use super::super::schema::{Member, Rule, Spec};
use super::samples::{name, samples};
use super::{Settings, read_value};
use crate::translation::NotUnderstood;

fn error(message: &Value) -> NotUnderstood {
    read_value(message, &Settings::default()).expect_err("a fault")
}

fn standard_samples() -> impl Iterator<Item = (Spec, &'static EventType, Value)> {
    let of = |spec| samples(spec).into_iter().map(move |sample| (spec, sample));
    Spec::ALL.into_iter().flat_map(of).filter_map(|(spec, sample)| {
        let found = TYPES.iter().find(|it| it.name() == name(&sample))?;
        Some((spec, found, sample))
    })
}

fn object_at<'v>(message: &'v mut Value, pointer: &str) -> &'v mut Map<String, Value> {
    message.pointer_mut(pointer).and_then(Value::as_object_mut).expect(pointer)
}

#[test]
fn a_message_without_a_required_member_is_rejected() {
    for (spec, found, sample) in standard_samples() {
        let version = if spec < Spec::V0_5 { "version" } else { "specversion" };
        let context = ["id", "source", "type", "timestamp", version].map(|name| ("/context", name));
        let mut required =
            vec![("", "context"), ("", "subject"), ("/subject", "id"), ("/subject", "content")];
        required.extend(context);
        if spec < Spec::V0_5 {
            required.push(("/subject", "type"));
        }
        let content = found.content.iter().filter(|member| member.is_required && member.is_in(spec));
        required.extend(content.map(|member| ("/subject/content", member.name)));
        for (at, member) in required {
            let mut message = sample.clone();
            object_at(&mut message, at).remove(member).expect("a sample has all members");
            let expected = if member == "version" {
                "/context/specversion".to_owned()
            } else {
                format!("{at}/{member}")
            };
            assert_eq!(error(&message).pointer, expected, "{spec} {}", found.name());
        }
    }
}

#[test]
fn a_member_that_the_specification_does_not_have_is_rejected() {
    for (spec, found, sample) in standard_samples() {
        for at in ["", "/context", "/subject", "/subject/content"] {
            let mut message = sample.clone();
            object_at(&mut message, at).insert("extra".to_owned(), json!("x"));
            assert_eq!(error(&message).pointer, format!("{at}/extra"), "{spec} {}", found.name());
        }
    }
}

#[test]
fn a_value_of_another_type_or_outside_its_words_is_rejected() {
    for (spec, found, sample) in standard_samples() {
        for member in found.content.iter().filter(|member| member.is_in(spec)) {
            if sample["subject"]["content"].get(member.name).is_none() {
                continue;
            }
            for wrong in wrong_values(member) {
                let mut message = sample.clone();
                object_at(&mut message, "/subject/content").insert(member.name.to_owned(), wrong.clone());
                let pointer = error(&message).pointer;
                let at = format!("/subject/content/{}", member.name);
                assert!(pointer.starts_with(&at), "{spec} {} {wrong}: {pointer}", found.name());
            }
        }
    }
}

fn wrong_values(member: &Member) -> Vec<Value> {
    let mut wrong = vec![json!(null), json!(1)];
    match member.rule {
        Rule::OneOf(_) => wrong.extend([json!("unheard-of"), json!("")]),
        Rule::Text => wrong.push(json!("")),
        Rule::Uri => wrong.extend([json!("no scheme"), json!("relative")]),
        Rule::Reference => wrong.extend([json!(""), json!("a b")]),
        Rule::Object(_) => wrong.extend([json!([]), json!({"extra": 1}), json!("x")]),
        Rule::TextList => wrong.extend([json!([1]), json!({})]),
        _ => {}
    }
    wrong
}

#[test]
fn a_type_of_another_version_or_specification_is_rejected() {
    for (spec, found, sample) in standard_samples() {
        for other in Spec::ALL.into_iter().filter(|other| found.version(*other) != found.version(spec)) {
            let version = found.version(other).unwrap_or("9.9.9");
            let mut message = sample.clone();
            message["context"]["type"] = json!(format!("dev.cdevents.{}.{version}", found.name()));
            assert_eq!(error(&message).pointer, "/context/type", "{spec} {}", found.name());
        }
    }
}

#[test]
fn a_version_that_is_not_supported_is_rejected() {
    for (spec, sample) in [(Spec::V0_3, "version"), (Spec::V0_5, "specversion")] {
        for version in ["0.1.0", "0.2.0", "0.7.0", "1.0", "0.", "", "0.3", "draft"] {
            let mut message = samples(spec).swap_remove(0);
            message["context"][sample] = json!(version);
            let accepted = (sample, version) == ("version", "0.3");
            let result = read_value(&message, &Settings::default());
            assert_eq!(result.is_ok(), accepted, "{sample} {version}");
        }
    }
}

#[test]
fn an_identity_or_a_time_that_the_ledger_cannot_keep_is_rejected() {
    let sample = samples(Spec::V0_5).swap_remove(0);
    for (member, value) in [
        ("id", " a"),
        ("id", "a\nb"),
        ("id", "a\u{200b}"),
        ("source", "a b"),
        ("timestamp", "2026-08-01 12:00:00Z"),
        ("timestamp", "2026-08-01T12:00:00"),
        ("timestamp", "1969-12-31T23:59:59Z"),
        ("timestamp", "1785578400"),
        ("chainId", ""),
        ("chainId", "a\nb"),
        ("schemaUri", "relative"),
    ] {
        let mut message = sample.clone();
        message["context"][member] = json!(value);
        assert_eq!(error(&message).pointer, format!("/context/{member}"), "{value:?}");
    }
    let mut message = sample;
    message["context"]["id"] = json!("x".repeat(513));
    assert_eq!(error(&message).pointer, "/context/id");
}

#[test]
fn a_custom_type_has_a_tool_a_subject_a_predicate_and_a_version() {
    let custom = samples(Spec::V0_5).pop().expect("the custom sample");
    for name in [
        "dev.cdeventsx.",
        "dev.cdeventsx.quota.exceeded.0.1.0",
        "dev.cdeventsx.registry-quota.exceeded",
        "dev.cdeventsx.registry-quota.exceeded.0.1",
        "dev.cdeventsx.registry-quota.exceeded.0.10.0",
        "dev.cdeventsx.registry-quota.exceeded.0.1.0.0",
        "dev.cdeventsx.registry-quota-limit.exceeded.0.1.0",
        "dev.cdeventsx.registry-quota2.exceeded.0.1.0",
        "dev.cdeventsx.-quota.exceeded.0.1.0",
    ] {
        let mut message = custom.clone();
        message["context"]["type"] = json!(name);
        assert_eq!(error(&message).pointer, "/context/type", "{name}");
    }
}

#[test]
fn a_secret_is_rejected_without_being_repeated() {
    let mut message = samples(Spec::V0_5).swap_remove(0);
    let token = format!("ghp_{}", "a1B2".repeat(9));
    message["customData"]["token"] = json!(token);
    let error = error(&message);
    assert_eq!(error.pointer, "/customData/token");
    assert!(!error.detail.contains(&token));
}

proptest! {
    #[test]
    fn no_input_makes_the_reader_fail_otherwise(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = super::read(&bytes, &Settings::default());
    }

    #[test]
    fn no_value_in_a_sample_makes_the_reader_fail_otherwise(
        spec in 0_usize..4,
        sample in 0_usize..46,
        place in 0_usize..40,
        text in "\\PC{0,40}|[ -~\\x00-\\x1f\u{200b}]{0,40}",
    ) {
        let samples = samples(Spec::ALL[spec]);
        let mut message = samples[sample % samples.len()].clone();
        let mut places = Vec::new();
        collect_texts(&message, "", &mut places);
        let pointer = &places[place % places.len()];
        *message.pointer_mut(pointer).expect("a place") = json!(text);
        if let Ok(native) = read_value(&message, &Settings::default()) {
            prop_assert!(native["data"].is_object());
        }
    }
}

fn collect_texts(value: &Value, at: &str, places: &mut Vec<String>) {
    match value {
        Value::String(_) => places.push(at.to_owned()),
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| collect_texts(value, &format!("{at}/{name}"), places));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| collect_texts(item, &format!("{at}/{i}"), places));
        }
        _ => {}
    }
}
