//! Settings for CDEvents of one source.

use serde::Deserialize;

use crate::names::Names;

/// Settings by which the CDEvents of a source are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Names of the ledger for those in the events: an environment's `id`, a service's subject `id`, and the `target`
    /// in `customData`.
    ///
    /// The default environment applies to events about services that name none. It never applies to approvals,
    /// incidents and tests. The default target applies wherever a service is named. The default service has no use:
    /// events about a service name it.
    pub names: Names,
}
