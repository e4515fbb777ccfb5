//! Finds well-known secrets in a text: tokens, keys and passwords that have a form of their own.
//!
//! The forms are those that their vendors document. A form is listed only if a digest, a commit, a package URL, a
//! version or a name cannot have it by accident. A secret without such a form, such as the secret half of an AWS key, is
//! found only if the part with a form is in the same text.
//!
//! The time is linear in the length of the text. The first three bytes of every form select the positions at which the
//! whole form is compared: few texts have any.

pub mod examples;
mod forms;

use std::fmt;

/// Kind of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretKind {
    /// PEM block with a private key.
    PrivateKey,
    /// AWS access key, long-term or temporary.
    AwsAccessKey,
    /// Azure storage account key.
    AzureStorageKey,
    /// Azure shared access signature.
    AzureSignature,
    /// DigitalOcean token.
    DigitalOceanToken,
    /// Docker Hub token.
    DockerToken,
    /// GitHub token.
    GitHubToken,
    /// GitLab token.
    GitLabToken,
    /// Google API key.
    GoogleApiKey,
    /// Key file of a Google service account.
    GoogleServiceAccount,
    /// JSON Web Token.
    JsonWebToken,
    /// API token of a release ledger.
    LedgerToken,
    /// npm token.
    NpmToken,
    /// Password in a URL.
    UrlPassword,
    /// PyPI token.
    PyPiToken,
    /// SendGrid API key.
    SendGridKey,
    /// Slack token.
    SlackToken,
    /// Live key of Stripe.
    StripeKey,
    /// Telegram bot token.
    TelegramToken,
    /// Twilio API key.
    TwilioKey,
    /// HashiCorp Vault token.
    VaultToken,
}

impl SecretKind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::PrivateKey,
        Self::AwsAccessKey,
        Self::AzureStorageKey,
        Self::AzureSignature,
        Self::DigitalOceanToken,
        Self::DockerToken,
        Self::GitHubToken,
        Self::GitLabToken,
        Self::GoogleApiKey,
        Self::GoogleServiceAccount,
        Self::JsonWebToken,
        Self::LedgerToken,
        Self::NpmToken,
        Self::UrlPassword,
        Self::PyPiToken,
        Self::SendGridKey,
        Self::SlackToken,
        Self::StripeKey,
        Self::TelegramToken,
        Self::TwilioKey,
        Self::VaultToken,
    ];

    /// Returns the name of the kind, with its article.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PrivateKey => "a private key",
            Self::AwsAccessKey => "an AWS access key",
            Self::AzureStorageKey => "an Azure storage account key",
            Self::AzureSignature => "an Azure shared access signature",
            Self::DigitalOceanToken => "a DigitalOcean token",
            Self::DockerToken => "a Docker Hub token",
            Self::GitHubToken => "a GitHub token",
            Self::GitLabToken => "a GitLab token",
            Self::GoogleApiKey => "a Google API key",
            Self::GoogleServiceAccount => "the key file of a Google service account",
            Self::JsonWebToken => "a JSON Web Token",
            Self::LedgerToken => "an API token of a release ledger",
            Self::NpmToken => "an npm token",
            Self::UrlPassword => "a password in a URL",
            Self::PyPiToken => "a PyPI token",
            Self::SendGridKey => "a SendGrid API key",
            Self::SlackToken => "a Slack token",
            Self::StripeKey => "a Stripe key",
            Self::TelegramToken => "a Telegram bot token",
            Self::TwilioKey => "a Twilio API key",
            Self::VaultToken => "a HashiCorp Vault token",
        }
    }
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Length of the shortest secret: `a://:b@c`.
const MIN_LENGTH: usize = 8;

/// Returns the kind of the first secret in a text.
#[must_use]
pub fn find(text: &str) -> Option<SecretKind> {
    let bytes = text.as_bytes();
    if bytes.len() < MIN_LENGTH {
        return None;
    }
    let [first, second, third] = &STARTS;
    for (at, window) in bytes.windows(3).enumerate() {
        let forms =
            first[usize::from(window[0])] & second[usize::from(window[1])] & third[usize::from(window[2])];
        if forms != 0
            && let Some(found) = forms::at(bytes, at)
        {
            return Some(found);
        }
    }
    None
}

/// Returns the kind of secret that a member's name contains, or that its value is by the name.
#[must_use]
pub fn find_in_name(name: &str) -> Option<SecretKind> {
    if name == forms::SERVICE_ACCOUNT_MEMBER {
        return Some(SecretKind::GoogleServiceAccount);
    }
    find(name)
}

/// Sets of forms, one bit each, by the first, second and third byte of the form.
static STARTS: [[u32; 256]; 3] = starts();

const fn starts() -> [[u32; 256]; 3] {
    let mut sets = [[0; 256]; 3];
    let mut form = 0;
    while form < forms::STARTS.len() {
        let mut place = 0;
        while place < 3 {
            let bytes = forms::STARTS[form][place];
            let mut index = 0;
            while index < bytes.len() {
                sets[place][bytes[index] as usize] |= 1 << form;
                index += 1;
            }
            place += 1;
        }
        form += 1;
    }
    sets
}

#[cfg(test)]
mod tests;
