//! A checkpoint: how far an archive goes, and the root of the Merkle tree over it.
//!
//! The text is the body of a C2SP tlog-checkpoint: the log's name, its size, and its root in Base64, a line
//! each. It is not signed.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger_domain::{Position, TenantName};
use ledger_tlog::Hash;

/// A position, and the root of the tree over everything up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last position: the size of the tree.
    pub position: Position,
    /// The root.
    pub root: Hash,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {}, root {}", self.position, self.root)
    }
}

impl Checkpoint {
    /// As text.
    pub(crate) fn text(&self, tenant: &TenantName) -> String {
        format!("{}\n{}\n{}\n", origin(tenant), self.position, STANDARD.encode(self.root.as_bytes()))
    }

    /// Reads the text, which must be written as ours are.
    pub(crate) fn parse(text: &[u8], tenant: &TenantName) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        let mut lines = text.lines();
        let mut line = |what: &str| lines.next().ok_or_else(|| format!("it has no {what}"));
        let name = line("name")?;
        if name != origin(tenant) {
            return Err(format!("it is of {name}, not of {}", origin(tenant)));
        }
        let size = line("size")?;
        let size = size.parse().map_err(|_| format!("its size is {size:?}"))?;
        let root = line("root")?;
        let hash = STANDARD.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let root = hash.map(Hash::from).ok_or_else(|| format!("its root is {root:?}"))?;
        let checkpoint = Self { position: Position::new(size), root };
        if checkpoint.text(tenant) == text {
            Ok(checkpoint)
        } else {
            Err("it is not as one is written".into())
        }
    }
}

/// The name of a tenant's log.
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
        let text = checkpoint().text(&TenantName::default());

        assert_eq!(text, "release-ledger/default\n1\nKKOhj2zWQGsIbp/9ofm4oT289EsPPzLLkDGhH9BTrPk=\n");
        assert_eq!(Checkpoint::parse(text.as_bytes(), &TenantName::default()), Ok(checkpoint()));
    }

    #[test]
    fn every_byte_counts() {
        let text = checkpoint().text(&TenantName::default()).into_bytes();
        for place in 0..text.len() {
            let mut flipped = text.clone();
            flipped[place] ^= 1;

            let read = Checkpoint::parse(&flipped, &TenantName::default());

            // A digit may become another digit: then it says something else.
            assert_ne!(read, Ok(checkpoint()), "byte {place}");
        }
    }

    #[test]
    fn another_tenants_is_refused() {
        let text = checkpoint().text(&TenantName::default());
        let other = TenantName::parse("other").expect("a name");

        let error = Checkpoint::parse(text.as_bytes(), &other).expect_err("refused");

        assert_eq!(error, "it is of release-ledger/default, not of release-ledger/other");
    }
}
