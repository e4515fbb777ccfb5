//! Events with their sender: the check that it may send them, and the record of who it is.

use ledger_access::Directory;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Actor, Payload, Sender};

use super::Authentication;
use super::authorized::Tenancy;
use crate::problem::{Kind, Problem};
use crate::tenant::TenantLedger;

impl TenantLedger {
    /// Checks that the sender may send an event, and adds the sender to it.
    pub(crate) async fn accept(&self, envelope: Envelope) -> Result<Envelope, Problem> {
        let tenancy = self.tenancy();
        let payload = &envelope.event().payload;
        tenancy.check_event(None, payload)?;
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
}

impl Tenancy {
    /// Checks that an event about access has an effect now, such as the revocation of a token that exists.
    fn check_effect(&self, payload: &Payload) -> Result<(), Problem> {
        let Authentication::Required(authenticator) = self.authentication() else { return Ok(()) };
        let mut directory = Directory::clone(&authenticator.directory().0);
        directory.apply(payload).map_err(|reason| Problem::new(Kind::UselessChange, reason))
    }

    /// Returns the actor of a request that states `claimed`, and the sender to record with it.
    pub(crate) fn actor(&self, claimed: Option<Actor>) -> (Option<Actor>, Option<Box<Sender>>) {
        match self.principal() {
            Some(principal) => {
                let actor = principal.actor(claimed.as_ref());
                let sender = Sender { principal: principal.clone(), claimed_actor: claimed };
                (Some(actor), Some(Box::new(sender)))
            }
            None => (claimed, None),
        }
    }
}
