//! A checkpoint: the last position of an archive, and the root of the Merkle tree up to it.
//!
//! The stored text is the body of a C2SP tlog-checkpoint, unsigned. It has three lines: the log's name, its size, and
//! its root in Base64.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger_domain::{Position, TenantName};
use ledger_tlog::Hash;

/// A position, and the root of the Merkle tree over all positions up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Last position, which equals the size of the tree.
    pub position: Position,
    /// Root of the tree.
    pub root: Hash,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {}, root {}", self.position, self.root)
    }
}

impl Checkpoint {
    /// Returns the stored text for a tenant's log.
    pub(crate) fn to_text(self, tenant: &TenantName) -> String {
        format!("{}\n{}\n{}\n", origin(tenant), self.position, STANDARD.encode(self.root.as_bytes()))
    }

    /// Parses the stored text. Rejects every text that [`Checkpoint::to_text`] does not produce.
    pub(crate) fn parse(text: &[u8], tenant: &TenantName) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        let mut lines = text.lines();
        let mut line = |name: &str| lines.next().ok_or_else(|| format!("the {name} is missing"));
        let name = line("log name")?;
        if name != origin(tenant) {
            return Err(format!("belongs to {name}, not to {}", origin(tenant)));
        }
        let size = line("size")?;
        let size = size.parse().map_err(|_| format!("invalid size {size:?}"))?;
        let root = line("root")?;
        let hash = STANDARD.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let root = hash.map(Hash::from).ok_or_else(|| format!("invalid root {root:?}"))?;
        let checkpoint = Self { position: Position::new(size), root };
        if checkpoint.to_text(tenant) == text { Ok(checkpoint) } else { Err("not in canonical form".into()) }
    }
}

/// Returns the name of a tenant's log.
fn origin(tenant: &TenantName) -> String {
    format!("release-ledger/{tenant}")
}

#[cfg(test)]
mod tests {
    use ledger_tlog::{Tree, leaf_hash};

    use super::*;

    fn checkpoint() -> Checkpoint {
        let mut tree = Tree::new();
        tree.append(leaf_hash(b"{}"));
        Checkpoint { position: Position::new(1), root: tree.root() }
    }

    #[test]
    fn the_text_is_the_body_of_a_tlog_checkpoint() {
        let text = checkpoint().to_text(&TenantName::default());

        assert_eq!(text, "release-ledger/default\n1\nKKOhj2zWQGsIbp/9ofm4oT289EsPPzLLkDGhH9BTrPk=\n");
        assert_eq!(Checkpoint::parse(text.as_bytes(), &TenantName::default()), Ok(checkpoint()));
    }

    #[test]
    fn a_flipped_bit_in_any_byte_is_detected() {
        let text = checkpoint().to_text(&TenantName::default()).into_bytes();
        for index in 0..text.len() {
            let mut flipped = text.clone();
            flipped[index] ^= 1;

            let parsed = Checkpoint::parse(&flipped, &TenantName::default());

            // A digit may become another digit; the text then parses to a different checkpoint.
            assert_ne!(parsed, Ok(checkpoint()), "byte {index}");
        }
    }

    #[test]
    fn the_checkpoint_of_another_tenant_is_rejected() {
        let text = checkpoint().to_text(&TenantName::default());
        let other = TenantName::parse("other").expect("a name");

        let error = Checkpoint::parse(text.as_bytes(), &other).expect_err("rejected");

        assert_eq!(error, "belongs to release-ledger/default, not to release-ledger/other");
    }
}
