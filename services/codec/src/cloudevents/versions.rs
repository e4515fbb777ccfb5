//! Versions of events' types: every one that was ever published is read for ever.
//!
//! To give a kind another form, number n + 1:
//! 1. Raise the number in its type in `kinds!` (`services/domain/src/kind.rs`), and change `data` and `encode`.
//! 2. Put the step from n to n + 1 into [`UPCASTERS`]: what an event of version n means, in the words of n + 1. A step
//!    never changes once it is published, and neither adds nor loses anything that is said.
//! 3. Keep the schema and the examples of version n beside the new ones: `schemas/examples.lock` sees to it.
//!
//! Bytes that are stored stay as they came; only what is read of them is brought to the present form.

use std::borrow::Cow;

use ledger_domain::{Kind, UnknownKind};

use super::Reason;
use crate::ijson::{Json, Object};

/// Brings data of one version to the next.
pub(super) type Upcaster = for<'j> fn(Object<'j>) -> Object<'j>;

/// Each kind that has had other forms, with the steps from version 1 to 2, from 2 to 3, and so on to the present one.
type Upcasters = [(Kind, &'static [Upcaster])];

const UPCASTERS: &Upcasters = &[];

/// The kind and the version of its data in an event's type.
pub(super) fn parse_type(text: &str) -> Result<(Kind, usize), Reason> {
    parse_type_by(UPCASTERS, text)
}

/// Data of some version as it would be said now.
pub(super) fn present<'r, 'j>(kind: Kind, version: usize, data: &'r Json<'j>) -> Cow<'r, Json<'j>> {
    present_by(UPCASTERS, kind, version, data)
}

fn steps(upcasters: &Upcasters, kind: Kind) -> &'static [Upcaster] {
    upcasters.iter().find_map(|(of, steps)| (*of == kind).then_some(*steps)).unwrap_or_default()
}

fn parse_type_by(upcasters: &Upcasters, text: &str) -> Result<(Kind, usize), Reason> {
    let unknown = || Reason::UnknownType(UnknownKind(text.chars().take(128).collect()).to_string());
    let (name, number) =
        text.strip_prefix("io.releaseledger.").and_then(|rest| rest.rsplit_once(".v")).ok_or_else(unknown)?;
    let kind = Kind::parse_name(name).map_err(|_| unknown())?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
    let version = number.parse::<usize>().ok().filter(|_| is_number).ok_or_else(unknown)?;
    let known = steps(upcasters, kind).len() + 1;
    if version > known {
        return Err(Reason::Newer { kind, version, known });
    }
    Ok((kind, version))
}

fn present_by<'r, 'j>(
    upcasters: &Upcasters,
    kind: Kind,
    version: usize,
    data: &'r Json<'j>,
) -> Cow<'r, Json<'j>> {
    match (steps(upcasters, kind).get(version - 1..), data) {
        (Some(steps @ [_, ..]), Json::Object(data)) => {
            Cow::Owned(Json::Object(steps.iter().fold(data.clone(), |data, step| step(data))))
        }
        _ => Cow::Borrowed(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed<'j>(data: Object<'j>, from: &str, to: &'static str) -> Object<'j> {
        let name = |name: &str| if name == from { to.to_owned() } else { name.to_owned() };
        let members = data.entries().map(|(key, value)| (name(key).into(), value.clone()));
        Object::from_members(members.collect()).expect("no name stands there twice")
    }

    fn second(data: Object<'_>) -> Object<'_> {
        renamed(data, "app", "service")
    }

    fn third(data: Object<'_>) -> Object<'_> {
        renamed(data, "service", "workload")
    }

    const CHANGED: &Upcasters = &[(Kind::DeploySucceeded, &[second, third])];

    fn brought(version: usize, json: &str) -> String {
        let json = Json::parse(json.as_bytes()).expect("JSON");
        match present_by(CHANGED, Kind::DeploySucceeded, version, &json).into_owned() {
            Json::Object(data) => String::from_utf8(data.canonical()).expect("UTF-8"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_types_number_is_the_version_up_to_which_there_are_steps() {
        for kind in Kind::ALL {
            let present = steps(UPCASTERS, *kind).len() + 1;
            assert_eq!(parse_type(kind.event_type()), Ok((*kind, present)));
        }
    }

    #[test]
    fn data_of_an_old_version_goes_every_step_to_the_present_one() {
        assert_eq!(brought(1, r#"{"app": "web"}"#), r#"{"workload":"web"}"#);
        assert_eq!(brought(2, r#"{"service": "web"}"#), r#"{"workload":"web"}"#);
        assert_eq!(brought(3, r#"{"workload": "web"}"#), r#"{"workload":"web"}"#);
        assert_eq!(brought(1, "7"), "Integer(7)");
    }

    #[test]
    fn old_versions_are_known_and_newer_ones_are_told_from_unknown_types() {
        let parse = |text: &str| parse_type_by(CHANGED, text);
        assert_eq!(parse("io.releaseledger.deploy.succeeded.v1"), Ok((Kind::DeploySucceeded, 1)));
        assert_eq!(parse("io.releaseledger.deploy.succeeded.v3"), Ok((Kind::DeploySucceeded, 3)));
        let newer = parse("io.releaseledger.deploy.succeeded.v4").expect_err("not known yet");
        assert_eq!(
            newer.to_string(),
            "deploy.succeeded version 4 is newer than this program, which knows version 3"
        );
        for text in ["deploy.done.v1", "deploy.succeeded.v0", "deploy.succeeded.v01", "deploy.succeeded.v+1"]
        {
            let unknown = parse(&format!("io.releaseledger.{text}")).expect_err("no such type");
            assert!(matches!(unknown, Reason::UnknownType(_)), "{text}: {unknown:?}");
        }
    }
}
