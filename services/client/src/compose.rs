//! Composes the event that flags describe, and says in terms of flags what is wrong with it.

use chrono::SecondsFormat;
use ledger_codec::cloudevents::{Envelope, Reason};
use ledger_domain::{Family, Kind, parse_calendar_time, parse_time, parse_time_ref};
use serde_json::{Map, Value, json};

use super::invalid::invalid;
use super::{clock, identity};

/// Attributes of an event, each if it is given.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attributes<'a> {
    /// The id [default: a new one].
    pub(super) id: Option<&'a str>,
    /// The time, in RFC 3339, with or without seconds [default: now].
    pub(super) time: Option<&'a str>,
    /// The source [default: this program].
    pub(super) source: Option<&'a str>,
    /// The id that events with a common cause share.
    pub(super) correlation: Option<&'a str>,
}

/// Members of an event, as JSON pointers, and the arguments that set them.
pub(super) type Places = [(&'static str, &'static str)];

/// The flags of the members that most commands set. A member of one of these is set by the same flag.
const FLAGS: &Places = &[
    ("/id", "--id"),
    ("/time", "--time"),
    ("/source", "--source"),
    ("/correlationid", "--correlation"),
    ("/data/environment", "--environment"),
    ("/data/service", "--service"),
    ("/data/target", "--target"),
    ("/data/slot", "--slot"),
    ("/data/deployment", "--deployment"),
    ("/data/rollback_id", "--rollback"),
    ("/data/reversible", "--irreversible"),
    ("/data/reason", "--reason"),
    ("/data/actor", "--actor"),
    ("/data/links", "--link"),
    ("/data/release", "--version"),
    ("/data/release/version", "--version"),
    ("/data/release/artifact", "--artifact"),
    ("/data/release/config", "--config"),
    ("/data/release/infrastructure", "--infrastructure"),
    ("/data/release/commit", "--commit"),
    ("/data/version", "--version"),
    ("/data/artifact", "--artifact"),
    ("/data/config", "--config"),
    ("/data/infrastructure", "--infrastructure"),
    ("/data/commit", "--commit"),
];

/// Composes the event of a kind. `own` has the arguments of the command that differ from those of most commands.
///
/// # Errors
/// The event is invalid; the error names the argument.
pub(super) fn compose_event(
    kind: Kind,
    attributes: Attributes<'_>,
    data: Map<String, Value>,
    own: &Places,
) -> anyhow::Result<Envelope> {
    let now = || Ok(clock::now().to_rfc3339_opts(SecondsFormat::Millis, true));
    let mut event = json!({
        "specversion": "1.0",
        "id": attributes.id.map_or_else(identity::new_id, str::to_owned),
        "source": attributes.source.unwrap_or(identity::SOURCE),
        "type": kind.event_type(),
        "time": attributes.time.map_or_else(now, report_time)?,
        "datacontenttype": "application/json",
        "data": data,
    });
    if let Some(correlation) = attributes.correlation {
        event["correlationid"] = correlation.into();
    }
    let event = serde_json::to_vec(&event)?;
    Envelope::parse(&event).map_err(|fault| invalid(in_flags(kind, &fault.reason, own)))
}

/// Returns the time of a report in RFC 3339. A word, a time ago or a day alone is rejected: it would be another time when
/// the command runs again, or midnight, and the time of a report decides what its lane runs. Other texts are left to the
/// rules of events.
fn report_time(text: &str) -> anyhow::Result<String> {
    let now = clock::now();
    if parse_time(text).is_ok() {
        return Ok(text.to_owned());
    }
    match parse_calendar_time(text, now) {
        Ok(time) if text.contains('T') => Ok(time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        _ if parse_time_ref(text, now).is_ok() => Err(invalid(format!(
            "--time: must be a time of day with its zone, such as 2026-03-01T12:00Z, not {text}: the time of a report \
             decides what its lane runs"
        ))),
        _ => Ok(text.to_owned()),
    }
}

/// Describes the fault of an event by the argument that sets the member, without a JSON pointer.
fn in_flags(kind: Kind, reason: &Reason, own: &Places) -> String {
    let Reason::Value { pointer, detail } = reason else { return reason.to_string() };
    if pointer == "/data" && kind.family() == Family::Validation {
        return format!("{detail}; set --environment or --artifact");
    }
    let Some(argument) = argument(own, pointer).or_else(|| argument(FLAGS, pointer)) else {
        let member = member_name(pointer.strip_prefix("/data").unwrap_or(pointer));
        return match detail.as_str() {
            detail if member.is_empty() => format!("--data: {detail}"),
            "is required" => format!("--data: {member} is missing"),
            detail => format!("--data: {member}: {detail}"),
        };
    };
    match detail.as_str() {
        "is required" => format!("{argument} is missing"),
        "is not a known member" => format!("{argument} does not apply to {kind}"),
        detail => format!("{argument}: {detail}"),
    }
}

/// Returns the name of the member at a JSON pointer, such as `automatic_rollback.checks.0`.
pub(super) fn member_name(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~")
}

/// Returns the argument of the innermost member that contains the place.
fn argument(places: &Places, pointer: &str) -> Option<&'static str> {
    let contains = |place: &str| {
        pointer.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let found = places.iter().filter(|(place, _)| contains(place));
    found.max_by_key(|(place, _)| place.len()).map(|(_, argument)| *argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASE: &str = r#""environment":"dev","service":"web","release":{"version":"v1"}"#;

    fn error_of(kind: Kind, attributes: Attributes<'_>, data: &str, own: &Places) -> String {
        let data = serde_json::from_str(&format!("{{{data}}}")).expect("an object");
        compose_event(kind, attributes, data, own).expect_err("an invalid event").to_string()
    }

    #[test]
    fn every_fault_names_the_flag_and_never_a_pointer() {
        let lane = r#""environment":"dev","service":"web""#;
        let with = |member: &str| format!("{RELEASE},{member}");
        let release = |member: &str| format!(r#"{lane},"release":{{"version":"v1",{member}}}"#);
        let built = |member: &str| format!(r#""artifact":"pkg:cargo/rand@0.9.1",{member}"#);
        for (kind, data, expected) in [
            (Kind::DeploySucceeded, r#""service":"web""#.to_owned(), "--environment is missing"),
            (Kind::DeploySucceeded, r#""environment":"dev""#.to_owned(), "--service is missing"),
            (Kind::DeploySucceeded, lane.to_owned(), "--version is missing"),
            (Kind::DeploySucceeded, format!(r#"{lane},"release":{{}}"#), "--version is missing"),
            (Kind::DeploySucceeded, format!(r#"{lane},"release":{{"version":""}}"#), "--version: "),
            (Kind::DeploySucceeded, release(r#""artifact":"web:latest""#), "--artifact: "),
            (Kind::DeploySucceeded, release(r#""config":"sha256:12""#), "--config: "),
            (Kind::DeploySucceeded, release(r#""infrastructure":"""#), "--infrastructure: "),
            (Kind::DeploySucceeded, release(r#""commit":"""#), "--commit: "),
            (Kind::DeploySucceeded, with(r#""target":"a b""#), "--target: "),
            (Kind::DeploySucceeded, with(r#""slot":"a b""#), "--slot: "),
            (Kind::DeploySucceeded, with(r#""deployment":"""#), "--deployment: "),
            (Kind::DeploySucceeded, with(r#""rollback_id":"""#), "--rollback: "),
            (Kind::DeploySucceeded, with(r#""reversible":1"#), "--irreversible: "),
            (Kind::DeploySucceeded, with(r#""reason":1"#), "--reason: "),
            (Kind::DeploySucceeded, with(r#""actor":{"type":"","name":"a"}"#), "--actor: "),
            (Kind::DeploySucceeded, with(r#""links":[{"rel":"","href":"a"}]"#), "--link: "),
            (Kind::DeployRemoved, RELEASE.to_owned(), "--version does not apply to deploy.removed"),
            (Kind::TrafficSwitched, lane.to_owned(), "--slot is missing"),
            (Kind::ArtifactBuilt, String::new(), "--artifact is missing"),
            (Kind::ArtifactBuilt, built(r#""version":"""#), "--version: "),
            (Kind::ArtifactBuilt, built(r#""commit":"""#), "--commit: "),
            (Kind::ArtifactBuilt, built(r#""config":"""#), "--config does not apply to artifact.built"),
            (
                Kind::ArtifactBuilt,
                built(r#""infrastructure":"""#),
                "--infrastructure does not apply to artifact.built",
            ),
            (Kind::RollbackCancelled, r#""environment":"dev""#.to_owned(), "--rollback is missing"),
            (Kind::ArtifactRevoked, r#""artifact":"pkg:cargo/rand@0.9.1""#.to_owned(), "--reason is missing"),
            (Kind::ApprovalGranted, RELEASE.to_owned(), "--actor is missing"),
            (Kind::FreezeStarted, r#""environment":"dev""#.to_owned(), "--data: freeze_id is missing"),
            (Kind::DeploySucceeded, with(r#""colour":1"#), "--data: colour: is not a known member"),
            (
                Kind::ValidationPassed,
                r#""check":"smoke""#.to_owned(),
                "a check requires an artifact or an environment; set --environment or --artifact",
            ),
        ] {
            let error = error_of(kind, Attributes::default(), &data, &[]);
            assert!(error.starts_with(expected), "{kind} {data}: {error}");
            assert!(!error.contains("/data"), "{error}");
        }
    }

    #[test]
    fn a_pointer_names_its_member() {
        assert_eq!(member_name("/automatic_rollback/checks/0"), "automatic_rollback.checks.0");
        assert_eq!((member_name("/a~1b~0c"), member_name("")), ("a/b~c".to_owned(), String::new()));
    }

    #[test]
    fn every_attribute_names_its_flag() {
        for (attributes, expected) in [
            (Attributes { id: Some(""), ..Attributes::default() }, "--id: "),
            (Attributes { time: Some("yesterday"), ..Attributes::default() }, "--time: "),
            (Attributes { source: Some("a b"), ..Attributes::default() }, "--source: "),
        ] {
            let error = error_of(Kind::DeploySucceeded, attributes, RELEASE, &[]);
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn the_time_of_a_report_has_a_time_of_day_and_a_zone() {
        let time = |text: &str| report_time(text).map_err(|error| error.to_string());
        for (text, written) in [
            ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z"),
            ("2026-03-01T14:00:00.5+02:00", "2026-03-01T14:00:00.5+02:00"),
            ("2026-03-01T12:00Z", "2026-03-01T12:00:00Z"),
            ("2026-03-01T14:00+02:00", "2026-03-01T12:00:00Z"),
            ("2026-02-30T10:00:00Z", "2026-02-30T10:00:00Z"),
        ] {
            assert_eq!(time(text), Ok(written.to_owned()), "{text}");
        }
        for text in ["yesterday", "now", "2h", "2026-03-01"] {
            assert!(time(text).expect_err(text).starts_with("--time: must be a time of day"), "{text}");
        }
    }

    #[test]
    fn the_arguments_of_a_command_take_precedence() {
        let own: &Places = &[("/data/check", "NAME")];
        let data = r#""environment":"dev","check":"""#;
        let error = error_of(Kind::ValidationPassed, Attributes::default(), data, own);
        assert!(error.starts_with("NAME: "), "{error}");
    }
}
