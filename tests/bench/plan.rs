//! The rollback plan of an environment with many lanes, compared with the two state queries that it needs.

use std::time::{Duration, Instant};

use chrono::DateTime;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Deploy, Ending, Event, Payload, Policy, Validation, ValidationSubject};
use ledger_domain::{
    EnvironmentName, EventId, Identity, Lane, Release, ServiceName, ShortText, Source, TargetName,
};
use ledger_tests::{Servers, Service};

use crate::PROGRAM;
use crate::ingest::{MEMORY_LIMIT, mebibytes};
use crate::load::{Http, get, messages, post_json, publish_batches, raw_client};
use crate::report::Report;
use crate::state::{analyse, percentile};

const ENVIRONMENT: &str = "fleet";

/// Fills a ledger with rounds of a deploy and a check per lane, and plans rollbacks to positions spread over it.
pub(crate) async fn many_lanes(
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
            let checks = vec![short_text("smoke")];
            let policy = Policy { required_validations: checks, ..Policy::default() };
            events.push(envelope(&mut number, Payload::EnvironmentDeclared(environment(), policy)));
        }
        for lane in 0..lanes {
            events.push(envelope(&mut number, deployed(lane, round)));
            // The last deploys have no checks, so that the last known-good point is not the last point.
            if round + 1 < rounds || lane < lanes * 4 / 5 {
                events.push(envelope(&mut number, passed(lane, round)));
            }
        }
        publish_batches(&client, &messages("default", &events), 1_000).await;
    }
    let service = Service::start(PROGRAM, servers, &["--only=http,projector"]).await;
    service.client().wait_for_projections(number).await;
    analyse(servers, "default").await;

    let gate_query = "{\"service\":\"service-1\",\"release\":{\"version\":\"v1.1\"}}";
    let mut http = Http::connect(&service.url()).await;
    let (mut present, mut past, mut plan) = (Vec::new(), Vec::new(), Vec::new());
    let (mut known_good, mut gate) = (Vec::new(), Vec::new());
    for n in 1..=plans as u64 {
        let to = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % number + 1;
        let state = |at: &str| get(&format!("/v1/environments/{ENVIRONMENT}/state?at={at}"));
        let plan_request = post_json(
            &format!("/v1/environments/{ENVIRONMENT}/rollbacks?dry_run=true"),
            &format!("{{\"to\":\"{to}\"}}"),
        );
        for (times, request) in [
            (&mut present, state("latest")),
            (&mut past, state(&to.to_string())),
            (&mut plan, plan_request),
            (&mut known_good, get(&format!("/v1/environments/{ENVIRONMENT}/points/last-known-good"))),
            (&mut gate, post_json(&format!("/v1/environments/{ENVIRONMENT}/gate"), gate_query)),
        ] {
            let began = Instant::now();
            assert_eq!(http.send(&request).await, 200);
            times.push(began.elapsed());
        }
    }
    let p99 = |times: &[Duration]| percentile(times, 99);
    let name = format!("p99 of last-known-good, {} points back, against a state", lanes / 5);
    report.time(&name, p99(&present), p99(&known_good), None);
    report.time("p99 of the gate, against a state", p99(&present), p99(&gate), None);
    for percent in [50, 99] {
        let baseline = percentile(&present, percent) + percentile(&past, percent);
        let name = format!("p{percent} of a plan, {lanes} lanes, {number} entries, against its two states");
        report.time(&name, baseline, percentile(&plan, percent), Some(3.0));
    }
    report.size("peak memory, plans and gates", MEMORY_LIMIT, mebibytes(service.peak_memory()));
}

fn envelope(number: &mut u64, payload: Payload) -> Envelope {
    *number += 1;
    let seconds = 1_700_000_000 + number.cast_signed();
    let occurred_at = DateTime::from_timestamp(seconds, 0).expect("the time is valid");
    let identity = Identity {
        source: Source::parse("urn:release-ledger:bench").expect("the source is valid"),
        id: EventId::parse(&number.to_string()).expect("the id is valid"),
    };
    let event = Event { payload, actor: None, sender: None, reason: None, links: Vec::new(), corrects: None };
    Envelope::compose(identity, occurred_at, event).expect("the event is small")
}

fn short_text(text: &str) -> ShortText {
    ShortText::parse(text).expect("the text is short")
}

fn environment() -> EnvironmentName {
    EnvironmentName::parse(ENVIRONMENT).expect("the name is valid")
}

fn lane(number: usize) -> Lane {
    let service = ServiceName::parse(&format!("service-{number}")).expect("the name is valid");
    Lane { environment: environment(), service, target: TargetName::default() }
}

fn release(lane: usize, round: usize) -> Release {
    Release::of_version(short_text(&format!("v{round}.{}", lane % 7)))
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
        check: short_text("smoke"),
        subject: ValidationSubject::Lane { lane: lane(number).into(), release, deployment: None },
        run: None,
        evidence: Vec::new(),
        counts: None,
    })
}
