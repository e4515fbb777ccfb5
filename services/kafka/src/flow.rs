//! Bounds of what a consumer holds in memory: partitions are paused and resumed.
//!
//! A partition that cannot make progress must not keep the others from it: each has a share of half of the bound. The
//! other half is for messages that exceed a share.

/// Bound on the messages of a consumer that are received and not settled yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// Maximum size of all messages, in bytes, beside one message.
    pub(crate) bytes: usize,
}

/// Next step for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Pause,
    Resume,
    Keep,
}

impl Bound {
    /// Decides about a partition, given its bytes, the number of partitions, and the bytes of all.
    pub(crate) fn decide(self, is_paused: bool, own: usize, partitions: usize, all: usize) -> Flow {
        let share = self.bytes / 2 / partitions.max(1);
        if is_paused {
            let has_room = own <= share / 2 && all < self.bytes / 4 * 3;
            if has_room { Flow::Resume } else { Flow::Keep }
        } else if own > share || all >= self.bytes {
            Flow::Pause
        } else {
            Flow::Keep
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound { bytes: 1_000 };

    #[test]
    fn a_partition_is_paused_beyond_its_share_and_resumed_at_half_of_it() {
        assert_eq!(BOUND.decide(false, 250, 2, 250), Flow::Keep);
        assert_eq!(BOUND.decide(false, 251, 2, 251), Flow::Pause);
        assert_eq!(BOUND.decide(true, 126, 2, 126), Flow::Keep);
        assert_eq!(BOUND.decide(true, 125, 2, 125), Flow::Resume);
    }

    #[test]
    fn all_partitions_are_paused_at_the_bound() {
        assert_eq!(BOUND.decide(false, 0, 2, 1_000), Flow::Pause);
        assert_eq!(BOUND.decide(true, 0, 2, 750), Flow::Keep);
        assert_eq!(BOUND.decide(true, 0, 2, 749), Flow::Resume);
    }

    #[test]
    fn partitions_that_hold_their_shares_leave_the_others_running() {
        let share = 1_000 / 2 / 10;
        assert_eq!(BOUND.decide(true, 0, 10, 9 * share), Flow::Resume);
    }
}
