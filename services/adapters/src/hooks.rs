//! Webhooks of other tools.
