//! CDEvents: bare, inside CloudEvents, and written.

use ledger_adapters::cdevents::{self, Settings};
use ledger_adapters::names::Names;
use ledger_adapters::translation::{NotUnderstood, Translation};
use ledger_codec::cloudevents::{Envelope, TIME_OF_ARRIVAL};
use ledger_domain::Position;
use serde_json::Value;

use crate::choices::Choices;
use crate::codec::{check_event, check_shown, has_secret};
use crate::{edit, samples};

/// Returns settings: none, or defaults for what a message does not name.
fn settings(choices: &mut Choices<'_>) -> Settings {
    if !choices.one_in(4) {
        return Settings::default();
    }
    let names = Names {
        environments: [("production".to_owned(), "live".to_owned())].into(),
        default_environment: Some("production".to_owned()),
        default_target: Some("eu".to_owned()),
        ..Names::default()
    };
    Settings { names }
}

/// Checks that the ledger accepts the events of a translation.
pub(crate) fn check_translation(translation: &Result<Translation, NotUnderstood>) {
    let events = match translation {
        Ok(Translation::Events(events)) => {
            assert!(!events.is_empty(), "a translation to no event");
            events
        }
        Ok(Translation::Partial(part)) => &part.events,
        Ok(Translation::Ignored(_)) | Err(_) => return,
    };
    for event in events {
        // The only attribute that a translation may have, and a client may not.
        let mut event = event.0.clone();
        event.remove(TIME_OF_ARRIVAL);
        let json = Value::Object(event).to_string();
        assert!(check_event(json.as_bytes()).is_some(), "the ledger rejects {json}");
    }
}

/// Reads a bare CDEvent. Inside a CloudEvent it means the same.
pub(crate) fn bare(choices: &mut Choices<'_>) {
    let settings = settings(choices);
    let json = edit::document(samples::cdevents(), choices);
    let translation = cdevents::read(&json, &settings);
    check_translation(&translation);
    assert_eq!(translation, cdevents::read(&json, &settings), "two meanings");
    if has_secret(&json) {
        assert!(translation.is_err(), "a secret is accepted: {}", String::from_utf8_lossy(&json));
    }
    check_shown(&format!("{:?}", translation.as_ref().err()), &json);
    if let (Ok(translation), Ok(message)) = (translation, serde_json::from_slice::<Value>(&json)) {
        let envelope = samples::in_cloudevent(&message).to_string();
        let structured = cdevents::read_structured(envelope.as_bytes(), &settings);
        assert_eq!(structured, Ok(translation), "structured mode: {envelope}");
    }
}

/// Reads a CDEvent inside a CloudEvent. It means the same in structured and in binary mode.
pub(crate) fn in_cloudevents(choices: &mut Choices<'_>) {
    let settings = settings(choices);
    let json = edit::document(samples::cloudevents(), choices);
    let structured = cdevents::read_structured(&json, &settings);
    check_translation(&structured);
    let Ok(Value::Object(mut members)) = serde_json::from_slice(&json) else { return };
    let data = members.remove("data").map(|data| data.to_string()).unwrap_or_default();
    let is_text = members.values().all(Value::is_string);
    let texts = members.iter().map(|(name, value)| (&**name, value.as_str().unwrap_or_default().to_owned()));
    let binary = cdevents::read_binary(texts, data.as_bytes(), &settings);
    check_translation(&binary);
    if let (true, Ok(structured)) = (is_text, structured) {
        assert_eq!(binary, Ok(structured), "binary mode: {}", String::from_utf8_lossy(&json));
    }
}

/// Reads a batch. Each event means in it what it means alone.
pub(crate) fn in_batch(choices: &mut Choices<'_>) {
    let settings = settings(choices);
    let limit = choices.below(8);
    let json = edit::document(samples::cloudevent_batches(), choices);
    let Ok(translations) = cdevents::read_batch(&json, limit, &settings) else { return };
    assert!(translations.len() <= limit);
    let items: Vec<Value> = serde_json::from_slice(&json).expect("a batch is an array");
    assert_eq!(items.len(), translations.len());
    for (item, translation) in items.iter().zip(&translations) {
        check_translation(translation);
        let alone = cdevents::read_structured(item.to_string().as_bytes(), &settings);
        assert_eq!(alone.is_ok(), translation.is_ok(), "{item}: {alone:?} {translation:?}");
        if alone.is_ok() {
            assert_eq!(&alone, translation);
        }
    }
}

/// Writes an event as a CDEvent, and reads that.
pub(crate) fn written(choices: &mut Choices<'_>) {
    let json = edit::document(samples::events(), choices);
    let Ok(envelope) = Envelope::parse(&json) else { return };
    let position = Position::new(u64::from(choices.byte()) + 1);
    let written = cdevents::write(&envelope, position);
    let translation = cdevents::read(written.to_string().as_bytes(), &Settings::default());
    check_translation(&translation);
    let Ok(Translation::Events(events)) = translation else { panic!("{translation:?}: {written}") };
    let read = Value::Object(events[0].0.clone());
    assert_eq!(read["id"], envelope.identity().id.as_str(), "{written}");
    assert_eq!(read["source"], envelope.identity().source.as_str(), "{written}");
}
