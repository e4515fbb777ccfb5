//! Texts of the domain: artifacts, points, times and names.

use chrono::{DateTime, SecondsFormat, TimeDelta};
use ledger_domain::access::{Pattern, SecretHash, TokenId, VerbSet};
use ledger_domain::event::WebhookUrl;
use ledger_domain::{
    Artifact, ConfigDigest, EnvironmentName, EventId, ImageReference, LongText, PersonName, PointInTime,
    PointRef, PointSelector, Release, ServiceName, ShortText, Source, escape_line, parse_stored_time,
    parse_time,
};

use crate::choices::Choices;
use crate::edit;

const DIGEST: &str = "sha256:1e69f8162c23cc6c981ef52ea27680dc1c8a7ed24f68fd48a2c2c5f9527e51cc";

/// Parses two artifacts. The same ones have a key in common, and an identity is an artifact's own.
pub(crate) fn artifact(choices: &mut Choices<'_>) {
    let samples = [
        DIGEST.to_owned(),
        format!("registry.example:5000/search-api:v1@{DIGEST}"),
        format!(
            "pkg:oci/search-api@{}?repository_url=registry.example/search-api&tag=v1",
            DIGEST.replace(':', "%3A")
        ),
        format!("pkg:docker/acme/search-api@v1?repository_url=registry.example&checksum={DIGEST}"),
        format!(
            "pkg:npm/%40shop/search@1.2.0?checksum=sha1:ad9503c3e994a4f611a4892f2e67ac82df727086,{DIGEST}"
        ),
        "pkg:golang/git.example/search@v1.2.0#a/b".to_owned(),
    ];
    let [one, other] = [edit::text(&samples, choices), edit::text(&samples, choices)];
    let _ = ImageReference::split(&one);
    let Ok(one) = Artifact::parse(&one) else { return };
    assert_eq!(Artifact::parse(one.as_str()).as_ref(), Ok(&one));
    assert_eq!(Artifact::stored(one.as_str()).as_ref(), Ok(&one));
    assert!(one.is_same(&one));
    let keys = one.keys();
    assert!(keys.contains(&one.identity()), "{one:?}: {keys:?} without {}", one.identity());
    if let Some(key) = one.package_key() {
        assert!(keys.contains(&key), "{one:?}: {keys:?} without {key}");
    }
    if let Ok(again) = Artifact::stored(&one.identity()) {
        assert!(again.is_same(&one), "{one:?} is not {again:?}");
        assert_eq!(again.identity(), one.identity());
    }
    let _ = (one.name(), one.key_of_any_checksum());
    let release = |artifact| Release {
        version: ShortText::parse("v1").expect("a text"),
        artifact,
        config: None,
        infrastructure: None,
        commit: None,
    };
    let _ = release(Some(one.clone())).image();
    if let Ok(other) = Artifact::parse(&other) {
        assert_eq!(one.is_same(&other), other.is_same(&one), "{one:?} {other:?}");
        if one.is_same(&other) {
            assert!(other.keys().iter().any(|key| keys.contains(key)), "no common key: {one:?} {other:?}");
        }
    }
}

/// Parses points and times. What is accepted means the same when written.
pub(crate) fn point(choices: &mut Choices<'_>) {
    let samples = [
        "latest",
        "4711",
        "-5",
        "change:12",
        "last-known-good",
        "production@latest",
        "point:summer",
        "2026-03-01T12:00:00Z",
        "production@2026-03-01T12:00:00.5+02:00",
        "2026-03-01",
        "2026-03-01T12:00Z",
        "staging@yesterday",
        "2h",
        "head",
        "known-good",
        "@",
        "point:a@b",
    ];
    let text = edit::text(&samples, choices);
    let now = DateTime::UNIX_EPOCH;
    if let Ok(point) = PointRef::parse(&text, now) {
        // What was parsed is absolute: it is the same at any time.
        let later = now + TimeDelta::days(1);
        assert_eq!(PointRef::parse(&point.to_string(), later).as_ref(), Ok(&point), "{text}");
    }
    if let Ok(point) = PointInTime::parse(&text, now) {
        assert_eq!(PointInTime::parse(&point.to_string(), now).as_ref(), Ok(&point), "{text}");
    }
    if let Ok(name) = ShortText::parse_point_name(&text) {
        let plain = PointRef::parse(&text, now).map(|point| point.point);
        assert!(plain.is_err() || matches!(plain, Ok(PointSelector::Named(_))), "{text}");
        let point = PointSelector::parse(&format!("point:{text}"), now);
        assert_eq!(point, Ok(PointSelector::Named(name)), "{text}");
    }
    if let Ok(time) = parse_time(&text) {
        let written = time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        assert_eq!(parse_time(&written), Ok(time), "{text}");
        assert_eq!(parse_stored_time(&text), Ok(time), "{text}");
    }
    let _ = parse_stored_time(&text);
}

/// Parses names and other words. What is accepted means the same when written.
pub(crate) fn words(choices: &mut Choices<'_>) {
    let samples = [
        "production",
        "search-api",
        "https://ci.example/search-api",
        "urn:example:a",
        DIGEST,
        "0123456789abcdef",
        "prod*",
        "*",
        "mira",
        "deploy",
        "https://hooks.example:8443/a?b=c",
        "http://127.0.0.1/",
        "A b",
    ];
    let text = edit::text(&samples, choices);
    macro_rules! same {
        ($($type:ty: $parse:ident),* $(,)?) => { $(
            if let Ok(value) = <$type>::$parse(&text) {
                assert_eq!(<$type>::$parse(value.as_str()).ok().as_ref(), Some(&value), "{text:?}");
            }
        )* };
    }
    same!(
        ShortText: parse, LongText: parse, EventId: parse, Source: parse, EventId: stored, Source: stored,
        ServiceName: parse, EnvironmentName: parse, ConfigDigest: parse, TokenId: parse, Pattern: parse,
        WebhookUrl: parse, ShortText: parse_identifier,
    );
    if let Ok(hash) = SecretHash::parse(&text) {
        assert_eq!(SecretHash::parse(&hash.to_string()), Ok(hash));
    }
    if let Ok(pattern) = Pattern::parse(&text) {
        let _ = pattern.matches(&choices.text());
    }
    if let Ok(name) = ShortText::parse(&text) {
        let key = PersonName::of(&name);
        if let Ok(folded) = ShortText::parse(key.as_str()) {
            assert_eq!(PersonName::of(&folded), key, "{text:?}");
        }
    }
    let _ = (VerbSet::parse(&text), escape_line(&text));
}
