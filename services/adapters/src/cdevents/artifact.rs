//! Built artifacts.

use ledger_domain::ShortText;

use super::message::Message;
use super::native::{Data, Native};
use super::release::reference;
use crate::translation::NotUnderstood;

/// Translates the report that an artifact was packaged. Returns `None` if its id does not pin it: a tag can move.
///
/// The change in the event is no commit: it may be a pull request. The commit is that of `customData`.
pub(super) fn packaged(message: &Message) -> Result<Option<Native>, NotUnderstood> {
    let custom = &message.custom;
    let Ok(found) = reference(&message.subject_id, "/subject/id") else { return Ok(None) };
    let Some(artifact) = found.artifact.clone() else { return Ok(None) };
    let named = custom.parsed_scope("version", ShortText::parse)?.map(|version| version.as_str().to_owned());
    let version = named.or_else(|| found.named_version()).filter(|text| ShortText::parse(text).is_ok());
    let commit = custom.line("commit")?;
    let data = Data::default()
        .put("artifact", artifact)
        .optional("version", version)
        .optional("commit", commit.as_ref().map(ShortText::as_str))
        .actor(custom.actor())
        .reason(custom.text("reason").ok().flatten().as_deref())
        .links(&[("sbom", message.text(&["sbom", "uri"]))], message);
    Ok(Some(Native { kind: "artifact.built", subject: Some(message.subject_id.clone()), data }))
}
