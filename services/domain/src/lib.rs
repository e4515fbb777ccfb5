//! What a release is, which facts may follow which, and how they fold into a composition.
//!
//! Owns the words of the ledger as types. Pure: no I/O, no clock, no randomness, no serialisation
//! of events. A value that exists has been parsed, so nothing here is checked twice.

mod anchor;
mod artifact;
pub mod backtest;
pub mod checks;
mod composition;
mod digest;
pub mod drift;
pub mod event;
mod fold;
pub mod gate;
mod goal;
pub mod horizon;
mod identity;
mod image;
mod kind;
pub mod known_good;
mod lane;
mod name;
pub mod obstacle;
mod person;
mod planning;
mod position;
mod release;
pub mod retirement;
pub mod rollback;
mod scope;
pub mod span;
mod text;

pub use anchor::{Anchor, AnchorError};
pub use artifact::{Artifact, ArtifactError};
pub use composition::{
    Composition, CompositionId, CompositionIndex, Difference, LaneDifference, Live, Since,
};
pub use event::{Event, Fact};
pub use fold::{Anomaly, Applied, Effect, LaneFold, LiveRef, Track, Written};
pub use goal::{Goal, GoalError, PointName};
pub use identity::{EventId, Identity, IdentityKey, Source};
pub use image::Image;
pub use kind::{Family, Kind, UnknownKind};
pub use lane::{Lane, LaneRef};
pub use name::{EnvironmentName, NameError, ServiceName, SlotName, TargetName, TenantName};
pub use person::PersonName;
pub use planning::{Lanes, Removals, shown_removed};
pub use position::Position;
pub use release::{ConfigDigest, DigestError, Part, Release};
pub use scope::Scope;
pub use text::{Line, Prose, TextError, escape_unprintable};
