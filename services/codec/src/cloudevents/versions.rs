//! Versions of event types. Every published version stays readable.
//!
//! To introduce version n + 1 of a kind:
//! 1. Raise the number in its type in `kinds!` (`services/domain/src/kind.rs`), and change `data` and `encode`.
//! 2. Add the upcaster from n to n + 1 to [`UPCASTERS`]: it expresses the data of version n in the members of n + 1. A
//!    published upcaster never changes. It neither adds nor loses information.
//! 3. Keep the schema and the examples of version n beside the new ones: `schemas/examples.lock` enforces it.
//!
//! Stored bytes never change; only the decoded data is upcast to the latest version.

use std::borrow::Cow;

use ledger_domain::{Kind, UnknownKind};

use super::error::Reason;
use crate::ijson::{Json, Object};

/// A function that converts data of one version to the next.
type Upcaster = for<'j> fn(Object<'j>) -> Object<'j>;

/// A list of the kinds with older versions, each with its upcasters from version 1 to 2, from 2 to 3, and so on to the
/// latest.
type Upcasters = [(Kind, &'static [Upcaster])];

const UPCASTERS: &Upcasters = &[];

/// Parses an event type into the kind and the version of its data.
pub(super) fn parse_type(text: &str) -> Result<(Kind, usize), Reason> {
    parse_type_with(UPCASTERS, text)
}

/// Returns true if a text has the form of the event types of every version of the ledger:
/// `io.releaseledger.<kind>.v<version>`, where the kind is of lower-case words and the version is 1, 2, 3 …
pub(super) fn is_event_type(text: &str) -> bool {
    let parts = text.strip_prefix("io.releaseledger.").and_then(|rest| rest.rsplit_once(".v"));
    parts.is_some_and(|(kind, version)| {
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        let is_number = version.bytes().all(|byte| byte.is_ascii_digit());
        kind.split('.').all(is_word) && is_number && !version.is_empty() && !version.starts_with('0')
    })
}

/// Converts data of some version to the latest version.
pub(super) fn upcast<'r, 'j>(kind: Kind, version: usize, data: &'r Json<'j>) -> Cow<'r, Json<'j>> {
    upcast_with(UPCASTERS, kind, version, data)
}

fn upcasters_of(upcasters: &Upcasters, kind: Kind) -> &'static [Upcaster] {
    upcasters.iter().find_map(|(of, chain)| (*of == kind).then_some(*chain)).unwrap_or_default()
}

fn parse_type_with(upcasters: &Upcasters, text: &str) -> Result<(Kind, usize), Reason> {
    let unknown = || Reason::UnknownType(UnknownKind(text.chars().take(128).collect()).to_string());
    let (name, number) =
        text.strip_prefix("io.releaseledger.").and_then(|rest| rest.rsplit_once(".v")).ok_or_else(unknown)?;
    let kind = Kind::parse_name(name).map_err(|_| unknown())?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
    let version = number.parse::<usize>().ok().filter(|_| is_number).ok_or_else(unknown)?;
    let known = upcasters_of(upcasters, kind).len() + 1;
    if version > known {
        return Err(Reason::Newer { kind, version, known });
    }
    Ok((kind, version))
}

fn upcast_with<'r, 'j>(
    upcasters: &Upcasters,
    kind: Kind,
    version: usize,
    data: &'r Json<'j>,
) -> Cow<'r, Json<'j>> {
    match (upcasters_of(upcasters, kind).get(version - 1..), data) {
        (Some(chain @ [_, ..]), Json::Object(data)) => {
            Cow::Owned(Json::Object(chain.iter().fold(data.clone(), |data, upcaster| upcaster(data))))
        }
        _ => Cow::Borrowed(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rename<'j>(data: Object<'j>, from: &str, to: &'static str) -> Object<'j> {
        let name = |name: &str| if name == from { to.to_owned() } else { name.to_owned() };
        let members = data.entries().map(|(key, value)| (name(key).into(), value.clone()));
        Object::from_members(members.collect()).expect("unique names")
    }

    fn upcast_1_to_2(data: Object<'_>) -> Object<'_> {
        rename(data, "app", "service")
    }

    fn upcast_2_to_3(data: Object<'_>) -> Object<'_> {
        rename(data, "service", "workload")
    }

    const TEST_UPCASTERS: &Upcasters = &[(Kind::DeploySucceeded, &[upcast_1_to_2, upcast_2_to_3])];

    fn upcast_json(version: usize, json: &str) -> String {
        let json = Json::parse(json.as_bytes()).expect("JSON");
        match upcast_with(TEST_UPCASTERS, Kind::DeploySucceeded, version, &json).into_owned() {
            Json::Object(data) => String::from_utf8(data.canonical()).expect("UTF-8"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_kind_has_upcasters_up_to_the_version_in_its_type() {
        for kind in Kind::ALL {
            let latest = upcasters_of(UPCASTERS, *kind).len() + 1;
            assert_eq!(parse_type(kind.event_type()), Ok((*kind, latest)));
        }
    }

    #[test]
    fn data_of_an_old_version_is_upcast_to_the_latest() {
        assert_eq!(upcast_json(1, r#"{"app": "web"}"#), r#"{"workload":"web"}"#);
        assert_eq!(upcast_json(2, r#"{"service": "web"}"#), r#"{"workload":"web"}"#);
        assert_eq!(upcast_json(3, r#"{"workload": "web"}"#), r#"{"workload":"web"}"#);
        assert_eq!(upcast_json(1, "7"), "Integer(7)");
    }

    #[test]
    fn old_versions_are_accepted_and_newer_ones_are_distinguished_from_unknown_types() {
        let parse = |text: &str| parse_type_with(TEST_UPCASTERS, text);
        assert_eq!(parse("io.releaseledger.deploy.succeeded.v1"), Ok((Kind::DeploySucceeded, 1)));
        assert_eq!(parse("io.releaseledger.deploy.succeeded.v3"), Ok((Kind::DeploySucceeded, 3)));
        let newer = parse("io.releaseledger.deploy.succeeded.v4").expect_err("a newer version");
        assert_eq!(
            newer.to_string(),
            "deploy.succeeded version 4 is not supported, only versions up to 3; upgrade the ledger"
        );
        for text in ["deploy.done.v1", "deploy.succeeded.v0", "deploy.succeeded.v01", "deploy.succeeded.v+1"]
        {
            let unknown = parse(&format!("io.releaseledger.{text}")).expect_err("an unknown type");
            assert!(matches!(unknown, Reason::UnknownType(_)), "{text}: {unknown:?}");
        }
    }
}
