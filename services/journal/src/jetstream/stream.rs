//! The stream of a ledger: created once, checked at every start, and never changed once it is complete.

use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use ledger_domain::TenantName;
use tracing::warn;

use super::OpenError;
use crate::{Subject, SubjectFilter};

/// Settings of a tenant's stream.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// Number of replicas: 1 or 3.
    pub replicas: usize,
    /// Time during which the server itself deduplicates identities.
    pub duplicate_window: Duration,
}

/// Maximum size in bytes of a stored message: an event of at most 65,535 bytes, and its headers.
const MAX_MESSAGE_BYTES: i32 = 128 * 1024;

/// Metadata key that marks a stream with an incomplete restore.
pub(super) const RESTORING_KEY: &str = "release-ledger-restoring";

/// Returns true if a restore of the stream was started and is not complete.
pub(super) fn is_restoring(config: &Config) -> bool {
    config.metadata.contains_key(RESTORING_KEY)
}

/// Returns the name of a tenant's stream. A dot, which stream names must not contain, is written `=`, which tenant
/// names do not contain. The `%2E` of subjects does not work: servers before 2.14.4 cannot deliver from a stream
/// with `%` in its name.
pub(super) fn name_of(tenant: &TenantName) -> String {
    format!("LEDGER_{}", tenant.as_str().replace('.', "="))
}

pub(super) fn expected_config(tenant: &TenantName, settings: &StreamSettings) -> Config {
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
        max_message_size: MAX_MESSAGE_BYTES,
        num_replicas: settings.replicas,
        duplicate_window: settings.duplicate_window,
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        allow_atomic_publish: true,
        ..Config::default()
    }
}

/// Returns the tenant's stream. Creates it if it does not exist.
pub(super) async fn open(
    context: &Context,
    tenant: &TenantName,
    settings: &StreamSettings,
) -> Result<Stream, OpenError> {
    match find(context, tenant, settings).await? {
        Some(stream) => Ok(stream),
        None => check(settings, tenant, create(context, &expected_config(tenant, settings)).await?),
    }
}

/// Returns the tenant's stream if it exists, after a check of its settings.
pub(super) async fn find(
    context: &Context,
    tenant: &TenantName,
    settings: &StreamSettings,
) -> Result<Option<Stream>, OpenError> {
    let found = get(context, tenant).await?;
    found.map(|stream| check(settings, tenant, stream)).transpose()
}

/// Returns the tenant's stream if it exists, without a check of its settings.
pub(super) async fn get(context: &Context, tenant: &TenantName) -> Result<Option<Stream>, OpenError> {
    let name = name_of(tenant);
    match context.get_stream(&name).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if is_not_found(&error.kind()) => Ok(None),
        Err(error) => Err(OpenError::JetStream { stream: name, reason: error.to_string() }),
    }
}

pub(super) async fn create(context: &Context, config: &Config) -> Result<Stream, OpenError> {
    let created = context.create_stream(config.clone()).await;
    created.map_err(|error| OpenError::JetStream { stream: config.name.clone(), reason: error.to_string() })
}

fn check(settings: &StreamSettings, tenant: &TenantName, stream: Stream) -> Result<Stream, OpenError> {
    let config = &stream.cached_info().config;
    if is_restoring(config) {
        return Err(OpenError::RestoreSession { stream: config.name.clone() });
    }
    let differences = differences(&expected_config(tenant, settings), config);
    if !differences.is_empty() {
        return Err(OpenError::Mismatch { stream: config.name.clone(), differences });
    }
    if config.num_replicas != settings.replicas {
        // Only warn: an operator changes the stream and the setting one after the other, with a restart in between,
        // and the difference is harmless.
        let (found, expected) = (config.num_replicas, settings.replicas);
        warn!(stream = config.name, found, expected, "replicas differ");
    }
    Ok(stream)
}

/// Describes the settings of an open stream that no longer meet the requirements.
pub(super) fn config_drift(tenant: &TenantName, settings: &StreamSettings, found: &Config) -> Vec<String> {
    differences(&expected_config(tenant, settings), found)
}

pub(super) fn is_not_found(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Describes the differences in the settings that a ledger depends on. The operator may choose `max_bytes`, because
/// a full stream rejects messages and drops none, and the replicas, which can be changed online.
pub(super) fn differences(expected: &Config, found: &Config) -> Vec<String> {
    let mut differences = Vec::new();
    macro_rules! compare {
        ($($field:ident),+) => {$(
            if expected.$field != found.$field {
                differences.push(format!(
                    "{} is {:?} and must be {:?}", stringify!($field), found.$field, expected.$field
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
    fn a_stream_that_may_drop_entries_does_not_fit() {
        let expected = expected_config(&TenantName::default(), &settings());
        let found = Config { max_messages: 1000, deny_delete: false, ..expected.clone() };
        assert_eq!(
            differences(&expected, &found),
            ["max_messages is 1000 and must be -1", "deny_delete is false and must be true"]
        );
    }

    #[test]
    fn the_operator_may_choose_max_bytes_and_replicas() {
        let expected = expected_config(&TenantName::default(), &settings());
        let found = Config { max_bytes: 1 << 30, num_replicas: 3, ..expected.clone() };
        assert_eq!(differences(&expected, &found), [""; 0]);
    }
}
