//! The plan of a rollback for an environment of many lanes, beside the two state questions that it needs.

use std::time::{Duration, Instant};

use chrono::DateTime;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Deploy, Ending, Event, Payload, Policy, Validation, ValidationSubject};
use ledger_domain::{
    EnvironmentName, EventId, Identity, Lane, Release, ServiceName, ShortText, Source, TargetName,
};
use ledger_tests::{Servers, Service};

use crate::PROGRAM;
use crate::load::{Http, get, messages, post_json, publish_batches, raw_client};
use crate::report::Report;
use crate::state::{analyse, percentile};

const FLEET: &str = "fleet";

/// Fills a ledger with rounds of a deploy and a check in each lane, and plans back to points all over it.
pub(crate) async fn of_a_fleet(
    servers: &Servers,
    lanes: usize,
    rounds: usize,
    plans: usize,
    report: &mut Report,
) {
    let client = raw_client(servers, "default").await;
    let mut number = 0;
    for round in 0..rounds {
        let mut events = Vec::with_capacity(lanes * 2 + 1);
        if round == 0 {
            let checks = vec![line("smoke")];
            let policy = Policy { required_validations: checks, ..Policy::default() };
            events.push(envelope(&mut number, Payload::EnvironmentDeclared(environment(), policy)));
        }
        for lane in 0..lanes {
            events.push(envelope(&mut number, deployed(lane, round)));
            // The last deploys are not checked: the last known-good point has to be searched for.
            if round + 1 < rounds || lane < lanes * 4 / 5 {
                events.push(envelope(&mut number, passed(lane, round)));
            }
        }
        publish_batches(&client, &messages("default", &events), 1_000).await;
    }
    let service = Service::start(PROGRAM, servers, &["--only=http,projector"]).await;
    service.client().projections_at(number).await;
    analyse(servers, "default").await;

    let gate = "{\"service\":\"service-1\",\"release\":{\"version\":\"v1.1\"}}";
    let mut http = Http::connect(&service.url()).await;
    let (mut present, mut past, mut planned) = (Vec::new(), Vec::new(), Vec::new());
    let (mut searched, mut gated) = (Vec::new(), Vec::new());
    for n in 1..=plans as u64 {
        let to = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % number + 1;
        let state = |at: &str| get(&format!("/v1/environments/{FLEET}/state?at={at}"));
        let wish = post_json(
            &format!("/v1/environments/{FLEET}/rollbacks?dry_run=true"),
            &format!("{{\"to\":\"{to}\"}}"),
        );
        for (took, request) in [
            (&mut present, state("latest")),
            (&mut past, state(&to.to_string())),
            (&mut planned, wish),
            (&mut searched, get(&format!("/v1/environments/{FLEET}/points/last-known-good"))),
            (&mut gated, post_json(&format!("/v1/environments/{FLEET}/gate"), gate)),
        ] {
            let began = Instant::now();
            assert_eq!(http.ask(&request).await, 200);
            took.push(began.elapsed());
        }
    }
    let p99 = |took: &[Duration]| percentile(took, 99);
    let what = format!("p99 of the search for a known-good point {} points back, beside a state", lanes / 5);
    report.time(&what, p99(&present), p99(&searched), None);
    report.time("p99 of the gate, beside a state", p99(&present), p99(&gated), None);
    for percent in [50, 99] {
        let floor = percentile(&present, percent) + percentile(&past, percent);
        let what =
            format!("p{percent} of a plan for {lanes} lanes among {number} entries, beside its two states");
        report.time(&what, floor, percentile(&planned, percent), Some(3.0));
    }
}

fn envelope(number: &mut u64, payload: Payload) -> Envelope {
    *number += 1;
    let seconds = 1_700_000_000 + number.cast_signed();
    let occurred_at = DateTime::from_timestamp(seconds, 0).expect("a time");
    let identity = Identity {
        source: Source::parse("urn:release-ledger:bench").expect("a source"),
        id: EventId::parse(&number.to_string()).expect("an id"),
    };
    let event = Event { payload, actor: None, reason: None, links: Vec::new(), corrects: None };
    Envelope::compose(identity, occurred_at, event).expect("a small event")
}

fn line(text: &str) -> ShortText {
    ShortText::parse(text).expect("a line")
}

fn environment() -> EnvironmentName {
    EnvironmentName::parse(FLEET).expect("a name")
}

fn lane(number: usize) -> Lane {
    let service = ServiceName::parse(&format!("service-{number}")).expect("a name");
    Lane { environment: environment(), service, target: TargetName::default() }
}

fn release(lane: usize, round: usize) -> Release {
    Release::of_version(line(&format!("v{round}.{}", lane % 7)))
}

fn deployed(number: usize, round: usize) -> Payload {
    Payload::DeploySucceeded(Deploy {
        lane: lane(number).into(),
        slot: None,
        deployment: None,
        release: release(number, round),
        reversible: true,
        rollback_id: None,
        ending: Ending::default(),
    })
}

fn passed(number: usize, round: usize) -> Payload {
    let release = Some(release(number, round));
    Payload::ValidationPassed(Validation {
        check: line("smoke"),
        subject: ValidationSubject::Lane { lane: lane(number).into(), release, deployment: None },
        run: None,
        evidence: Vec::new(),
        counts: None,
    })
}
