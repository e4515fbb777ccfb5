//! Data of the events about subscriptions.

use ledger_domain::event::{Subscription, SubscriptionDisabling, SubscriptionFilter, WebhookUrl};
use ledger_domain::{EnvironmentName, Kind, Position, SecretName, ServiceName, SubscriptionName};

use super::Decoded;
use crate::cloudevents::fields::{Fields, Pointer};
use crate::ijson::Json;

pub(super) fn name(fields: &Fields<'_, '_>) -> Decoded<SubscriptionName> {
    fields.text("subscription", SubscriptionName::parse)
}

pub(super) fn creation(fields: &Fields<'_, '_>) -> Decoded<Subscription> {
    Ok(Subscription {
        name: name(fields)?,
        url: fields.text("url", WebhookUrl::parse)?,
        secret: fields.text("secret", SecretName::parse)?,
        filter: fields.optional("filter", filter)?.unwrap_or_default(),
    })
}

fn filter(json: &Json<'_>, at: Pointer<'_>) -> Decoded<SubscriptionFilter> {
    let fields = Fields::new(json, at)?;
    let filter = SubscriptionFilter {
        environment: fields.optional_text("environment", EnvironmentName::parse)?,
        service: fields.optional_text("service", ServiceName::parse)?,
        types: fields.text_list("types", Kind::parse_name)?,
    };
    if filter.types.len() > SubscriptionFilter::MAX_TYPES {
        let detail = format!("must have at most {} types", SubscriptionFilter::MAX_TYPES);
        return Err(fields.invalid("types", detail));
    }
    fields.finish()?;
    Ok(filter)
}

pub(super) fn disabling(fields: &Fields<'_, '_>) -> Decoded<SubscriptionDisabling> {
    Ok(SubscriptionDisabling {
        name: name(fields)?,
        settings_position: Position::new(fields.number("settings_position")?),
        delivered_position: Position::new(fields.number("delivered_position")?),
    })
}
