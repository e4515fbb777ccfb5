//! Token files: a token as text, or a session as JSON.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::timeout;

use super::bounded_file::{MAX_TOKEN_FILE_BYTES, read_bytes};
use super::error::CredentialsError;
use super::fetch::Fetcher;
use super::session::{self, Session};
use super::token::Token;
use crate::clock;

/// Time limit for reading a file: it may be a pipe.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A file with a token or a session.
#[derive(Debug, Clone)]
pub(crate) struct TokenFile {
    path: PathBuf,
    /// The flag, variable or context that names the file, for errors.
    named_by: String,
    fetcher: Fetcher,
}

/// Contents of a token file.
#[derive(Debug)]
pub(crate) enum Contents {
    Token(Token),
    Session(Session),
}

impl TokenFile {
    pub(crate) fn new(path: &Path, named_by: impl Into<String>, ca_file: Option<&Path>) -> Self {
        Self { path: path.to_owned(), named_by: named_by.into(), fetcher: Fetcher::new(ca_file) }
    }

    /// Returns the name of the file in errors.
    fn source(&self) -> String {
        format!("{} ({})", self.path.display(), self.named_by)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// The file cannot be read, or contains neither a token nor a session.
    pub(crate) async fn read(&self) -> Result<Contents, CredentialsError> {
        let path = self.path.clone();
        let source = self.source();
        let reading = tokio::task::spawn_blocking(move || read_bytes(&path, MAX_TOKEN_FILE_BYTES));
        let bytes = match timeout(READ_TIMEOUT, reading).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) => Err(io::Error::other("the thread that reads it panicked")),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        };
        let failed = |error: &dyn std::fmt::Display| {
            CredentialsError::permanent(format!("cannot read the token file {source}: {error}"))
        };
        let bytes = bytes.map_err(|error| failed(&error))?;
        let text = String::from_utf8(bytes).map_err(|_| failed(&"it is not UTF-8"))?;
        if Session::is_like(&text) {
            Ok(Contents::Session(Session::parse(&text, &source)?))
        } else {
            Ok(Contents::Token(Token::parse(&text, &source)?))
        }
    }

    /// Returns the token and its end, other than `rejected` if possible. Renews a session that has ended.
    ///
    /// # Errors
    /// The file cannot be read, or the session cannot be renewed.
    pub(crate) async fn token(
        &self,
        rejected: Option<&str>,
    ) -> Result<(Token, Option<DateTime<Utc>>), CredentialsError> {
        let source = self.source();
        let session = match self.read().await? {
            Contents::Token(token) => return Ok((token, None)),
            Contents::Session(session) => session,
        };
        let is_rejected = rejected == Some(&*session.token) && session.refresh_token.is_some();
        let session = match session.has_ended(clock::now()) || is_rejected {
            true => session::renew(&self.path, &session.token, self.fetcher.clone(), &source).await?,
            false => session,
        };
        Ok((Token::parse(&session.token, &source)?, session.expires_at))
    }
}
