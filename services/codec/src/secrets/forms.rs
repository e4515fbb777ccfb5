//! The forms of secrets.
//!
//! A form begins where no letter or digit stands before it, and is never the middle of a longer word.

use super::SecretKind;
use crate::ijson::Json;

/// First three bytes of each form: the bytes that are possible at each place.
pub(super) const STARTS: [[&[u8]; 3]; 20] = [
    [b"-", b"-", b"-"],
    [b"A", b"KS", b"I"],
    [b"A", b"I", b"z"],
    [b"A", b"c", b"c"],
    [b"S", b"K", b"0123456789abcdefABCDEF"],
    [b"S", b"G", b"."],
    [b"d", b"o", b"opr"],
    [b"d", b"c", b"k"],
    [b"e", b"y", b"J"],
    [b"g", b"h", b"oprsu"],
    [b"g", b"i", b"t"],
    [b"g", b"l", b"acdfioprs"],
    [b"h", b"v", b"bs"],
    [b"n", b"p", b"m"],
    [b"p", b"y", b"p"],
    [b"rs", b"kl", b"_"],
    [b"s", b"i", b"g"],
    [b"x", b"o", b"x"],
    [b":", b"/A", b"/A"],
    [b"\"", b"p", b"r"],
];

/// Member that every key file of a Google service account has.
pub(super) const SERVICE_ACCOUNT_MEMBER: &str = "private_key_id";

/// Returns the kind of the secret that begins at a position of a text.
pub(super) fn at(text: &[u8], at: usize) -> Option<SecretKind> {
    let (before, rest) = text.split_at(at);
    match rest[0] {
        b':' => url_password(before, rest).or_else(|| telegram_token(before, rest)),
        b'"' => service_account(rest),
        b'-' => private_key(rest),
        _ if before.last().is_some_and(u8::is_ascii_alphanumeric) => None,
        b'A' => aws_access_key(rest).or_else(|| google_api_key(rest)).or_else(|| azure_storage_key(rest)),
        b'S' => twilio_key(rest).or_else(|| send_grid_key(rest)),
        b'd' => digital_ocean_token(rest).or_else(|| docker_token(rest)),
        b'e' if !before.last().is_some_and(|byte| is_url_base64(*byte)) => json_web_token(rest),
        b'g' => git_hub_token(rest).or_else(|| git_lab_token(rest)),
        b'h' => vault_token(rest),
        b'n' => npm_token(rest),
        b'p' => py_pi_token(rest),
        b'r' => stripe_key(rest).or_else(|| ledger_token(rest)),
        b's' => stripe_key(rest).or_else(|| azure_signature(rest)),
        b'x' => slack_token(rest),
        _ => None,
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

fn is_url_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// Returns what follows any of the prefixes.
fn after<'t>(text: &'t [u8], prefixes: &[&str]) -> Option<&'t [u8]> {
    prefixes.iter().find_map(|prefix| text.strip_prefix(prefix.as_bytes()))
}

/// Returns the first `length` bytes if all are of an alphabet.
fn at_least(text: &[u8], length: usize, is_allowed: fn(u8) -> bool) -> Option<&[u8]> {
    text.get(..length).filter(|bytes| bytes.iter().all(|byte| is_allowed(*byte)))
}

/// Returns the first `length` bytes if all are of an alphabet and the next is not.
fn exactly(text: &[u8], length: usize, is_allowed: fn(u8) -> bool) -> Option<&[u8]> {
    at_least(text, length, is_allowed).filter(|_| !text.get(length).is_some_and(|byte| is_allowed(*byte)))
}

fn has(text: &[u8], is_wanted: fn(&u8) -> bool) -> bool {
    text.iter().any(is_wanted)
}

/// RFC 7468: the label is enough, since line feeds may be escaped or missing.
fn private_key(text: &[u8]) -> Option<SecretKind> {
    let label = text.strip_prefix(b"-----BEGIN ")?;
    let is_label = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b' ';
    let length = label.iter().position(|byte| !is_label(byte))?;
    let (label, rest) = label.split_at(length);
    let is_key = label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK");
    (is_key && rest.starts_with(b"-----")).then_some(SecretKind::PrivateKey)
}

/// The id of the key, of base 32. The secret half has no form of its own.
fn aws_access_key(text: &[u8]) -> Option<SecretKind> {
    let is_base32 = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
    let id = after(text, &["AKIA", "ASIA"])?;
    at_least(id, 16, is_base32)?;
    (!id.get(16).is_some_and(u8::is_ascii_alphanumeric)).then_some(SecretKind::AwsAccessKey)
}

fn google_api_key(text: &[u8]) -> Option<SecretKind> {
    exactly(after(text, &["AIza"])?, 35, is_url_base64).map(|_| SecretKind::GoogleApiKey)
}

/// 64 bytes in base 64, as in a connection string.
fn azure_storage_key(text: &[u8]) -> Option<SecretKind> {
    let key = after(text, &["AccountKey="])?;
    at_least(key, 86, is_base64)?;
    key[86..].starts_with(b"==").then_some(SecretKind::AzureStorageKey)
}

/// HMAC-SHA256 in base 64, percent-encoded or not: 43 characters and the padding.
fn azure_signature(text: &[u8]) -> Option<SecretKind> {
    let mut rest = after(text, &["sig="])?;
    for _ in 0..43 {
        rest = match rest {
            [b'%', b'2', b'B' | b'b' | b'F' | b'f', rest @ ..] => rest,
            [byte, rest @ ..] if is_base64(*byte) => rest,
            _ => return None,
        };
    }
    after(rest, &["=", "%3D", "%3d"]).map(|_| SecretKind::AzureSignature)
}

fn twilio_key(text: &[u8]) -> Option<SecretKind> {
    let key = exactly(after(text, &["SK"])?, 32, |byte| byte.is_ascii_hexdigit())?;
    let is_end = !text.get(2 + key.len()).is_some_and(u8::is_ascii_alphanumeric);
    is_end.then_some(SecretKind::TwilioKey)
}

fn send_grid_key(text: &[u8]) -> Option<SecretKind> {
    let id = after(text, &["SG."])?;
    at_least(id, 22, is_url_base64)?;
    let secret = id[22..].strip_prefix(b".")?;
    exactly(secret, 43, is_url_base64).map(|_| SecretKind::SendGridKey)
}

/// Personal, OAuth and refresh tokens.
fn digital_ocean_token(text: &[u8]) -> Option<SecretKind> {
    let secret = after(text, &["dop_v1_", "doo_v1_", "dor_v1_"])?;
    exactly(secret, 64, is_hex).map(|_| SecretKind::DigitalOceanToken)
}

/// Tokens of persons and of organisations.
fn docker_token(text: &[u8]) -> Option<SecretKind> {
    let secret = after(text, &["dckr_pat_", "dckr_oat_"])?;
    at_least(secret, 27, is_url_base64).map(|_| SecretKind::DockerToken)
}

/// Classic tokens of persons, OAuth, users, installations and refreshes, and fine-grained ones. An upper-case letter
/// tells a token from a name.
fn git_hub_token(text: &[u8]) -> Option<SecretKind> {
    let classic = after(text, &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"]);
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let found = match classic {
        Some(secret) => at_least(secret, 36, is_word),
        None => at_least(after(text, &["github_pat_"])?, 60, is_word),
    };
    has(found?, u8::is_ascii_uppercase).then_some(SecretKind::GitHubToken)
}

/// An upper-case letter tells a token from a name.
fn git_lab_token(text: &[u8]) -> Option<SecretKind> {
    const PREFIXES: &[&str] = &[
        "glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "glsoat-", "glft-", "glimt-", "glagent-", "gloas-",
        "glffct-",
    ];
    let secret = at_least(after(text, PREFIXES)?, 20, is_url_base64)?;
    has(secret, u8::is_ascii_uppercase).then_some(SecretKind::GitLabToken)
}

/// Service and batch tokens. Root tokens have 24 characters, others more. Upper-case letters, lower-case letters and
/// digits tell a token from a host.
fn vault_token(text: &[u8]) -> Option<SecretKind> {
    let secret = at_least(after(text, &["hvs.", "hvb."])?, 24, is_url_base64)?;
    let is_random = has(secret, u8::is_ascii_uppercase)
        && has(secret, u8::is_ascii_lowercase)
        && has(secret, u8::is_ascii_digit);
    is_random.then_some(SecretKind::VaultToken)
}

fn npm_token(text: &[u8]) -> Option<SecretKind> {
    exactly(after(text, &["npm_"])?, 36, is_alphanumeric).map(|_| SecretKind::NpmToken)
}

/// A macaroon, which begins with its version and location.
fn py_pi_token(text: &[u8]) -> Option<SecretKind> {
    at_least(after(text, &["pypi-AgE"])?, 50, is_url_base64).map(|_| SecretKind::PyPiToken)
}

/// Secret and restricted keys. A digit tells a key from a name.
fn stripe_key(text: &[u8]) -> Option<SecretKind> {
    let secret = at_least(after(text, &["sk_live_", "rk_live_"])?, 16, is_alphanumeric)?;
    has(secret, u8::is_ascii_digit).then_some(SecretKind::StripeKey)
}

fn ledger_token(text: &[u8]) -> Option<SecretKind> {
    let id = after(text, &["rl_"])?;
    at_least(id, 16, is_hex)?;
    at_least(id[16..].strip_prefix(b"_")?, 64, is_hex).map(|_| SecretKind::LedgerToken)
}

/// A digit tells a token from a name.
fn slack_token(text: &[u8]) -> Option<SecretKind> {
    let secret = after(text, &["xoxa-", "xoxb-", "xoxe-", "xoxp-", "xoxr-", "xoxs-"])?;
    let secret = at_least(secret, 20, is_url_base64)?;
    has(secret, u8::is_ascii_digit).then_some(SecretKind::SlackToken)
}

/// `text` begins with the colon after the id of the bot, which has 8 digits or more. In URLs of the API, `bot` precedes
/// the id.
fn telegram_token(before: &[u8], text: &[u8]) -> Option<SecretKind> {
    let digits = before.iter().rev().take(17).take_while(|byte| byte.is_ascii_digit()).count();
    let secret = after(text, &[":"]).filter(|_| (8..=16).contains(&digits))?;
    let before = &before[..before.len() - digits];
    if before.last().is_some_and(u8::is_ascii_alphanumeric) && !before.ends_with(b"/bot") {
        return None;
    }
    exactly(secret, 35, is_url_base64).map(|_| SecretKind::TelegramToken)
}

/// A key file as text, with its quotes escaped or not.
fn service_account(text: &[u8]) -> Option<SecretKind> {
    let rest = text[1..].strip_prefix(SERVICE_ACCOUNT_MEMBER.as_bytes())?;
    matches!(rest.first(), Some(b'"' | b'\\')).then_some(SecretKind::GoogleServiceAccount)
}

/// `text` begins with the colon after the scheme of a URL.
fn url_password(before: &[u8], text: &[u8]) -> Option<SecretKind> {
    let authority = text.strip_prefix(b"://")?;
    before.last().filter(|byte| byte.is_ascii_alphanumeric())?;
    let is_end =
        |byte: &u8| matches!(byte, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>' | b'`') || *byte <= b' ';
    let length = authority.iter().position(is_end).unwrap_or(authority.len());
    let authority = &authority[..length];
    let at = authority.iter().rposition(|byte| *byte == b'@')?;
    let (user_info, host) = (&authority[..at], &authority[at + 1..]);
    let colon = user_info.iter().position(|byte| *byte == b':')?;
    // `docker://alpine:3.20@sha256:…` is an image without a registry.
    let is_digest = host.starts_with(b"sha256:") || host.starts_with(b"sha512:");
    let is_secret = !host.is_empty() && !is_digest && !is_masked(&user_info[colon + 1..]);
    is_secret.then_some(SecretKind::UrlPassword)
}

/// Returns true for a password that a tool has replaced, and for none.
fn is_masked(password: &[u8]) -> bool {
    password.iter().all(|byte| *byte == b'*')
        || password.iter().all(|byte| *byte == b'x')
        || password.eq_ignore_ascii_case(b"redacted")
}

/// Three parts in base 64, separated by dots; the first is a JSON object with the algorithm. The last may be empty.
fn json_web_token(text: &[u8]) -> Option<SecretKind> {
    let part = |text: &[u8]| text.iter().position(|byte| !is_url_base64(*byte)).unwrap_or(text.len());
    let (header, rest) = text.split_at(part(text));
    let payload = rest.strip_prefix(b".")?;
    let (payload, rest) = payload.split_at(part(payload));
    if payload.is_empty() || !rest.starts_with(b".") {
        return None;
    }
    let header = decode_url_base64(header)?;
    match Json::parse(&header) {
        Ok(Json::Object(header)) if matches!(header.get("alg"), Some(Json::String(_))) => {
            Some(SecretKind::JsonWebToken)
        }
        _ => None,
    }
}

/// Decodes base 64 with the alphabet of URLs and without padding.
fn decode_url_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count & 0xff) as u8);
        }
    }
    Some(decoded)
}
