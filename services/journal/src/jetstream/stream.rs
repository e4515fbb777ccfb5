//! The stream that a ledger is kept in: made once, compared at every start, never changed once it is whole.

use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use ledger_domain::TenantName;
use tracing::warn;

use super::{OpenError, restore};
use crate::{Subject, SubjectFilter};

/// How a tenant's stream is made.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// Copies of every entry: 1 or 3.
    pub replicas: usize,
    /// How long the server itself remembers identities.
    pub duplicate_window: Duration,
}

/// A stored message is an event of at most 65,535 bytes and its headers.
const MESSAGE_LIMIT: i32 = 128 * 1024;

/// A dot, which no stream's name may have, is written `=`, which no tenant's has. Not as in subjects:
/// servers before 2.14.4 cannot deliver from a stream with `%` in its name.
pub(super) fn name_of(tenant: &TenantName) -> String {
    format!("LEDGER_{}", tenant.as_str().replace('.', "="))
}

pub(super) fn wanted(tenant: &TenantName, settings: &StreamSettings) -> Config {
    Config {
        name: name_of(tenant),
        description: Some("A release ledger. Nothing in it is ever changed or deleted.".into()),
        subjects: vec![Subject::filter(tenant, &SubjectFilter::All).as_str().to_owned()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_message_size: MESSAGE_LIMIT,
        num_replicas: settings.replicas,
        duplicate_window: settings.duplicate_window,
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        allow_atomic_publish: true,
        ..Config::default()
    }
}

/// The tenant's stream; one that is not there is made, if it may be.
pub(super) async fn open(
    context: &Context,
    tenant: &TenantName,
    settings: &StreamSettings,
) -> Result<Stream, OpenError> {
    match find(context, tenant, settings).await? {
        Some(stream) => Ok(stream),
        None => fitting(settings, tenant, make(context, &wanted(tenant, settings)).await?),
    }
}

/// The tenant's stream, if there is one. It must fit.
pub(super) async fn find(
    context: &Context,
    tenant: &TenantName,
    settings: &StreamSettings,
) -> Result<Option<Stream>, OpenError> {
    let found = look(context, tenant).await?;
    found.map(|stream| fitting(settings, tenant, stream)).transpose()
}

/// The tenant's stream, if there is one, whatever it is.
pub(super) async fn look(context: &Context, tenant: &TenantName) -> Result<Option<Stream>, OpenError> {
    let name = name_of(tenant);
    match context.get_stream(&name).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if is_absent(&error.kind()) => Ok(None),
        Err(error) => Err(OpenError::JetStream { stream: name, reason: error.to_string() }),
    }
}

pub(super) async fn make(context: &Context, config: &Config) -> Result<Stream, OpenError> {
    let made = context.create_stream(config.clone()).await;
    made.map_err(|error| OpenError::JetStream { stream: config.name.clone(), reason: error.to_string() })
}

fn fitting(settings: &StreamSettings, tenant: &TenantName, stream: Stream) -> Result<Stream, OpenError> {
    let config = &stream.cached_info().config;
    if restore::is_marked(config) {
        return Err(OpenError::Restoring { stream: config.name.clone() });
    }
    let differences = differences(&wanted(tenant, settings), config);
    if !differences.is_empty() {
        return Err(OpenError::Mismatch { stream: config.name.clone(), differences });
    }
    if config.num_replicas != settings.replicas {
        // An operator changes the stream and the setting one after the other, with a restart in between:
        // to refuse would keep the ledger closed for what does not harm it.
        let (found, wanted) = (config.num_replicas, settings.replicas);
        warn!(stream = config.name, found, wanted, "replicas differ");
    }
    Ok(stream)
}

/// How a stream that may have been changed meanwhile differs from what a ledger depends on.
pub(super) fn config_drift(tenant: &TenantName, settings: &StreamSettings, found: &Config) -> Vec<String> {
    differences(&wanted(tenant, settings), found)
}

fn is_absent(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// What a ledger depends on. `max_bytes` is the operator's to choose: a full stream refuses, it drops
/// nothing. So are replicas, which may be changed online.
pub(super) fn differences(wanted: &Config, found: &Config) -> Vec<String> {
    let mut differences = Vec::new();
    macro_rules! compare {
        ($($field:ident),+) => {$(
            if wanted.$field != found.$field {
                differences.push(format!(
                    "{} is {:?} and must be {:?}", stringify!($field), found.$field, wanted.$field
                ));
            }
        )+};
    }
    compare!(
        subjects,
        retention,
        storage,
        discard,
        max_messages,
        max_messages_per_subject,
        max_message_size,
        max_age,
        no_ack,
        duplicate_window,
        sealed,
        allow_rollup,
        deny_delete,
        deny_purge,
        mirror,
        sources,
        subject_transform,
        allow_message_ttl,
        allow_atomic_publish,
        persist_mode
    );
    if found.first_sequence.unwrap_or(1) > 1 {
        differences.push(format!("first_sequence is {:?} and must be 1", found.first_sequence));
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> StreamSettings {
        StreamSettings { replicas: 1, duplicate_window: Duration::from_secs(120) }
    }

    #[test]
    fn a_stream_that_could_drop_entries_does_not_fit() {
        let wanted = wanted(&TenantName::default(), &settings());
        let found = Config { max_messages: 1000, deny_delete: false, ..wanted.clone() };
        assert_eq!(
            differences(&wanted, &found),
            ["max_messages is 1000 and must be -1", "deny_delete is false and must be true"]
        );
    }

    #[test]
    fn room_and_replicas_are_the_operators_choice() {
        let wanted = wanted(&TenantName::default(), &settings());
        let found = Config { max_bytes: 1 << 30, num_replicas: 3, ..wanted.clone() };
        assert_eq!(differences(&wanted, &found), [""; 0]);
    }
}
