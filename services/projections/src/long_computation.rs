//! Computations that are long in large environments.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Number of lanes from which on a computation over all of them is long: some milliseconds.
const MANY_LANES: usize = 1_000;

/// Runs a computation over a number of lanes. If they are many, other tasks of this thread run elsewhere meanwhile.
pub fn compute<T>(lanes: usize, computation: impl FnOnce() -> T) -> T {
    let can_move_tasks =
        || Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if lanes >= MANY_LANES && can_move_tasks() { block_in_place(computation) } else { computation() }
}
