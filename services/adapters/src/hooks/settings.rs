//! The settings of a webhook: which tool sends it, how a delivery is authenticated, and what its names mean.

mod check_mapping;
mod invalid;
mod kind;
mod tools;
mod written;

pub use self::check_mapping::CheckMapping;
pub use self::invalid::InvalidSettings;
pub use self::kind::{Authentication, HookKind};
pub use self::tools::{
    AlertSettings, ArgoCdSettings, FluxSettings, KustomizationSuccess, PayloadMember, RevisionMeans,
    VersionFrom,
};
pub use self::written::WebhookSettings;
