//! Events of the ledger as CDEvents, and back.

use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{
    Activity, Actor, Built, Counts, Deploy, Ending, Evidence, Freeze, Incident, IncidentOpening, Link,
    Observation, Observed, Removal, Revoked, Switch, Validation, ValidationSubject,
};
use ledger_domain::{
    Artifact, ConfigDigest, EnvironmentName, Event, EventId, Identity, Kind, LaneRef, LongText, Payload,
    Position, Release, ServiceName, ShortText, SlotName, Source, TargetName,
};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{DIGEST, Settings, kind, read_value};
use crate::names::Names;

/// Writes an event that its sender described without further attributes.
fn write(identity: &Identity, at: DateTime<Utc>, event: &Event, position: Position) -> Value {
    let envelope = Envelope::compose(identity.clone(), at, event.clone()).expect("an event");
    super::super::write(&envelope, position)
}

fn text() -> impl Strategy<Value = ShortText> {
    "[a-zA-Z0-9é!/:@#%&.-]{1,16}( [a-z]{1,8})?"
        .prop_filter_map("a line", |text| ShortText::parse_identifier(&text).ok())
}

fn service() -> impl Strategy<Value = ServiceName> {
    "[a-z][a-z0-9.-]{0,8}".prop_filter_map("a name", |name| ServiceName::parse(&name).ok())
}

fn environment() -> impl Strategy<Value = EnvironmentName> {
    "[A-Za-z][a-z0-9.-]{0,8}".prop_filter_map("a name", |name| EnvironmentName::parse(&name).ok())
}

fn target() -> impl Strategy<Value = TargetName> {
    prop_oneof![Just("default"), Just("eu-west-1")].prop_map(|name| TargetName::parse(name).expect("a name"))
}

fn slot() -> impl Strategy<Value = SlotName> {
    prop_oneof![Just("blue"), Just("green")].prop_map(|name| SlotName::parse(name).expect("a name"))
}

fn artifact() -> impl Strategy<Value = Artifact> {
    let artifacts = [
        format!("pkg:oci/search-api@{DIGEST}"),
        format!("pkg:oci/search-api@{}?tag=v1", DIGEST.replace(':', "%3A")),
        format!("registry.example:5000/search-api:v1@{DIGEST}"),
        DIGEST.to_owned(),
        "pkg:golang/git.example/search@v1.2.0".to_owned(),
        "pkg:npm/%40shop/search@1.2.0?checksum=sha1:ad9503c3e994a4f611a4892f2e67ac82df727086".to_owned(),
    ];
    proptest::sample::select(artifacts.to_vec()).prop_map(|text| Artifact::parse(&text).expect("an artifact"))
}

fn lane() -> impl Strategy<Value = LaneRef> {
    (environment(), service(), option::of(target())).prop_map(|(environment, service, target)| LaneRef {
        environment,
        service,
        target,
    })
}

fn digest() -> ConfigDigest {
    ConfigDigest::parse(DIGEST).expect("a digest")
}

fn release() -> impl Strategy<Value = Release> {
    (text(), option::of(artifact()), any::<bool>(), option::of(text()), option::of(text())).prop_map(
        |(version, artifact, has_config, infrastructure, commit)| Release {
            version,
            artifact,
            config: has_config.then(digest),
            infrastructure,
            commit,
        },
    )
}

fn deploy(is_ended: bool) -> impl Strategy<Value = Deploy> {
    let ending =
        (option::of(0_u64..1 << 40), option::of(any::<u32>())).prop_map(move |(duration_ms, exit_code)| {
            if is_ended { Ending { duration_ms, exit_code } } else { Ending::default() }
        });
    let names = (option::of(slot()), option::of(text()), option::of(text()));
    (lane(), names, release(), any::<bool>(), ending).prop_map(
        |(lane, (slot, deployment, rollback_id), release, reversible, ending)| Deploy {
            lane,
            slot,
            deployment,
            release,
            reversible,
            rollback_id,
            ending,
        },
    )
}

fn evidence() -> impl Strategy<Value = Evidence> {
    any::<bool>().prop_map(|has_digest| Evidence {
        uri: ShortText::parse("https://ci.example/report").expect("a line"),
        digest: has_digest.then(digest),
    })
}

fn validation() -> impl Strategy<Value = Validation> {
    let subject = prop_oneof![
        artifact().prop_map(ValidationSubject::Artifact),
        environment().prop_map(ValidationSubject::Environment),
        (lane(), option::of(release()), option::of(text()))
            .prop_map(|(lane, release, deployment)| ValidationSubject::Lane { lane, release, deployment }),
    ];
    let counts = (0_u64..9, 0_u64..9, 0_u64..9).prop_map(|(passed, failed, skipped)| Counts {
        passed,
        failed,
        skipped,
    });
    (text(), subject, option::of(text()), proptest::collection::vec(evidence(), 0..3), option::of(counts))
        .prop_map(|(check, subject, run, evidence, counts)| Validation {
            check,
            subject,
            run,
            evidence,
            counts,
        })
}

fn built() -> impl Strategy<Value = Built> {
    (artifact(), option::of(text()), option::of(text()), option::of(evidence())).prop_map(
        |(artifact, version, commit, provenance)| Built {
            artifact,
            version,
            commit,
            committed_at: provenance.as_ref().and_then(|_| DateTime::from_timestamp(1_700_000_000, 0)),
            builder: None,
            provenance,
        },
    )
}

fn observed() -> impl Strategy<Value = Observed> {
    (service(), target(), option::of(slot()), option::of(release()))
        .prop_map(|(service, target, slot, release)| Observed { service, target, slot, release })
}

fn observation() -> impl Strategy<Value = Payload> {
    (environment(), any::<bool>(), proptest::collection::vec(observed(), 0..3)).prop_map(
        |(environment, complete, lanes)| {
            Payload::EnvironmentObserved(Observation { environment, complete, targets: [].into(), lanes })
        },
    )
}

fn incident() -> impl Strategy<Value = Incident> {
    (text(), environment(), option::of((service(), option::of(target())))).prop_map(
        |(incident_id, environment, place)| {
            let (service, target) = place.map_or((None, None), |(service, target)| (Some(service), target));
            Incident { incident_id, environment, service, target }
        },
    )
}

fn opening() -> impl Strategy<Value = Payload> {
    (incident(), option::of(text()), option::of(text()), option::of(1_u64..1 << 50)).prop_map(
        |(incident, title, severity, caused_by)| {
            let caused_by = caused_by.map(Position::new);
            Payload::IncidentOpened(IncidentOpening { incident, title, severity, caused_by })
        },
    )
}

fn activity() -> impl Strategy<Value = Payload> {
    let place = option::of((environment(), option::of(service())));
    (text(), option::of(text()), place, option::of(artifact()), option::of(text())).prop_map(
        |(activity, subject, place, artifact, outcome)| {
            let (environment, service) = place.map_or((None, None), |(at, service)| (Some(at), service));
            Payload::ActivityReported(Box::new(Activity {
                activity,
                subject,
                environment,
                service,
                target: None,
                artifact,
                commit: None,
                outcome,
            }))
        },
    )
}

/// Every report that has the data of one lane, one check or one artifact.
fn payload() -> impl Strategy<Value = Payload> {
    let removal = (lane(), option::of(slot()), option::of(text()), option::of(text()))
        .prop_map(|(lane, slot, deployment, rollback_id)| Removal { lane, slot, deployment, rollback_id });
    let switch = (lane(), slot(), option::of(text()), option::of(text()))
        .prop_map(|(lane, slot, deployment, rollback_id)| Switch { lane, slot, deployment, rollback_id });
    let revoked = (artifact(), option::of(text()), any::<bool>())
        .prop_map(|(artifact, advisory, deleted)| Revoked { artifact, advisory, deleted });
    prop_oneof![
        built().prop_map(Payload::ArtifactBuilt),
        revoked.prop_map(Payload::ArtifactRevoked),
        deploy(false).prop_map(|it| Payload::DeployStarted(Deploy { rollback_id: None, ..it })),
        deploy(true).prop_map(Payload::DeploySucceeded),
        deploy(true).prop_map(Payload::DeployFailed),
        removal.prop_map(Payload::DeployRemoved),
        switch.prop_map(Payload::TrafficSwitched),
        validation().prop_map(Payload::ValidationStarted),
        validation().prop_map(Payload::ValidationPassed),
        validation().prop_map(Payload::ValidationFailed),
        environment().prop_map(Payload::EnvironmentRetired),
        observation(),
        opening(),
        incident().prop_map(Payload::IncidentResolved),
        activity(),
    ]
}

fn identity() -> impl Strategy<Value = Identity> {
    ("[a-z0-9:/.-]{1,20}", text()).prop_map(|(source, id)| Identity {
        source: Source::parse(&source).expect("a source"),
        id: EventId::parse(id.as_str()).expect("an id"),
    })
}

fn event() -> impl Strategy<Value = Event> {
    let actor = (prop_oneof![Just("person"), Just("workload")], text())
        .prop_map(|(kind, name)| Actor { kind: ShortText::parse(kind).expect("a line"), name });
    let reason = "[a-zé\n\t ]{0,12}[a-z]".prop_map(|text| LongText::parse(&text).expect("text"));
    let link =
        text().prop_map(|rel| Link { rel, href: ShortText::parse("https://ci.example/1").expect("a line") });
    (payload(), option::of(actor), reason, proptest::collection::vec(link, 0..2), option::of(identity()))
        .prop_map(|(payload, actor, reason, links, corrects)| Event {
            corrects: corrects.filter(|_| payload.is_correctable()),
            payload,
            actor,
            sender: None,
            reason: Some(reason),
            links,
        })
}

fn time() -> impl Strategy<Value = DateTime<Utc>> {
    (0_i64..4_000_000_000_000_000).prop_filter_map("a time", DateTime::from_timestamp_micros)
}

/// Attributes that a sender may write beside those of every event.
fn attributes() -> impl Strategy<Value = Value> {
    let correlation = prop_oneof![
        Just(CHAIN.to_owned()),
        Just("https://ci.example/runs/9".to_owned()),
        text().prop_map(|text| text.as_str().to_owned()),
    ];
    let times = prop_oneof![Just("2026-08-01T14:00:00.1234567+02:00"), Just("2026-08-01T12:00:00.000Z")];
    let number = option::of(0_i32..9);
    (
        option::of(text()),
        option::of(correlation),
        option::of(text()),
        option::of(times),
        number,
        any::<bool>(),
    )
        .prop_map(|(subject, correlation, causation, time, number, is_arrival)| {
            let text = |text: Option<ShortText>| text.map(|text| text.as_str().to_owned());
            json!({
                "subject": text(subject),
                "correlationid": correlation,
                "causationid": text(causation),
                "time": time,
                "buildnumber": number,
                "ledgertimeofarrival": is_arrival.then_some(true),
            })
        })
}

/// Returns an event with more attributes; `null` is none.
fn with_attributes(envelope: &Envelope, attributes: &Value) -> Envelope {
    let mut event: Value = serde_json::from_slice(envelope.bytes()).expect("JSON");
    for (name, value) in attributes.as_object().expect("attributes") {
        if !value.is_null() {
            event[name.as_str()] = value.clone();
        }
    }
    Envelope::translated(event.to_string().as_bytes()).expect("an event")
}

const CHAIN: &str = "d0be0005-cca7-4175-8fe3-f64d2f27bc01";

proptest! {
    #[test]
    fn a_report_that_was_written_is_read_back_as_the_same_event(
        identity in identity(),
        at in time(),
        event in event(),
        position in 1_u64..1 << 50,
    ) {
        let written = write(&identity, at, &event, Position::new(position));
        let native = read_value(&written, &Settings::default()).expect("what was written");
        let parsed = Envelope::parse(native.to_string().as_bytes()).expect("an event");
        prop_assert_eq!(parsed.event(), &event);
        prop_assert_eq!(parsed.identity(), &identity);
        prop_assert_eq!(parsed.occurred_at(), at);
    }

    #[test]
    fn a_report_that_was_written_is_a_duplicate_of_the_original(
        identity in identity(),
        at in time(),
        event in event(),
        attributes in attributes(),
    ) {
        let composed = Envelope::compose(identity, at, event).expect("an event");
        let original = with_attributes(&composed, &attributes);
        let written = super::super::write(&original, Position::new(7));
        let native = read_value(&written, &Settings::default()).expect("what was written");
        let read = Envelope::translated(native.to_string().as_bytes()).expect("an event");
        prop_assert_eq!(read.content(), original.content());
        prop_assert_eq!(read.correlation(), original.correlation());
        prop_assert_eq!(read.causation(), original.causation());
    }

    #[test]
    fn without_the_own_data_a_deploy_still_is_the_same_deploy(
        identity in identity(),
        at in time(),
        deploy in deploy(true),
    ) {
        let event = Event {
            payload: Payload::DeploySucceeded(deploy.clone()),
            actor: None,
            sender: None,
            reason: None,
            links: Vec::new(),
            corrects: None,
        };
        let mut written = write(&identity, at, &event, Position::new(1));
        written["customData"].as_object_mut().expect("an object").remove("releaseLedger");
        let native = read_value(&written, &Settings::default()).expect("what was written");
        let parsed = Envelope::parse(native.to_string().as_bytes()).expect("an event");
        let Payload::DeploySucceeded(read) = &parsed.event().payload else { panic!("{native}") };
        let expected = Deploy {
            reversible: true,
            rollback_id: None,
            ending: Ending::default(),
            release: Release { infrastructure: None, ..deploy.release.clone() },
            ..deploy
        };
        let release = &expected.release;
        let is_text_of_artifact = Artifact::parse(release.version.as_str()).is_ok();
        prop_assume!(release.artifact.is_some() || !is_text_of_artifact);
        prop_assert_eq!(read, &expected);
    }
}

/// Events that the members of the specification and the keys for other readers say completely.
fn plain_payload() -> impl Strategy<Value = Payload> {
    let removal = (lane(), option::of(text())).prop_map(|(lane, deployment)| {
        Payload::DeployRemoved(Removal { lane, slot: None, deployment, rollback_id: None })
    });
    let switch = (lane(), slot(), option::of(text())).prop_map(|(lane, slot, deployment)| {
        Payload::TrafficSwitched(Switch { lane, slot, deployment, rollback_id: None })
    });
    let subject = prop_oneof![
        environment().prop_map(ValidationSubject::Environment),
        (lane(), option::of(text()), option::of(text())).prop_map(|(lane, version, deployment)| {
            ValidationSubject::Lane { lane, release: version.map(Release::of_version), deployment }
        }),
    ];
    let validation = (text(), subject, text()).prop_map(|(check, subject, run)| Validation {
        check,
        subject,
        run: Some(run),
        evidence: Vec::new(),
        counts: None,
    });
    let validation = validation.boxed();
    prop_oneof![
        removal,
        switch,
        environment().prop_map(Payload::EnvironmentRetired),
        incident().prop_map(Payload::IncidentResolved),
        validation.clone().prop_map(Payload::ValidationStarted),
        validation.clone().prop_map(Payload::ValidationPassed),
        validation.prop_map(Payload::ValidationFailed),
    ]
}

proptest! {
    #[test]
    fn other_readers_find_the_same_effect_in_the_members_of_the_specification(payload in plain_payload()) {
        let mut message = written(payload.clone());
        message["customData"].as_object_mut().expect("an object").remove("releaseLedger");
        let native = read_value(&message, &Settings::default()).expect("what was written");
        let parsed = Envelope::parse(native.to_string().as_bytes()).expect("an event");
        prop_assert_eq!(&parsed.event().payload, &payload);
    }
}

fn deployed() -> Value {
    let lane = LaneRef {
        environment: EnvironmentName::parse("production").expect("a name"),
        service: ServiceName::parse("search-api").expect("a name"),
        target: None,
    };
    let deploy = Deploy {
        lane,
        slot: None,
        deployment: None,
        release: Release::of_version(ShortText::parse("v948").expect("a line")),
        reversible: true,
        rollback_id: None,
        ending: Ending::default(),
    };
    written(Payload::DeploySucceeded(deploy))
}

fn written(payload: Payload) -> Value {
    let identity = Identity {
        source: Source::parse("https://ci.example/search-api").expect("a source"),
        id: EventId::parse("run-4711").expect("an id"),
    };
    let at = DateTime::from_timestamp(1_785_586_202, 0).expect("a time");
    let event = Event { payload, actor: None, sender: None, reason: None, links: Vec::new(), corrects: None };
    write(&identity, at, &event, Position::new(52))
}

#[test]
fn a_deploy_is_written_as_service_deployed() {
    assert_eq!(
        deployed(),
        json!({
            "context": {
                "specversion": "0.5.1",
                "id": "run-4711",
                "source": "https://ci.example/search-api",
                "type": "dev.cdevents.service.deployed.0.3.0",
                "timestamp": "2026-08-01T12:10:02Z",
            },
            "subject": {
                "id": "search-api",
                "content": { "environment": { "id": "production" }, "artifactId": "v948" },
            },
            "customData": {
                "version": "v948",
                "releaseLedger": {
                    "type": "io.releaseledger.deploy.succeeded.v1",
                    "position": 52,
                    "attributes": { "subject": "production/default/search-api" },
                    "data": {
                        "environment": "production",
                        "service": "search-api",
                        "release": { "version": "v948" },
                    },
                },
            },
            "customDataContentType": "application/json",
        })
    );
}

fn related(message: &Value, attributes: &Value) -> Value {
    let native = read_value(message, &Settings::default()).expect("a native event");
    let envelope = Envelope::parse(native.to_string().as_bytes()).expect("an event");
    super::super::write(&with_attributes(&envelope, attributes), Position::new(52))
}

#[test]
fn a_correlation_and_a_cause_are_written_where_the_specification_has_a_place_for_them() {
    let message = related(&deployed(), &json!({"correlationid": CHAIN, "causationid": "run-4710"}));
    assert_eq!(message["context"]["chainId"], CHAIN);
    assert_eq!(
        message["context"]["links"],
        json!([{ "linkType": "PATH", "from": { "contextId": "run-4710" } }])
    );
    let other = related(&deployed(), &json!({"correlationid": "https://ci.example/runs/9"}));
    assert_eq!(other["context"].get("chainId"), None, "it must be a UUID");
    assert_eq!(other["context"].get("links"), None);
    assert_eq!(
        other["customData"]["releaseLedger"]["attributes"]["correlationid"],
        "https://ci.example/runs/9"
    );
}

#[test]
fn a_correlation_survives_where_names_are_mapped() {
    let attributes = json!({"correlationid": "https://ci.example/runs/9", "causationid": "run-4710"});
    let environments = [("production".to_owned(), "elsewhere".to_owned())].into();
    let mapped = Settings { names: Names { environments, ..Names::default() } };
    let native = read_value(&related(&deployed(), &attributes), &mapped).expect("a deploy");
    assert_eq!(native["data"]["environment"], "elsewhere");
    assert_eq!(native["correlationid"], attributes["correlationid"]);
    assert_eq!(native["causationid"], attributes["causationid"]);
}

#[test]
fn a_chain_that_contradicts_the_own_data_is_not_understood() {
    let mut message = related(&deployed(), &json!({"correlationid": CHAIN}));
    message["context"]["chainId"] = json!("97ef590e-0285-45ad-98bb-9660ffaa567e");
    let error = read_value(&message, &Settings::default()).expect_err("a contradiction");
    assert_eq!(error.pointer, "/customData/releaseLedger");
}

#[test]
fn an_event_that_an_earlier_version_wrote_has_its_lane_as_the_subject() {
    let mut message = deployed();
    message["customData"]["releaseLedger"].as_object_mut().expect("an object").remove("attributes");
    message["context"]["chainId"] = json!(CHAIN);
    let native = read_value(&message, &Settings::default()).expect("a deploy");
    assert_eq!(kind(&native), "deploy.succeeded");
    assert_eq!(native["subject"], "production/default/search-api");
    assert_eq!(native["correlationid"], CHAIN);
}

#[test]
fn own_data_that_contradicts_the_rest_is_not_understood() {
    for (pointer, value) in [
        ("/subject/id", json!("other")),
        ("/subject/content/environment/id", json!("staging")),
        ("/subject/content/artifactId", json!("v947")),
        ("/customData/version", json!("v947")),
        ("/context/type", json!("dev.cdevents.service.upgraded.0.3.0")),
        ("/customData/releaseLedger/type", json!("io.releaseledger.deploy.failed.v1")),
        ("/customData/releaseLedger/data/service", json!("other")),
        ("/customData/releaseLedger/data", json!({})),
        ("/customData/releaseLedger/attributes", json!({"id": "other"})),
        ("/customData/releaseLedger/attributes", json!({"time": "2026-08-01T12:10:03Z"})),
        ("/customData/releaseLedger/attributes", json!({"ledgerprincipal": "mira"})),
    ] {
        let mut message = deployed();
        *message.pointer_mut(pointer).expect(pointer) = value;
        let error = read_value(&message, &Settings::default()).expect_err(pointer);
        assert_eq!(error.pointer, "/customData/releaseLedger", "{pointer}");
    }
}

#[test]
fn own_data_does_not_bypass_the_names_of_the_settings() {
    let environments = [("production".to_owned(), "elsewhere".to_owned())].into();
    let mapped = Settings { names: Names { environments, ..Names::default() } };
    let native = read_value(&deployed(), &mapped).expect("a deploy");
    assert_eq!(kind(&native), "deploy.succeeded");
    assert_eq!(native["data"]["environment"], "elsewhere");
    let targeted = Names { default_target: Some("eu-west-1".to_owned()), ..Names::default() };
    let native = read_value(&deployed(), &Settings { names: targeted }).expect("a deploy");
    assert_eq!(native["data"]["target"], "eu-west-1");
    let name = EnvironmentName::parse("production").expect("a name");
    let observation =
        Observation { environment: name, complete: true, targets: [].into(), lanes: Vec::new() };
    let message = written(Payload::EnvironmentObserved(observation));
    assert_eq!(kind(&read_value(&message, &Settings::default()).expect("a report")), "environment.observed");
    assert_eq!(kind(&read_value(&message, &mapped).expect("an activity")), "activity.reported");
}

#[test]
fn a_command_that_was_written_is_read_back_as_an_activity() {
    let freeze = Freeze {
        environment: EnvironmentName::parse("production").expect("a name"),
        freeze_id: ShortText::parse("f-1").expect("a line"),
        until: None,
    };
    let message = written(Payload::FreezeStarted(freeze));
    assert_eq!(message["context"]["type"], "dev.cdeventsx.releaseledger-freeze.started.0.1.0");
    let native = read_value(&message, &Settings::default()).expect("an activity");
    assert_eq!(kind(&native), "activity.reported");
    assert_eq!(native["data"]["activity"], "releaseledger-freeze.started");
}

#[test]
fn every_kind_has_a_custom_type_that_the_specification_accepts() {
    for kind in Kind::ALL {
        let mut message = written(Payload::EnvironmentRetired(EnvironmentName::parse("a").expect("a name")));
        message["context"]["type"] = json!(super::super::write::custom_type(*kind));
        message["customData"] = json!({});
        assert!(read_value(&message, &Settings::default()).is_ok(), "{kind}");
    }
}
