//! Errors that end a walk.

use std::error::Error as StdError;

/// The reason for which a repository cannot be read, or its history not be continued.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path is no repository that can be opened.
    #[error("cannot open the git repository {path}")]
    Open {
        /// The path.
        path: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The history is cut off, so that its first commit seems to bring everything before it.
    #[error("the repository is a shallow clone, without its early history: run git fetch --unshallow in it")]
    Shallow,
    /// An object is missing or damaged.
    #[error("cannot read {object} of the repository; if it is a partial clone, fetch all objects first")]
    Object {
        /// The object.
        object: String,
        /// The cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The revision is unknown or ambiguous.
    #[error(
        "cannot resolve the revision {0:?}: give a branch, a tag or a commit, with ~N for the N-th parent"
    )]
    Revision(String),
    /// The commit after which to begin is not in the first-parent history of the head.
    #[error(
        "{commit} is not in the first-parent history of {head}: it was merged from another branch, or rewritten"
    )]
    NotInHistory {
        /// The commit.
        commit: String,
        /// The head, as given.
        head: String,
    },
}

impl Error {
    pub(crate) fn object(
        object: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::Object { object: object.into(), source: source.into() }
    }
}
