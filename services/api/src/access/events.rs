//! Events with their sender: the check that it may send them, and the record of who it is.

use std::time::Duration;

use ledger_access::Directory;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::access::Verb;
use ledger_domain::event::{Actor, Payload, Sender};
use ledger_domain::{Identity, PrincipalKind};

use super::Authentication;
use super::authorized::Tenancy;
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

/// Time limit of the wait for the projections before the event that a correction replaces is looked up.
const PROJECTION_WAIT: Duration = Duration::from_secs(2);

impl TenantLedger {
    /// Checks that the sender may send an event, and adds the sender to it.
    pub(crate) async fn accept(&self, envelope: Envelope) -> Result<Envelope, Problem> {
        let tenancy = self.tenancy();
        let payload = &envelope.event().payload;
        tenancy.check_event(None, payload)?;
        tenancy.check_sources(payload)?;
        if let Some(corrected) = envelope.event().corrects.as_ref().filter(|_| tenancy.principal().is_some())
        {
            self.check_correction(corrected, payload).await?;
        }
        if payload.is_about_access()
            && tenancy.tenant.is_admin()
            && let Err(problem) = tenancy.check_effect(payload)
        {
            // An event that is sent again has no effect any more, and is answered as a duplicate.
            let key = envelope.identity().key();
            if self.projections.find_entries(&[key]).await?.is_empty() {
                return Err(problem);
            }
        }
        match tenancy.principal() {
            Some(principal) => envelope.sent_by(principal).map_err(|invalid| Problem::from(&invalid)),
            None => Ok(envelope),
        }
    }

    /// Checks that the sender of a correction may send the event that it replaces. If that event is not recorded, the
    /// sender must be allowed to send any event of the kind: the correction would take its effect away later.
    async fn check_correction(&self, corrected: &Identity, payload: &Payload) -> Result<(), Problem> {
        let head = self.journal.head().await?.position;
        // A client that has just recorded an event may correct it.
        let _ = self.projections.wait_for(head, PROJECTION_WAIT).await?;
        let key = corrected.key();
        let known = self.projections.find_entries(&[key]).await?.remove(&key);
        match known.and_then(|known| Envelope::stored(known.content).ok()) {
            Some(known) => self.tenancy().check_event(None, &known.event().payload),
            None => self.tenancy().check_all(Verb::of_event(payload)),
        }
    }
}

impl Tenancy {
    /// Checks that the sender may read the other environments that a command is decided by.
    fn check_sources(&self, payload: &Payload) -> Result<(), Problem> {
        match payload {
            Payload::RollbackRequested(request) => {
                request.source.iter().try_for_each(|source| self.check(Verb::Read, source, None))
            }
            Payload::EnvironmentDeclared(_, policy) => {
                let sources = policy.promotion.iter().flat_map(|promotion| &promotion.from);
                sources.into_iter().try_for_each(|source| self.check(Verb::Read, source, None))
            }
            _ => Ok(()),
        }
    }

    /// Checks that an event about access has an effect now, such as the revocation of a token that exists.
    fn check_effect(&self, payload: &Payload) -> Result<(), Problem> {
        let Authentication::Required(authenticator) = self.authentication() else { return Ok(()) };
        let mut directory = Directory::clone(&authenticator.directory().0);
        let open = directory.tenants().filter(|(_, state)| state.is_open()).count();
        if matches!(payload, Payload::TenantCreated(_)) && open >= authenticator.max_tenants() {
            let detail = format!(
                "the service has {open} tenants, the most that access.max_tenants allows; raise it, or retire a tenant"
            );
            return Err(Problem::new(Kind::ChangeWithoutEffect, detail));
        }
        directory.apply(payload).map_err(|reason| Problem::new(Kind::ChangeWithoutEffect, reason))
    }

    /// Returns who requests what a request states, and the sender to record with it.
    ///
    /// A workload may name the person for whom it works. That takes the person's vote away, and gives the workload none.
    pub(crate) fn requester(&self, claimed: Option<Actor>) -> (Option<Actor>, Option<Box<Sender>>) {
        let Some(principal) = self.principal() else { return (claimed, None) };
        let named = claimed
            .clone()
            .filter(|claimed| principal.kind == PrincipalKind::Workload && claimed.is_person());
        let requester = named.unwrap_or_else(|| principal.actor(claimed.as_ref()));
        let sender = Sender { principal: principal.clone(), claimed_actor: claimed };
        (Some(requester), Some(Box::new(sender)))
    }
}
