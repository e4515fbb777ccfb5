//! Events with their sender: the check that it may send them, and the record of who it is.

use ledger_access::Directory;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::{Actor, Payload, Sender};

use super::Authentication;
use super::authorized::Tenancy;
use crate::problem::{Kind, Problem};

impl Tenancy {
    /// Checks that the sender may send an event, and adds the sender to it.
    pub(crate) fn accept(&self, envelope: Envelope) -> Result<Envelope, Problem> {
        let payload = &envelope.event().payload;
        self.check_event(None, payload)?;
        if payload.is_about_access() && self.tenant.is_admin() {
            self.check_effect(payload)?;
        }
        match self.principal() {
            Some(principal) => envelope.sent_by(principal).map_err(|invalid| Problem::from(&invalid)),
            None => Ok(envelope),
        }
    }

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
