//! No deploys for a while.

use chrono::{DateTime, Utc};

use crate::{EnvironmentName, ShortText};

/// A time in which nothing should be deployed to an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// The environment.
    pub environment: EnvironmentName,
    /// The freeze's name; several may hold at once.
    pub freeze_id: ShortText,
    /// When it ends by itself, if it does.
    pub until: Option<DateTime<Utc>>,
}
