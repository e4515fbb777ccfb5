//! Look-ups of identities in the history: in memory for most new ones, else in Postgres.

use std::collections::HashMap;

use ledger_domain::{IdentityKey, TenantName};
use ledger_journal::SharedJournal;
use ledger_projections::{KnownEntry, Projections};
use metrics::counter;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::clock_reading::ClockReading;
use super::heads::{JournalMark, MIN_DUPLICATE_WINDOW, RecentHeads};
use crate::{LOOKUP_TIMEOUT, PROBE_INTERVAL};

/// Looks identities up in the history of a tenant.
pub(super) struct HistoryLookup {
    tenant: TenantName,
    journal: SharedJournal,
    projections: Projections,
    heads: RecentHeads,
    /// Probe of a history that did not answer. The history is not queried until the probe has ended.
    probe: Option<AbortOnDropHandle<()>>,
}

impl HistoryLookup {
    pub(super) const fn new(
        tenant: TenantName,
        journal: SharedJournal,
        projections: Projections,
        heads: RecentHeads,
    ) -> Self {
        Self { tenant, journal, projections, heads, probe: None }
    }

    /// Returns the identities that the history has. If it is unavailable, events are appended all the same: the
    /// journal's duplicate window and the projector ensure that an identity has one effect. `now` is not after the
    /// begin of the look-up.
    pub(super) async fn find(
        &mut self,
        keys: &[IdentityKey],
        now: ClockReading,
    ) -> HashMap<IdentityKey, KnownEntry> {
        let possible = self.possibly_known(keys, now);
        if let Some(possible) = &possible {
            let new = keys.len() - possible.len();
            counter!("ledger_ingest_filtered_total", "tenant" => self.tenant.to_string())
                .increment(new as u64);
        }
        let keys = possible.as_deref().unwrap_or(keys);
        if keys.is_empty() {
            return HashMap::new();
        }
        if !self.is_history_unavailable() {
            match timeout(LOOKUP_TIMEOUT, self.projections.find_entries(keys)).await {
                Ok(Ok(known)) => return known,
                Ok(Err(error)) => {
                    warn!(%error, tenant = %self.tenant, "identity lookup failed; appending without it");
                }
                Err(_) => {
                    warn!(tenant = %self.tenant, "identity lookup timed out; appending without it");
                }
            }
            self.mark_history_unavailable();
        }
        counter!("ledger_ingest_unchecked_total", "tenant" => self.tenant.to_string())
            .increment(keys.len() as u64);
        HashMap::new()
    }

    /// Returns those keys that the history may have, if the process knows all identities up to a recent head of the
    /// journal. Entries after that head are within the journal's duplicate window.
    fn possibly_known(&self, keys: &[IdentityKey], now: ClockReading) -> Option<Vec<IdentityKey>> {
        if self.journal.duplicate_window() < MIN_DUPLICATE_WINDOW {
            return None;
        }
        let mark = JournalMark::of(&self.projections, self.journal.as_ref());
        let head = self.heads.oldest(mark, now)?;
        self.projections.possibly_known(keys, head)
    }

    fn is_history_unavailable(&self) -> bool {
        self.probe.as_ref().is_some_and(|probe| !probe.is_finished())
    }

    /// Starts a probe of the history. Until it succeeds, no further group waits for the history.
    fn mark_history_unavailable(&mut self) {
        let probe = probe_history(self.projections.clone(), self.tenant.clone());
        self.probe = Some(AbortOnDropHandle::new(tokio::spawn(probe)));
    }
}

/// Queries the history until it answers: the first failure may have been a single slow response.
async fn probe_history(projections: Projections, tenant: TenantName) {
    while !matches!(timeout(LOOKUP_TIMEOUT, projections.checkpoint()).await, Ok(Ok(_))) {
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
    info!(%tenant, "the history answers again; identity lookups resume");
}
