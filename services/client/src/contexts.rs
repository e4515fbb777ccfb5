//! Contexts: services by name, in the file `config.toml`, and the tokens that the program stores for them.
//!
//! Invariants: the files have mode 0600, in folders of mode 0700 that only the user can change, and links are not
//! followed. A reader finds a complete file, and a writer loses no change of another one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use ledger_domain::TenantName;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::address::{is_same_service, is_same_url, parse_url, without_credentials};
use super::private_folder::PrivateFolder;

/// Name of the file.
const FILE: &str = "config.toml";
/// Name of the lock of writers.
const LOCK: &str = "lock";
/// Name of the folder of tokens.
const TOKENS: &str = "tokens";
/// Name of the lock of that folder.
pub(super) const TOKENS_LOCK: &str = ".lock";
/// Maximum size of the file in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Maximum length of the name of a context.
const MAX_NAME_BYTES: usize = 64;

/// The contexts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contexts {
    /// Name of the context that commands use without flags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) current: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) contexts: BTreeMap<String, Context>,
}

/// A service, and how to use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    pub(super) url: ContextUrl,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token_command: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) audience: Option<String>,
}

/// Source of the token of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenSource {
    File(PathBuf),
    Command(Vec<String>),
}

/// The URL of a service, without credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct ContextUrl(Url);

impl ContextUrl {
    /// Parses the URL. The error does not show it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let service = parse_url(text).map_err(|reason| format!("invalid URL: {reason}"))?;
        match service.credentials {
            None => Ok(Self(service.url)),
            Some(_) => Err("the URL must not contain credentials; store a token instead".to_owned()),
        }
    }

    /// Creates it from a URL, and drops credentials.
    pub(super) fn new(url: &Url) -> Self {
        Self(without_credentials(url))
    }

    pub(super) const fn url(&self) -> &Url {
        &self.0
    }
}

impl TryFrom<String> for ContextUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<ContextUrl> for String {
    fn from(url: ContextUrl) -> Self {
        url.0.into()
    }
}

/// Checks the name of a context: it is the name of a file.
pub(super) fn check_name(name: &str) -> Result<String, &'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_valid = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(is_allowed)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric());
    let message = "the name of a context has at most 64 letters, digits, '-', '_' and '.', and starts with a letter or \
                   a digit";
    is_valid.then(|| name.to_owned()).ok_or(message)
}

impl Context {
    /// Creates a context without credentials.
    pub(super) const fn new(url: ContextUrl) -> Self {
        Self { url, tenant: None, token_file: None, token_command: None, ca_file: None, audience: None }
    }

    /// Returns where the token is.
    pub(super) fn token(&self) -> Option<TokenSource> {
        let file = self.token_file.clone().map(TokenSource::File);
        file.or_else(|| self.token_command.clone().map(TokenSource::Command))
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.token_file.is_none() || self.token_command.is_none(),
            "it has a token_file and a token_command; remove one"
        );
        ensure!(
            self.token_command.as_ref().is_none_or(|command| !command.is_empty()),
            "its token_command is empty"
        );
        let tenant = self.tenant.as_deref().map(TenantName::parse_any).transpose();
        tenant.map(drop).context("its tenant is invalid")
    }
}

impl Contexts {
    /// Reads the contexts in the folder of the settings; there are none if it does not exist.
    ///
    /// # Errors
    /// The file cannot be read, or is invalid.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let opened = PrivateFolder::open(folder).context("cannot read the contexts")?;
        opened.map_or_else(|| Ok(Self::default()), |folder| Self::read_in(&folder))
    }

    fn read_in(folder: &PrivateFolder) -> anyhow::Result<Self> {
        let path = folder.path().join(FILE);
        let failed = || format!("cannot read the contexts in {}", path.display());
        let text = match folder.read_text(FILE, MAX_FILE_BYTES) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            text => text.with_context(failed)?,
        };
        // The message of the parser quotes the line, which may contain what a user took for a place for secrets.
        let contexts: Self = toml::from_str(&text)
            .map_err(|error| anyhow!("{}", describe(&text, &error)))
            .with_context(failed)?;
        for (name, context) in &contexts.contexts {
            check_name(name).map_err(|message| anyhow!("{message}")).with_context(failed)?;
            context.check().with_context(|| format!("context {name}")).with_context(failed)?;
        }
        Ok(contexts)
    }

    /// Returns the context with a name.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn get(&self, name: &str) -> anyhow::Result<&Context> {
        let known = || self.contexts.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.contexts.get(name).with_context(|| match self.contexts.is_empty() {
            true => format!("no context {name}; add it with `release-ledger context add {name} --url …`"),
            false => format!("no context {name}; the contexts are {}", known()),
        })
    }

    /// Returns the context of a service: the current one, or else the first one by name. A context with this URL takes
    /// precedence over one that has another name of this machine.
    pub(super) fn of_service(&self, url: &Url) -> Option<(&str, &Context)> {
        let current = self.current.as_ref().and_then(|name| Some((name.as_str(), self.contexts.get(name)?)));
        let all = self.contexts.iter().map(|(name, context)| (name.as_str(), context));
        let mut of_service: Vec<_> = current
            .into_iter()
            .chain(all)
            .filter(|(_, context)| is_same_service(context.url.url(), url))
            .collect();
        // A stable sort.
        of_service.sort_by_key(|(_, context)| !is_same_url(context.url.url(), url));
        of_service.into_iter().next()
    }
}

/// Describes an error of the parser by its line and its first sentence.
fn describe(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let reason = error.message().lines().next().unwrap_or_default();
    line.map_or_else(|| reason.to_owned(), |line| format!("line {line}: {reason}"))
}

/// The folder of the settings, locked for a change.
pub(super) struct Settings {
    folder: PrivateFolder,
    _lock: File,
    pub(super) contexts: Contexts,
}

impl Settings {
    /// Opens the folder for a change, and creates it if it is missing. Waits until no other process changes it.
    ///
    /// # Errors
    /// The folder cannot be created, or the file cannot be read.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let folder = PrivateFolder::create(folder).context("cannot store contexts")?;
        let failed = || format!("cannot lock {}", folder.path().display());
        let lock = folder.open_or_create_file(LOCK).with_context(failed)?;
        // A writer holds the lock for two small files, and never during a request.
        lock.lock().with_context(failed)?;
        let contexts = Contexts::read_in(&folder)?;
        Ok(Self { folder, _lock: lock, contexts })
    }

    /// Writes the contexts.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        let text = toml::to_string(&self.contexts).context("cannot store contexts")?;
        let failed = || format!("cannot write {}", self.folder.path().join(FILE).display());
        self.folder.replace(FILE, text.as_bytes()).with_context(failed)
    }

    /// Returns the path of the token file that the program stores for a context.
    pub(super) fn token_path(&self, name: &str) -> PathBuf {
        self.folder.path().join(TOKENS).join(name)
    }

    /// Stores the token of a context; returns the path of the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn store_token(&self, name: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.token_path(name);
        let failed = || format!("cannot write {}", path.display());
        let tokens = self.folder.create_folder(TOKENS).with_context(failed)?;
        // The lock of those who renew sessions.
        let lock = tokens.open_or_create_file(TOKENS_LOCK).with_context(failed)?;
        lock.lock().with_context(failed)?;
        tokens.replace(name, bytes).with_context(failed)?;
        Ok(path)
    }

    /// Removes the token file that the program stores for a context; returns false if there is none.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(super) fn remove_token(&self, name: &str) -> anyhow::Result<bool> {
        let failed = || format!("cannot remove {}", self.token_path(name).display());
        let Some(tokens) = self.folder.open_folder(TOKENS).with_context(failed)? else { return Ok(false) };
        match tokens.remove(name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(failed),
        }
    }
}
