//! Preferred workers of tenants, by rendezvous hashing.

use std::collections::HashMap;

use uuid::Uuid;

use crate::key::key;

/// The live workers that are eligible for each tenant.
pub(crate) struct Preferences {
    eligible: HashMap<String, Vec<Uuid>>,
}

impl Preferences {
    pub(crate) fn new(workers: &[(Uuid, Vec<String>)]) -> Self {
        let mut eligible: HashMap<String, Vec<Uuid>> = HashMap::new();
        for (worker, tenants) in workers {
            for tenant in tenants {
                eligible.entry(tenant.clone()).or_default().push(*worker);
            }
        }
        Self { eligible }
    }

    /// Returns the preferred worker of a tenant: the one with the greatest hash of tenant and worker.
    pub(crate) fn preferred(&self, tenant: &str) -> Option<Uuid> {
        let eligible = self.eligible.get(tenant)?.iter().copied();
        eligible.max_by_key(|worker| key("owner", &[tenant, &worker.to_string()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_prefers_one_of_its_eligible_workers() {
        let [one, other] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let both =
            Preferences::new(&[(one, vec!["shop".into()]), (other, vec!["shop".into(), "bank".into()])]);
        let reversed = Preferences::new(&[(other, vec!["shop".into()]), (one, vec!["shop".into()])]);

        assert_eq!(both.preferred("bank"), Some(other));
        assert_eq!(both.preferred("unknown"), None);
        assert_eq!(
            both.preferred("shop"),
            reversed.preferred("shop"),
            "the order of workers does not matter"
        );
    }
}
