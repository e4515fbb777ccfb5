//! Freezes: periods without deploys.

use chrono::{DateTime, Utc};

use crate::{EnvironmentName, ShortText};

/// A period in which nothing should be deployed to an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// The environment.
    pub environment: EnvironmentName,
    /// The freeze's name. Several freezes may hold at once.
    pub freeze_id: ShortText,
    /// Time at which the freeze ends automatically; `None`: it ends only when it is lifted.
    pub until: Option<DateTime<Utc>>,
}
