//! Paths of health and metrics.

/// Path of the metrics. They name tenants and environments.
pub(crate) const METRICS: &str = "/metrics";

/// Returns true for the paths of health and of the metrics.
pub(crate) fn is_health(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/readyz/ingest" | "/readyz/questions" | METRICS)
}
