//! What a publisher is answered, and the messages and routes of the receiver.

use ledger_api::ProblemKind;
use ledger_domain::{Principal, TenantName};
use ledger_journal::jetstream::BrokerMessage;
use ledger_streams::inbound::{Format, InboundMessage, Receipt, Route};
use serde_json::{Value, json};

/// Media type of problems.
const PROBLEM: &str = "application/problem+json";

/// Returns the route of a publisher's messages.
pub(super) fn route(tenant: &TenantName, publisher: &str) -> Route {
    let (tenant, publisher) = (tenant.clone(), publisher.to_owned());
    Route { tenant, format: Format::Events, issuer: Principal::NATS, publisher }
}

pub(super) fn inbound(message: &BrokerMessage) -> InboundMessage {
    InboundMessage { headers: message.headers.clone(), body: message.body.clone() }
}

/// Returns the media type and the body of the answer to a message.
pub(super) fn response(receipt: &Receipt) -> (&'static str, String) {
    let recorded = |body: Value| ("application/json", body.to_string());
    match receipt {
        Receipt::Recorded(positions) => {
            let positions: Vec<u64> = positions.iter().map(|position| position.get()).collect();
            recorded(json!({"status": "recorded", "positions": positions}))
        }
        Receipt::Ignored(reason) => recorded(json!({"status": "ignored", "detail": reason})),
        Receipt::Quarantined { id, detail } => {
            let (media_type, mut body) = (PROBLEM, body(ProblemKind::NotUnderstood, detail));
            body["quarantine_id"] = id.as_str().into();
            (media_type, body.to_string())
        }
        Receipt::Rejected { problem: slug, detail, .. } => {
            let has_slug = |kind: &&ProblemKind| kind.urn().rsplit(':').next() == Some(slug.as_str());
            let kind = ProblemKind::ALL.iter().find(has_slug).copied().unwrap_or(ProblemKind::InvalidEvent);
            problem(kind, detail)
        }
        Receipt::Retry(detail) => problem(ProblemKind::Busy, detail),
    }
}

/// Returns the media type and the body of a problem.
pub(super) fn problem(kind: ProblemKind, detail: &str) -> (&'static str, String) {
    (PROBLEM, body(kind, detail).to_string())
}

fn body(kind: ProblemKind, detail: &str) -> Value {
    json!({"type": kind.urn(), "title": kind.title(), "status": kind.status(), "detail": detail})
}

#[cfg(test)]
mod tests {
    use ledger_domain::Position;

    use super::*;

    fn parsed(receipt: &Receipt) -> (&'static str, Value) {
        let (media_type, body) = response(receipt);
        (media_type, serde_json::from_str(&body).expect("JSON"))
    }

    #[test]
    fn a_publisher_gets_the_positions_of_its_events() {
        let receipt = Receipt::Recorded(vec![Position::new(4711)]);
        assert_eq!(
            parsed(&receipt),
            ("application/json", json!({"status": "recorded", "positions": [4711]}))
        );
    }

    #[test]
    fn a_publisher_gets_the_problem_of_a_message_that_is_not_recorded() {
        let status = |receipt: Receipt| {
            let (media_type, body) = parsed(&receipt);
            (media_type, body["status"].as_u64(), body["type"].as_str().map(str::to_owned))
        };
        let problem =
            |status, slug| (PROBLEM, Some(status), Some(format!("urn:release-ledger:problem:{slug}")));
        let rejected =
            Receipt::Rejected { problem: "forbidden".into(), detail: String::new(), has_secret: false };
        assert_eq!(status(rejected), problem(403, "forbidden"));
        assert_eq!(status(Receipt::Retry(String::new())), problem(503, "busy"));
        let quarantined = Receipt::Quarantined { id: "ab".into(), detail: "a fault".into() };
        assert_eq!(parsed(&quarantined).1["quarantine_id"], "ab");
        assert_eq!(status(quarantined), problem(422, "not-understood"));
    }
}
