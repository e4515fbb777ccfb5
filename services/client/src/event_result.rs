//! Results of recording events: their check, and their rendering.

use ledger_api_types::{EventResult, EventStatus};

use super::problem;

/// Describes a result: `recorded at position 3`, or the reason why the event is not recorded.
pub(super) fn describe(result: &EventResult) -> String {
    let position = result.position.unwrap_or_default();
    match (result.status, &result.problem) {
        (EventStatus::Recorded, _) => format!("recorded at position {position}"),
        (EventStatus::Duplicate, _) => format!("duplicate of position {position}"),
        (_, Some(problem)) => problem::describe(problem),
        (EventStatus::Conflict, None) => format!("conflict with position {position}"),
        (EventStatus::Invalid, None) => "invalid event".to_owned(),
        (EventStatus::Quarantined, None) => "quarantined".to_owned(),
        (EventStatus::Rejected, None) => "rejected".to_owned(),
        (EventStatus::Refused, None) => "refused for now".to_owned(),
    }
}

/// Returns one sentence for each annotation that a person should read; none if the event is ordinary.
pub(super) fn notes(anomalies: &[String], new: &[String], targets: &[String]) -> Vec<String> {
    let describe = |anomaly: &String| match anomaly.as_str() {
        "ambiguous_target" => format!(
            "it changed nothing: it names no target and the service has several; set --target: {}",
            targets.join(", ")
        ),
        "corrects_nothing" => "it corrects an event that is unknown or cannot be corrected".to_owned(),
        "environment_retired" => {
            "it changed nothing: the environment is retired; declare it first".to_owned()
        }
        "removed_nothing" => "it removed nothing: nothing ran there".to_owned(),
        "switched_to_empty_slot" => "it changed nothing: the slot is empty".to_owned(),
        "switch_pending" => {
            "it changed nothing so far: no deploy to this slot is recorded; it takes effect when one is \
                             reported; if that is unexpected, check the slot's name"
                .to_owned()
        }
        "late" => "it is late: an event that occurred later may supersede it".to_owned(),
        "straddles_change" => "it does not count: the release changed during the check".to_owned(),
        "counts_contradict" => "it does not count as passed: its counts contradict the result".to_owned(),
        "during_freeze" => "it occurred during a freeze".to_owned(),
        other => format!("it has the anomaly {other}"),
    };
    let mut notes: Vec<String> = anomalies.iter().map(describe).collect();
    if !new.is_empty() {
        notes.push(format!(
            "it is the first event of this {}; if that is unexpected, check the spelling",
            new.join(", ")
        ));
    }
    notes
}

/// Anomalies of reports that are recorded and change nothing.
const WITHOUT_EFFECT: [&str; 3] = ["ambiguous_target", "switched_to_empty_slot", "environment_retired"];

/// Returns the reason why a recorded report changed nothing; none if it has an effect, as far as is known.
pub(super) fn without_effect(anomalies: &[String], targets: &[String]) -> Option<String> {
    let anomaly = anomalies.iter().find(|anomaly| WITHOUT_EFFECT.contains(&anomaly.as_str()))?;
    notes(std::slice::from_ref(anomaly), &[], targets).pop()
}

/// Returns true if the result has the members that a ledger always sends. A gateway may answer
/// `{"status":"rejected"}`, too.
fn is_from_ledger(result: &EventResult) -> bool {
    if result.status.is_recorded() {
        result.position.is_some()
    } else {
        result.problem.as_ref().is_some_and(|problem| problem.slug().is_some())
    }
}

/// Parses the results of a number of events, one per line.
///
/// # Errors
/// A line is not the result of a ledger, or the number of results differs.
pub(super) fn parse_results(lines: &[u8], events: usize) -> Result<Vec<EventResult>, String> {
    let results = serde_json::Deserializer::from_slice(lines).into_iter();
    // One more shows that there are too many.
    let results: Result<Vec<EventResult>, _> = results.take(events + 1).collect();
    let results = results.map_err(|error| error.to_string())?;
    if !results.iter().all(is_from_ledger) {
        return Err("a result without a position, or without a problem of a release ledger".to_owned());
    }
    match results.len() {
        number if number > events => Err(format!("more than {events} results for {events} events")),
        number if number < events => Err(format!("{number} results for {events} events")),
        _ => Ok(results),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_to_a_slot_that_is_unknown_or_empty_has_a_note_that_says_so() {
        let note = |anomaly: &str| notes(&[anomaly.to_owned()], &[], &[]).join("; ");
        assert!(note("switch_pending").contains("no deploy to this slot is recorded"));
        assert!(note("switched_to_empty_slot").contains("the slot is empty"));
    }

    #[test]
    fn a_result_without_the_members_of_a_ledger_is_rejected() {
        let problem =
            |kind: &str| format!(r#"{{"status":"rejected","problem":{{"type":"{kind}","title":"No"}}}}"#);
        let accepted = |line: &str| parse_results(line.as_bytes(), 1).map(|results| results.len());

        assert_eq!(accepted(r#"{"status":"recorded","position":1}"#), Ok(1));
        assert_eq!(accepted(&problem("urn:release-ledger:problem:freeze-mismatch")), Ok(1));
        for foreign in
            [r#"{"status":"recorded"}"#, r#"{"status":"rejected"}"#, &problem("about:blank"), "<html>"]
        {
            assert!(accepted(foreign).is_err(), "{foreign}");
        }
        let recorded = r#"{"status":"recorded","position":1}"#;
        assert!(accepted("").is_err() && accepted(&recorded.repeat(2)).is_err());
    }
}
