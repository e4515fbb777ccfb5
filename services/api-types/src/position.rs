//! Progress of the ledger.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Progress of the ledger and of its projections.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PositionBody {
    /// Position of the projections: queries reflect it.
    pub position: u64,
    /// Position of the last entry of the stream.
    pub head: u64,
    /// Root of the Merkle tree over the entries up to `position`.
    pub root: String,
}
