//! Budgets of bytes over all connections: request bodies in memory, and answers that clients have not taken yet.
//!
//! The first bytes of each share are free, so that small requests are served while large ones have used up the budget.
//! The number of connections bounds the sum of the free bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::{counter, gauge};

/// Bytes of each share that the budget does not count.
pub(crate) const FREE_BYTES: usize = 16 << 10;

/// Number of bytes that may be in use at a time.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    /// Kind of the bytes, as the label `kind` of the metrics.
    kind: &'static str,
    limit: usize,
    used: AtomicUsize,
}

/// No bytes are left in a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted(&'static str);

impl ByteBudget {
    pub(crate) fn new(kind: &'static str, limit: usize) -> Arc<Self> {
        Arc::new(Self { kind, limit, used: AtomicUsize::new(0) })
    }

    /// Returns a share of no bytes.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), counted: 0 }
    }

    fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let enough = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        match self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, enough) {
            Ok(used) => {
                self.publish(used + bytes);
                Ok(())
            }
            Err(_) => {
                counter!("ledger_http_refused_total", "bound" => self.kind).increment(1);
                Err(Exhausted(self.kind))
            }
        }
    }

    fn give_back(&self, bytes: usize) {
        let used = self.used.fetch_sub(bytes, Ordering::AcqRel);
        self.publish(used.saturating_sub(bytes));
    }

    fn publish(&self, used: usize) {
        gauge!("ledger_http_held_bytes", "kind" => self.kind).set(used as f64);
    }
}

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the {} of all requests take too much memory; retry later", self.0)
    }
}

/// Bytes that one request has in use. Dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<ByteBudget>,
    /// Bytes that the budget counts: all but the free ones.
    counted: usize,
}

impl Share {
    /// Sets the number of bytes in use. After an error, the share is unchanged.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let counted = bytes.saturating_sub(FREE_BYTES);
        if counted > self.counted {
            self.budget.take(counted - self.counted)?;
        } else if counted < self.counted {
            self.budget.give_back(self.counted - counted);
        }
        self.counted = counted;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.counted > 0 {
            self.budget.give_back(self.counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_shares_use_up_the_budget_and_small_ones_are_free() {
        let budget = ByteBudget::new("bodies", 100);
        let (mut first, mut second, mut small) = (budget.share(), budget.share(), budget.share());

        assert_eq!(first.resize(FREE_BYTES + 80), Ok(()));
        assert_eq!(second.resize(FREE_BYTES + 21), Err(Exhausted("bodies")));
        assert_eq!(second.resize(FREE_BYTES + 20), Ok(()));
        assert_eq!(small.resize(FREE_BYTES), Ok(()));
        assert_eq!(small.resize(FREE_BYTES + 1), Err(Exhausted("bodies")));
    }

    #[test]
    fn a_share_that_shrinks_or_ends_gives_its_bytes_back() {
        let budget = ByteBudget::new("answers", 100);
        let (mut first, mut second) = (budget.share(), budget.share());

        assert_eq!(first.resize(FREE_BYTES + 100), Ok(()));
        assert_eq!(first.resize(FREE_BYTES + 40), Ok(()));
        assert_eq!(second.resize(FREE_BYTES + 60), Ok(()));
        drop(first);
        assert_eq!(second.resize(FREE_BYTES + 100), Ok(()));
    }
}
