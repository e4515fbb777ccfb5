//! `release-ledger login` and `logout`: the sessions of persons with an issuer of OpenID Connect tokens.

mod device;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::SecondsFormat;
use reqwest::Url;
use serde_json::json;

use self::device::DeviceLogin;
use super::contexts::{Context, Settings};
use super::credentials::{Contents, Fetcher, Issuer, Session, TokenFile};
use super::output::{print_json_or_text, print_notice};
use crate::environment;

/// Flags that select a context.
#[derive(Debug, clap::Args)]
struct ContextArgs {
    /// The context [default: the current one]
    #[arg(long, value_name = "NAME", env = "RELEASE_LEDGER_CONTEXT")]
    context: Option<String>,
}

impl ContextArgs {
    /// Returns the name of the context and the context.
    fn find(&self, settings: &Settings) -> anyhow::Result<(String, Context)> {
        let name = self.context.clone().or_else(|| settings.contexts.current.clone());
        let name = name.context(
            "there is no current context; add one with `release-ledger context add NAME --url …`, or set --context",
        )?;
        let context = settings.contexts.get(&name)?.clone();
        Ok((name, context))
    }
}

/// Log in with your browser
///
/// Asks an issuer of OpenID Connect tokens for a session, and prints a page and a code with which you confirm it in a
/// browser, on any device (OAuth 2.0 Device Authorization Grant, RFC 8628). The session is stored for the context, and is
/// renewed when its token ends, if the issuer gives a refresh token.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  release-ledger login --issuer https://login.example --client-id release-ledger")]
pub struct Login {
    #[command(flatten)]
    context: ContextArgs,
    /// The URL of the issuer
    #[arg(long, value_name = "URL")]
    issuer: Url,
    /// The id of this program at the issuer
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// The audience to ask for, if the issuer needs one
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,
    /// The scopes to ask for
    #[arg(long, value_name = "SCOPES", default_value = "openid offline_access")]
    scope: String,
    /// Send the access token to the service, and not the ID token
    #[arg(long)]
    use_access_token: bool,
    /// Print {"context":NAME, "expires_at":TIME, "renews_automatically":…}
    #[arg(long)]
    json: bool,
}

impl Login {
    /// Runs the command.
    ///
    /// # Errors
    /// The issuer gives no token, or the session cannot be stored.
    pub async fn run(self) -> anyhow::Result<()> {
        let prompt = |text: &str| print_notice(text);
        let json = self.json;
        let text = self.run_in(&environment::config_dir()?, Duration::from_secs(1), prompt).await?;
        Ok(print_json_or_text(json, &text)?)
    }

    /// Runs the command with the settings in a folder. `second` is the unit of the issuer's intervals.
    async fn run_in(
        self,
        folder: &Path,
        second: Duration,
        prompt: impl Fn(&str) + Sync,
    ) -> anyhow::Result<String> {
        let (_, ca_file) = find_context(&self.context, folder)?;
        let fetcher = Fetcher::new(ca_file.as_deref());
        let issuer = Issuer::discover(fetcher, self.issuer.as_str(), &self.client_id).await?;
        let login = DeviceLogin { issuer: &issuer, scope: &self.scope, audience: self.audience.as_deref() };
        let tokens = login.tokens(second, prompt).await?;
        let session = Session::new(&issuer, tokens, self.use_access_token)?;
        // The lock is not held while the person confirms.
        let mut settings = Settings::open(folder)?;
        let (name, mut context) = self.context.find(&settings)?;
        check_storage(&settings, &name, &context)?;
        context.token_file = Some(settings.store_token(&name, &session.to_json())?);
        settings.contexts.contexts.insert(name.clone(), context);
        settings.save()?;
        let end = session.expires_at.map(|end| end.to_rfc3339_opts(SecondsFormat::Secs, true));
        let renews_automatically = session.refresh_token.is_some();
        if self.json {
            return Ok(
                json!({"context": name, "expires_at": end, "renews_automatically": renews_automatically})
                    .to_string(),
            );
        }
        Ok(match (renews_automatically, end) {
            (true, _) => format!("logged in for context {name}; the session is renewed automatically"),
            (false, Some(end)) => format!("logged in for context {name} until {end}"),
            (false, None) => format!("logged in for context {name}"),
        })
    }
}

/// Returns the context of a login and its certificate authorities, before the person confirms.
fn find_context(args: &ContextArgs, folder: &Path) -> anyhow::Result<(String, Option<PathBuf>)> {
    let settings = Settings::open(folder)?;
    let (name, context) = args.find(&settings)?;
    check_storage(&settings, &name, &context)?;
    Ok((name, context.ca_file))
}

/// Checks that the context has no token that a login would hide.
fn check_storage(settings: &Settings, name: &str, context: &Context) -> anyhow::Result<()> {
    if context.token_command.is_some() {
        bail!("context {name} has a token_command; add another context for the login");
    }
    match &context.token_file {
        Some(path) if *path != settings.token_path(name) => {
            bail!("the token of context {name} is in {}; add another context for the login", path.display())
        }
        _ => Ok(()),
    }
}

/// Forget the session of a context
#[derive(Debug, clap::Args)]
pub struct Logout {
    #[command(flatten)]
    context: ContextArgs,
    /// Print {"context":NAME}
    #[arg(long)]
    json: bool,
}

impl Logout {
    /// Runs the command.
    ///
    /// # Errors
    /// The session cannot be removed.
    pub async fn run(self) -> anyhow::Result<()> {
        let json = self.json;
        let text = self.run_in(&environment::config_dir()?).await?;
        Ok(print_json_or_text(json, &text)?)
    }

    async fn run_in(self, folder: &Path) -> anyhow::Result<String> {
        let mut settings = Settings::open(folder)?;
        let (name, mut context) = self.context.find(&settings)?;
        let path = context.token_file.clone().filter(|path| *path == settings.token_path(&name));
        let Some(path) = path else { bail!("context {name} has no session") };
        let contents = TokenFile::new(&path, format!("context {name}"), None).read().await;
        if matches!(contents, Ok(Contents::Token(_))) {
            bail!(
                "context {name} has a token and no session; remove it with `release-ledger context remove {name}`"
            );
        }
        settings.remove_token(&name)?;
        context.token_file = None;
        settings.contexts.contexts.insert(name.clone(), context);
        settings.save()?;
        Ok(match self.json {
            true => json!({"context": name}).to_string(),
            false => format!("logged out of context {name}"),
        })
    }
}

#[cfg(test)]
mod tests;
