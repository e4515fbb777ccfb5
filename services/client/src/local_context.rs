//! The context of a ledger that runs on this machine: `release-ledger up` writes it.

use std::path::{Path, PathBuf};

use ledger_access::ApiToken;
use reqwest::Url;

use super::address::is_same_service;
use super::contexts::{Context, ContextUrl, Settings};
use crate::environment;

/// Name of the context.
const LOCAL: &str = "local";

/// Stored context of a local ledger.
#[derive(Debug, Clone)]
pub struct LocalContext {
    /// Sentence that says which context is the current one.
    pub summary: String,
    /// File with the token.
    pub token_file: PathBuf,
}

/// Stores the token of a local ledger in the context `local`, or `local-<port>` if `local` is of another URL. It becomes
/// the current context, unless another one than that of a local ledger is.
///
/// # Errors
/// There is no folder for contexts, or it cannot be written.
pub fn save_local_context(url: &Url, token: &ApiToken) -> anyhow::Result<LocalContext> {
    save_in(&environment::config_dir()?, url, token)
}

fn save_in(folder: &Path, url: &Url, token: &ApiToken) -> anyhow::Result<LocalContext> {
    let mut settings = Settings::open(folder)?;
    let contexts = &settings.contexts.contexts;
    let is_other = contexts.get(LOCAL).is_some_and(|local| !is_same_service(local.url.url(), url));
    let name = match url.port_or_known_default() {
        Some(port) if is_other => format!("{LOCAL}-{port}"),
        _ => LOCAL.to_owned(),
    };
    let token_file = settings.store_token(&name, token.expose().as_bytes())?;
    let context = Context { token_file: Some(token_file.clone()), ..Context::new(ContextUrl::new(url)) };
    settings.contexts.contexts.insert(name.clone(), context);
    // A local ledger that ended leaves its context behind.
    let is_local = |current: &String| current == LOCAL || current.starts_with("local-");
    if settings.contexts.current.as_ref().is_none_or(is_local) {
        settings.contexts.current = Some(name.clone());
    }
    settings.save()?;
    let summary = match &settings.contexts.current {
        Some(current) if *current != name => {
            format!("the current context is {current}; commands reach this ledger with --context {name}")
        }
        _ => format!("its context {name} is now the current one"),
    };
    Ok(LocalContext { summary, token_file })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::contexts::Contexts;

    #[test]
    fn a_local_ledger_replaces_its_own_context_and_no_other() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("release-ledger");
        let save = |url: &str| {
            let token = ApiToken::generate().expect("random");
            save_in(&folder, &url.parse().expect("a URL"), &token).expect("saved");
            token
        };
        let read = || Contexts::read(&folder).expect("contexts");
        let stored = |name: &str| {
            let path = read().get(name).expect("a context").token_file.clone().expect("a file");
            fs::read_to_string(path).expect("read")
        };

        save("http://127.0.0.1:8080");
        let second = save("http://127.0.0.1:8080/");
        let other = save("http://127.0.0.1:9090");

        assert_eq!(read().contexts.keys().collect::<Vec<_>>(), ["local", "local-9090"]);
        assert_eq!(read().current.as_deref(), Some("local-9090"), "the one that was started last");
        assert_eq!((stored("local"), stored("local-9090")), (second.expose().into(), other.expose().into()));
    }
}
