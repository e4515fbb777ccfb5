//! Subscriptions: webhooks to which the service delivers the entries of the ledger.

use crate::{
    EnvironmentName, Kind, Position, SecretName, ServiceName, ShortText, SubscriptionName, TextError,
};

/// A subscription: which entries are delivered, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Name of the subscription, unique among those of the tenant that are not removed.
    pub name: SubscriptionName,
    /// Address of the receiver.
    pub url: WebhookUrl,
    /// Name of the signing secret in the settings of the service. The secret is not in the ledger.
    pub secret: SecretName,
    /// Entries that are delivered.
    pub filter: SubscriptionFilter,
}

/// Filter of a subscription: an entry has to meet every given condition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubscriptionFilter {
    /// Environment of the event; `None`: any, or none.
    pub environment: Option<EnvironmentName>,
    /// Service of the event; `None`: any, or none.
    pub service: Option<ServiceName>,
    /// Kinds of event; empty: any.
    pub types: Vec<Kind>,
}

impl SubscriptionFilter {
    /// Maximum number of types.
    pub const MAX_TYPES: usize = 100;

    /// Returns true if an entry with these columns passes.
    #[must_use]
    pub fn matches(&self, kind: Kind, environment: Option<&str>, service: Option<&str>) -> bool {
        let is = |wanted: Option<&str>, found: Option<&str>| wanted.is_none_or(|name| found == Some(name));
        is(self.environment.as_ref().map(EnvironmentName::as_str), environment)
            && is(self.service.as_ref().map(ServiceName::as_str), service)
            && (self.types.is_empty() || self.types.contains(&kind))
    }
}

/// A subscription to which the service delivers no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionDisabling {
    /// Name of the subscription.
    pub name: SubscriptionName,
    /// Position of the `subscription.created` that stated the URL to which deliveries failed.
    pub settings_position: Position,
    /// Position up to which every entry that passes the filter was delivered.
    pub delivered_position: Position,
}

/// Address of a receiver: an `http` or `https` URL without user, password and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUrl(ShortText);

/// Reason why a text is not the address of a receiver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookUrlError {
    /// The text is no line, or too long.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The scheme is another one.
    #[error("must start with https:// or http://, in lower case")]
    Scheme,
    /// The part before the host.
    #[error("must not contain a user or a password: the ledger is permanent, and its readers would see it")]
    UserInfo,
    /// The host or the port.
    #[error("must have a host, and a port from 1 to 65535 if any, such as https://hooks.example:8443/ledger")]
    Authority,
    /// The part after `#`.
    #[error("must not have a fragment, which is never sent")]
    Fragment,
    /// A character that no URL contains.
    #[error("contains {0:?}; percent-encode it")]
    Character(char),
}

impl WebhookUrl {
    /// Parses an address.
    ///
    /// # Errors
    /// The text breaks a rule, which the error names.
    pub fn parse(text: &str) -> Result<Self, WebhookUrlError> {
        let parsed = ShortText::parse(text)?;
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let rest = rest.ok_or(WebhookUrlError::Scheme)?;
        if rest.contains('#') {
            return Err(WebhookUrlError::Fragment);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(WebhookUrlError::UserInfo);
        }
        if !is_authority(authority) {
            return Err(WebhookUrlError::Authority);
        }
        match path.chars().find(|c| !is_path_character(*c)) {
            Some(c) => Err(WebhookUrlError::Character(c)),
            None => Ok(Self(parsed)),
        }
    }

    /// Returns the address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Returns true for `HOST` or `HOST:PORT`.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            if address.is_empty() || !address.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'))
            {
                return false;
            }
            return port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !host.is_empty() && host.chars().all(is_host) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_path_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~:/?@!$&'()*+,;=%".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_a_host_and_perhaps_a_port_and_a_path() {
        for good in [
            "https://hooks.example",
            "https://hooks.example/",
            "http://10.0.0.7:8080/a/b?c=d&e=%20f",
            "https://[2001:db8::1]:8443/x",
            "https://[::1]",
            "https://a_b.example?q",
        ] {
            assert_eq!(WebhookUrl::parse(good).as_ref().map(WebhookUrl::as_str), Ok(good));
        }
    }

    #[test]
    fn an_address_that_breaks_a_rule_is_rejected_with_the_rule() {
        let error = |text: &str| WebhookUrl::parse(text).expect_err(text);
        for text in ["ftp://hooks.example", "HTTPS://hooks.example", "hooks.example", "//hooks.example"] {
            assert_eq!(error(text), WebhookUrlError::Scheme, "{text}");
        }
        for text in ["https://ada@hooks.example", "https://ada:secret@hooks.example/x"] {
            assert_eq!(error(text), WebhookUrlError::UserInfo, "{text}");
        }
        for text in [
            "https://",
            "https:///path",
            "https://:80",
            "https://a:0",
            "https://a:65536",
            "https://a:",
            "https://a:80:80",
            "https://[::1",
            "https://[]",
            "https://[::1]80",
            "https://exa mple",
        ] {
            assert_eq!(error(text), WebhookUrlError::Authority, "{text}");
        }
        assert_eq!(error("https://a/b#c"), WebhookUrlError::Fragment);
        assert_eq!(error("https://a/b c"), WebhookUrlError::Character(' '));
        assert_eq!(error("https://a/caf\u{e9}"), WebhookUrlError::Character('\u{e9}'));
        assert!(matches!(error(&format!("https://a/{}", "x".repeat(512))), WebhookUrlError::Text(_)));
    }

    #[test]
    fn a_filter_selects_by_every_given_condition() {
        let filter = SubscriptionFilter {
            environment: EnvironmentName::parse("production").ok(),
            service: None,
            types: vec![Kind::DeploySucceeded, Kind::DeployFailed],
        };
        assert!(filter.matches(Kind::DeployFailed, Some("production"), Some("web")));
        assert!(!filter.matches(Kind::DeployStarted, Some("production"), Some("web")));
        assert!(!filter.matches(Kind::DeployFailed, Some("staging"), Some("web")));
        assert!(!filter.matches(Kind::DeployFailed, None, None));
        assert!(SubscriptionFilter::default().matches(Kind::ArtifactBuilt, None, None));
    }
}
