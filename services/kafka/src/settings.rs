//! Settings: the properties of the clients, the topics that are read, and those that are written.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;

use ledger_domain::{EnvironmentName, Kind, Position, Principal, ServiceName, ShortText, TenantName};
use ledger_projections::EventFilter;
use ledger_streams::follower::{FollowerSettings, StartAt};
use ledger_streams::inbound::{Format, Route};
use secrecy::{ExposeSecret, SecretString};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

/// Maximum number of entries of one delivery.
const PAGE_SIZE: u32 = 500;
/// The same for states of lanes: each needs queries.
const STATE_PAGE_SIZE: u32 = 50;

/// Properties with a minimum and a maximum: with other values, the work could stop.
const BOUNDS: &[(&str, i64, i64)] = &[
    // Longer than an entry with its headers.
    ("message.max.bytes", 262_144, 1_000_000_000),
    ("max.poll.interval.ms", 60_000, 86_400_000),
    // A delivery fits into the queue, and leaves it before its time limit.
    ("queue.buffering.max.messages", 10_000, i64::MAX),
    ("queue.buffering.max.kbytes", 65_536, i64::MAX),
    ("linger.ms", 0, 1_000),
    ("queue.buffering.max.ms", 0, 1_000),
    ("session.timeout.ms", 6_000, 600_000),
    // The statistics end faults of the connection.
    ("statistics.interval.ms", 100, 60_000),
];

/// Properties that the service sets: with other values, messages could be lost or reordered, or the work could stop.
const RESERVED: &[&str] = &[
    "acks",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "message.timeout.ms",
    "partition.assignment.strategy",
    "request.required.acks",
    "request.timeout.ms",
    "retries",
    "test.mock.num.brokers",
    "topic.metadata.propagation.max.ms",
    "transactional.id",
];

/// Error in the settings.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct SettingsError {
    place: String,
    reason: String,
}

impl SettingsError {
    pub(crate) fn new(place: impl Into<String>, reason: impl Display) -> Self {
        Self { place: place.into(), reason: reason.to_string() }
    }

    pub(crate) fn unknown_tenant(place: &str, tenant: &TenantName) -> Self {
        Self::new(place, format_args!("tenant {tenant} is not one of the tenants in the settings"))
    }
}

/// Settings of Kafka.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Properties of librdkafka, for all clients.
    pub properties: BTreeMap<String, Property>,
    /// Files that contain the value of a property, such as a password. White space at the end is removed.
    #[serde(default)]
    pub property_files: BTreeMap<String, PathBuf>,
    /// Maximum size of all messages of a `kafka.in` that are received and not recorded yet, in bytes, beside those that
    /// librdkafka has fetched in advance.
    #[serde(default = "default_buffered_bytes")]
    pub max_buffered_bytes: usize,
    /// Topics that are read, by name.
    #[serde(default, rename = "in")]
    pub inbound: BTreeMap<String, InSetting>,
    /// Topics that are written, by name.
    #[serde(default, rename = "out")]
    pub outbound: BTreeMap<String, OutSetting>,
}

/// Minimum of the setting `max_buffered_bytes`.
const MIN_BUFFERED_BYTES: usize = 64 << 10;

const fn default_buffered_bytes() -> usize {
    16 << 20
}

/// Value of a property. It cannot be printed: it may be a password.
#[derive(Debug, Clone)]
pub struct Property(SecretString);

impl Property {
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Property {
    fn from(value: String) -> Self {
        Self(value.into())
    }
}

impl<'de> Deserialize<'de> for Property {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Scalar {
            Flag(bool),
            Whole(i64),
            Text(String),
        }
        // The error of the format could repeat the value.
        let scalar = Scalar::deserialize(deserializer)
            .map_err(|_| D::Error::custom("a property is a text, a whole number, true or false"))?;
        Ok(match scalar {
            Scalar::Flag(flag) => flag.to_string().into(),
            Scalar::Whole(number) => number.to_string().into(),
            Scalar::Text(text) => text.into(),
        })
    }
}

/// Topics whose messages are recorded.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InSetting {
    /// Topics.
    pub topics: Vec<String>,
    /// Tenant whose ledger records the events.
    #[serde(default, deserialize_with = "tenant")]
    pub tenant: TenantName,
    /// Consumer group.
    pub group: String,
    /// Format of the messages.
    #[serde(default = "default_format", deserialize_with = "format")]
    pub format: Format,
    /// Topic that receives the messages that are not recorded.
    pub dead_letter_topic: Option<String>,
}

const fn default_format() -> Format {
    Format::Events
}

/// Topic to which entries are produced.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutSetting {
    /// Tenant whose entries are produced.
    #[serde(default, deserialize_with = "tenant")]
    pub tenant: TenantName,
    /// Topic.
    pub topic: String,
    /// Key of the records.
    #[serde(default)]
    pub key: KeyKind,
    /// Value of the records.
    #[serde(default)]
    pub value: ValueKind,
    /// Position at which a follower begins that has no position yet.
    #[serde(default)]
    pub start: Start,
    /// Only entries of this environment.
    #[serde(default, deserialize_with = "environment")]
    pub environment: Option<EnvironmentName>,
    /// Only entries of this service.
    #[serde(default, deserialize_with = "service")]
    pub service: Option<ServiceName>,
    /// Only entries of these kinds; empty: of any kind.
    #[serde(default, deserialize_with = "kinds")]
    pub kinds: Vec<Kind>,
    /// Only entries with this correlation.
    #[serde(default, deserialize_with = "correlation")]
    pub correlation: Option<ShortText>,
}

/// Key of a record. Records with the same key keep their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// The lane, `environment/target/service`; without one lane, as for [`KeyKind::Environment`].
    #[default]
    Lane,
    /// The environment; without one, the tenant.
    Environment,
    /// The tenant: all records keep their order.
    Tenant,
}

/// Value of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueKind {
    /// The CloudEvent, byte for byte as stored.
    #[default]
    Entry,
    /// A CDEvent.
    Cdevents,
    /// The state of a lane after an entry changed it.
    LaneState,
}

/// Position at which a follower begins that has no position yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start(pub StartAt);

impl Default for Start {
    fn default() -> Self {
        Self(StartAt::Beginning)
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Number(u64),
            Word(String),
        }
        let given = Given::deserialize(deserializer)?;
        let start = match &given {
            Given::Number(position) => Some(StartAt::After(Position::new(*position))),
            Given::Word(word) => match word.as_str() {
                "beginning" => Some(StartAt::Beginning),
                "now" => Some(StartAt::Now),
                number => number.parse().ok().map(|number| StartAt::After(Position::new(number))),
            },
        };
        let error =
            || D::Error::custom("start is \"beginning\", \"now\", or the position after which to begin");
        start.map(Self).ok_or_else(error)
    }
}

/// Reads a text and parses it.
fn parsed<'de, D: Deserializer<'de>, T, E: Display>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn tenant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TenantName, D::Error> {
    parsed(deserializer, TenantName::parse)
}

fn environment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<EnvironmentName>, D::Error> {
    parsed(deserializer, EnvironmentName::parse).map(Some)
}

fn service<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ServiceName>, D::Error> {
    parsed(deserializer, ServiceName::parse).map(Some)
}

fn correlation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ShortText>, D::Error> {
    parsed(deserializer, ShortText::parse).map(Some)
}

fn kinds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Kind>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| Kind::parse_name(name)).collect::<Result<_, _>>().map_err(D::Error::custom)
}

fn format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Format, D::Error> {
    parsed(deserializer, |text| match (text, text.strip_prefix("hook:")) {
        ("events", _) => Ok(Format::Events),
        (_, Some(name)) if !name.is_empty() => Ok(Format::Hook(name.to_owned())),
        _ => Err("format is \"events\" or \"hook:NAME\""),
    })
}

/// Checks the name of a topic. A name that starts with `^` would be a pattern for librdkafka.
fn check_topic(place: &str, topic: &str) -> Result<(), SettingsError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name =
        (1..=249).contains(&topic.len()) && topic.bytes().all(is_allowed) && !matches!(topic, "." | "..");
    if is_name {
        return Ok(());
    }
    let rule = "a topic has 1 to 249 letters, digits, '.', '_' and '-'";
    Err(SettingsError::new(place, format_args!("topic {topic:?} is not valid: {rule}")))
}

impl Settings {
    /// Checks what needs no connection. `tenants` are those that the service opens, and `hooks` the tenants of its
    /// webhooks, by name.
    ///
    /// # Errors
    /// Names the setting that is not valid.
    pub fn check(
        &self,
        tenants: &[TenantName],
        hooks: &BTreeMap<String, TenantName>,
    ) -> Result<(), SettingsError> {
        for name in self.properties.keys().chain(self.property_files.keys()) {
            if RESERVED.contains(&name.as_str()) {
                let reason =
                    format_args!("{name} cannot be set: the service sets it, so that no message is lost");
                return Err(SettingsError::new("kafka.properties", reason));
            }
        }
        if let Some(name) = self.property_files.keys().find(|name| self.properties.contains_key(*name)) {
            let reason = format_args!("{name} is also in kafka.properties: remove one of them");
            return Err(SettingsError::new("kafka.property_files", reason));
        }
        if let Some((name, ..)) = BOUNDS.iter().find(|(name, ..)| self.property_files.contains_key(*name)) {
            let reason = format_args!("{name} has bounds and no secret: set it in kafka.properties");
            return Err(SettingsError::new("kafka.property_files", reason));
        }
        self.check_bounds()?;
        if self.max_buffered_bytes < MIN_BUFFERED_BYTES {
            let reason = format_args!("must be at least {MIN_BUFFERED_BYTES}");
            return Err(SettingsError::new("kafka.max_buffered_bytes", reason));
        }
        for (name, setting) in &self.inbound {
            setting.check(&format!("kafka.in.{name}"), name, tenants, hooks)?;
        }
        for (name, setting) in &self.outbound {
            setting.check(&format!("kafka.out.{name}"), name, tenants)?;
        }
        self.check_shared()?;
        self.check_loops()
    }

    /// Checks the properties that have bounds.
    fn check_bounds(&self) -> Result<(), SettingsError> {
        for (name, minimum, maximum) in BOUNDS {
            let Some(value) = self.properties.get(*name) else { continue };
            let is_within = |value: i64| (*minimum..=*maximum).contains(&value);
            if !value.expose().parse::<i64>().is_ok_and(is_within) {
                let reason = match *maximum {
                    i64::MAX => format!("{name} must be at least {minimum}: otherwise the work could stop"),
                    _ => format!("{name} must be from {minimum} to {maximum}: otherwise the work could stop"),
                };
                return Err(SettingsError::new("kafka.properties", reason));
            }
        }
        Ok(())
    }

    /// Checks that no two sections read a topic as one group, and that no two write one topic.
    fn check_shared(&self) -> Result<(), SettingsError> {
        let (mut read, mut written) = (BTreeMap::new(), BTreeMap::new());
        for (name, setting) in &self.inbound {
            for topic in &setting.topics {
                if let Some(other) = read.insert((&setting.group, topic), name).filter(|other| *other != name)
                {
                    let reason = format_args!(
                        "kafka.in.{other} reads topic {topic} as the same group: each would get a part of it"
                    );
                    return Err(SettingsError::new(format!("kafka.in.{name}"), reason));
                }
            }
        }
        for (name, setting) in &self.outbound {
            if let Some(other) = written.insert(&setting.topic, name) {
                let reason = format_args!("kafka.out.{other} writes topic {}, too", setting.topic);
                return Err(SettingsError::new(format!("kafka.out.{name}"), reason));
            }
        }
        Ok(())
    }

    /// Checks that no topic is both read and written: its messages would circulate.
    fn check_loops(&self) -> Result<(), SettingsError> {
        let written = self.outbound.values().map(|setting| &setting.topic);
        let dead = self.inbound.values().filter_map(|setting| setting.dead_letter_topic.as_ref());
        let written: Vec<&String> = written.chain(dead).collect();
        for (name, setting) in &self.inbound {
            if let Some(topic) = setting.topics.iter().find(|topic| written.contains(topic)) {
                let reason = format_args!("topic {topic} is also written by the service");
                return Err(SettingsError::new(format!("kafka.in.{name}"), reason));
            }
        }
        Ok(())
    }
}

impl InSetting {
    fn check(
        &self,
        place: &str,
        name: &str,
        tenants: &[TenantName],
        hooks: &BTreeMap<String, TenantName>,
    ) -> Result<(), SettingsError> {
        // The name becomes the subject of the publisher, like that of a webhook.
        TenantName::parse(name).map_err(|error| SettingsError::new(place, error))?;
        if !tenants.contains(&self.tenant) {
            return Err(SettingsError::unknown_tenant(place, &self.tenant));
        }
        if self.topics.is_empty() {
            return Err(SettingsError::new(place, "topics must have at least one element"));
        }
        for topic in self.topics.iter().chain(&self.dead_letter_topic) {
            check_topic(place, topic)?;
        }
        if self.group.is_empty() || self.group.chars().any(char::is_control) {
            return Err(SettingsError::new(place, "group must be a text of one line"));
        }
        let Format::Hook(hook) = &self.format else { return Ok(()) };
        match hooks.get(hook) {
            Some(tenant) if *tenant == self.tenant => Ok(()),
            Some(tenant) => {
                let reason = format_args!("hooks.{hook} is of the tenant {tenant}, not of {}", self.tenant);
                Err(SettingsError::new(place, reason))
            }
            None => Err(SettingsError::new(place, format_args!("there is no webhook hooks.{hook}"))),
        }
    }

    /// Returns the route of the messages of `kafka.in.NAME`.
    pub(crate) fn route(&self, name: &str) -> Route {
        Route {
            tenant: self.tenant.clone(),
            format: self.format.clone(),
            issuer: Principal::KAFKA,
            publisher: name.to_owned(),
        }
    }
}

impl OutSetting {
    fn check(&self, place: &str, name: &str, tenants: &[TenantName]) -> Result<(), SettingsError> {
        TenantName::parse(name).map_err(|error| SettingsError::new(place, error))?;
        if !tenants.contains(&self.tenant) {
            return Err(SettingsError::unknown_tenant(place, &self.tenant));
        }
        check_topic(place, &self.topic)?;
        if self.value == ValueKind::LaneState {
            if self.key != KeyKind::Lane {
                return Err(SettingsError::new(place, "value = \"lane-state\" needs key = \"lane\""));
            }
            if self.service.is_some() || self.correlation.is_some() || !self.kinds.is_empty() {
                let reason = "value = \"lane-state\" takes no filter but environment: the state of a lane follows \
                              from all its changes";
                return Err(SettingsError::new(place, reason));
            }
        }
        Ok(())
    }

    /// Returns the settings of the follower of `kafka.out.NAME`.
    pub(crate) fn follower(&self, name: &str, process: Uuid) -> FollowerSettings {
        FollowerSettings {
            name: format!("kafka/{name}"),
            filter: EventFilter {
                environment: self.environment.clone(),
                service: self.service.clone(),
                kinds: self.kinds.clone(),
                correlation: self.correlation.clone(),
                ..EventFilter::default()
            },
            start: self.start.0,
            page_size: if self.value == ValueKind::LaneState { STATE_PAGE_SIZE } else { PAGE_SIZE },
            process,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        let settings: Settings = toml::from_str(text).map_err(|error| error.to_string())?;
        let hooks = BTreeMap::from([("deploys".to_owned(), TenantName::default())]);
        settings.check(&[TenantName::default()], &hooks).map_err(|error| error.to_string())
    }

    fn with_in(more: &str) -> String {
        format!("[properties]\n[in.releases]\ntopics = [\"a\"]\ngroup = \"g\"\n{more}")
    }

    fn with_out(more: &str) -> String {
        format!("[properties]\n[out.entries]\ntopic = \"b\"\n{more}")
    }

    #[test]
    fn properties_are_texts_numbers_and_flags_and_are_never_printed() {
        let text = "[properties]\n\"sasl.password\" = \"hunter2\"\n\"session.timeout.ms\" = 6000\n\
                    \"ssl.check\" = true\n";
        let settings: Settings = toml::from_str(text).expect("valid settings");

        let values: Vec<_> = settings.properties.values().map(Property::expose).collect();
        assert_eq!(values, ["hunter2", "6000", "true"]);
        assert!(!format!("{settings:?}").contains("hunter2"));
        let error = check("[properties]\n\"sasl.password\" = [\"hunter2\"]\n").expect_err("not a scalar");
        assert!(error.contains("a property is a text"), "{error}");
    }

    #[test]
    fn a_property_on_which_delivery_depends_cannot_be_set() {
        let error = check("[properties]\n\"enable.auto.commit\" = true\n").expect_err("rejected");
        assert!(error.contains("enable.auto.commit cannot be set"), "{error}");
    }

    #[test]
    fn a_property_with_which_the_work_would_stop_has_bounds() {
        let error = check("[properties]\n\"linger.ms\" = 60000\n").expect_err("rejected");
        assert!(error.contains("linger.ms must be from 0 to 1000"), "{error}");
        assert_eq!(check("[properties]\n\"linger.ms\" = 20\n"), Ok(()));
    }

    #[test]
    fn a_property_with_bounds_does_not_come_from_a_file() {
        for name in ["linger.ms", "message.max.bytes", "statistics.interval.ms"] {
            let text = format!("[properties]\n[property_files]\n\"{name}\" = \"/run/value\"\n");
            let error = check(&text).expect_err(name);
            assert_eq!(
                error,
                format!("kafka.property_files: {name} has bounds and no secret: set it in kafka.properties")
            );
        }
        let secret = "[properties]\n[property_files]\n\"sasl.password\" = \"/run/value\"\n";
        assert_eq!(check(secret), Ok(()));
    }

    #[test]
    fn two_sections_do_not_share_a_topic() {
        let twice = with_in("[in.more]\ntopics = [\"b\", \"a\"]\ngroup = \"g\"\n");
        let error = check(&twice).expect_err("rejected");
        assert!(error.contains("kafka.in.more reads topic a"), "{error}");
        let of_another_group = with_in("[in.more]\ntopics = [\"a\"]\ngroup = \"h\"\n");
        assert_eq!(check(&of_another_group), Ok(()));
        let error = check(&with_out("[out.more]\ntopic = \"b\"\n")).expect_err("rejected");
        assert!(error.contains("writes topic b"), "{error}");
    }

    #[test]
    fn defaults_are_events_of_the_default_tenant_and_stored_entries_from_the_beginning() {
        let text = "[properties]\n[in.a]\ntopics = [\"t\"]\ngroup = \"g\"\n[out.b]\ntopic = \"u\"\n";
        let settings: Settings = toml::from_str(text).expect("valid settings");

        let (inbound, outbound) = (&settings.inbound["a"], &settings.outbound["b"]);
        assert_eq!((&inbound.tenant, &inbound.format), (&TenantName::default(), &Format::Events));
        assert_eq!((outbound.key, outbound.value), (KeyKind::Lane, ValueKind::Entry));
        assert_eq!(outbound.start, Start(StartAt::Beginning));
    }

    #[test]
    fn a_start_is_a_word_or_a_position() {
        let start = |value: &str| {
            let text = with_out(&format!("start = {value}\n"));
            let settings = toml::from_str::<Settings>(&text).map_err(|error| error.to_string())?;
            Ok::<_, String>(settings.outbound["entries"].start.0)
        };
        assert_eq!(start("\"now\""), Ok(StartAt::Now));
        assert_eq!(start("7"), Ok(StartAt::After(Position::new(7))));
        assert_eq!(start("\"7\""), Ok(StartAt::After(Position::new(7))));
        assert!(start("\"later\"").is_err());
    }

    #[test]
    fn a_wrong_setting_is_named() {
        for (text, part) in [
            (with_in("tenant = \"other\"\n"), "kafka.in.releases: tenant other"),
            (with_in("format = \"hook:none\"\n"), "kafka.in.releases: there is no webhook hooks.none"),
            (with_in("format = \"xml\"\n"), "format is"),
            (with_in("dead_letter_topic = \"^all\"\n"), "topic \"^all\" is not valid"),
            (with_in("dead_letter_topic = \"a\"\n"), "topic a is also written"),
            (with_out("tenant = \"other\"\n"), "kafka.out.entries: tenant other"),
            (with_out("kinds = [\"deploy.done\"]\n"), "deploy.done"),
            (with_out("value = \"lane-state\"\nkey = \"tenant\"\n"), "needs key"),
            (with_out("value = \"lane-state\"\nservice = \"web\"\n"), "takes no filter"),
        ] {
            let error = check(&text).expect_err(&text);
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(check(&with_in("format = \"hook:deploys\"\n")), Ok(()));
    }
}
