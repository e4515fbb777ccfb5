//! The domain model: releases, lanes, events, and the rules over them.
//!
//! Defines the terms of the ledger as types and its rules as pure functions: no I/O, no clock, no randomness, no
//! serialisation of events. Constructors parse their input, so an existing value is valid and is not checked again.

pub mod access;
mod artifact;
pub mod backtest;
pub mod checks;
mod composition;
mod digest;
pub mod drift;
mod duration;
mod error_chain;
pub mod event;
mod event_time;
mod fold;
mod freeze_period;
pub mod gate;
pub mod horizon;
mod identifier;
mod identity;
mod image;
mod image_reference;
mod kind;
pub mod known_good;
mod lane;
mod lane_filter;
mod misspelt;
mod name;
mod person;
pub mod plan_issue;
mod planning;
mod point_in_time;
mod point_ref;
mod position;
mod principal;
mod release;
pub mod retirement;
pub mod revocation;
pub mod rollback;
pub mod span;
mod text;
mod time_ref;
mod timestamp;
pub mod version_meaning;

pub use artifact::{Artifact, ArtifactError};
pub use composition::{
    Composition, CompositionId, CompositionIndex, Difference, EventRef, LaneDifference, LiveRelease,
};
pub use digest::{ConfigDigest, DigestError};
pub use duration::{DurationError, parse_duration};
pub use error_chain::error_chain;
pub use event::{Event, Payload};
pub use event_time::EventTime;
pub use fold::{Anomaly, Applied, Effect, LaneFold, LiveReleaseRef, Occupancy, Track, TrackEntry};
pub use freeze_period::FreezePeriod;
pub use identifier::{IdentifierError, RESERVED_IDENTIFIERS};
pub use identity::{EventId, Identity, IdentityKey, Source};
pub use image::Image;
pub use image_reference::ImageReference;
pub use kind::{Family, Kind, UnknownKind};
pub use lane::{Lane, LaneRef};
pub use lane_filter::LaneFilter;
pub use misspelt::nearest;
pub use name::{
    EnvironmentName, NameError, SecretName, ServiceName, SlotName, SubscriptionName, TargetName, TenantName,
};
pub use person::PersonName;
pub use planning::{Lanes, Removals, shown_removed};
pub use point_in_time::{PointInTime, PointInTimeError};
pub use point_ref::{PointNameError, PointRef, PointRefError, PointSelector, near_point_word};
pub use position::Position;
pub use principal::{Principal, PrincipalKind};
pub use release::{Part, Release};
pub use text::{LongText, ShortText, TextError, escape_line, escape_unprintable, is_format, is_noncharacter};
pub use time_ref::{TimeRefError, parse_calendar_time, parse_time_ref};
pub use timestamp::{TimeError, parse_stored_time, parse_time};
