//! The attributes of an event that was translated from a message of another tool: the message's format and bytes.
//!
//! The bytes are kept so that a better translation can read them later. Attributes of CloudEvents have no binary form in
//! JSON and no control characters, so the bytes are compressed (gzip, RFC 1952) and written in Base64 (RFC 4648). A
//! message that does not fit in its event even so is represented by its digest. No client may send these attributes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ledger_domain::ShortText;
use sha2::{Digest as _, Sha256};

use crate::gzip;
use crate::ijson::{Json, Object};

const FORMAT: &str = "ledgerformat";
const DIGEST: &str = "ledgeroriginalsha256";
const BYTES: &str = "ledgeroriginal";

/// Maximum length of an original in bytes when it is read back. Longer ones are not written.
const MAX_ORIGINAL_BYTES: usize = 4 * 1024 * 1024;

/// A message of another tool from which events were translated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    format: ShortText,
    sha256: String,
    /// The bytes in the form of the attribute; `None` if they are not kept.
    encoded: Option<String>,
}

impl Origin {
    /// Creates the origin of a message: the way by which it arrived (`cdevents`, `hook:github-main/deployment_status`) and
    /// its bytes, as received.
    #[must_use]
    pub fn new(format: ShortText, bytes: &[u8]) -> Self {
        let sha256 = hex::encode(Sha256::digest(bytes));
        let encoded = (bytes.len() <= MAX_ORIGINAL_BYTES).then(|| STANDARD.encode(gzip::compress(bytes)));
        Self { format, sha256, encoded }
    }

    /// Returns the origin without the bytes of the message: its digest only.
    #[must_use]
    pub fn without_bytes(&self) -> Self {
        Self { encoded: None, ..self.clone() }
    }
}

/// The origin of a stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOrigin {
    /// Way by which the message arrived.
    pub format: String,
    /// SHA-256 of the message's bytes, in hexadecimal.
    pub sha256: String,
    /// Bytes of the message, as received; `None` if they were too long to be kept.
    pub bytes: Option<Bytes>,
}

/// Adds an origin to the members of an event whose canonical form has `length` bytes and may have `limit`.
pub(super) fn add<'j>(object: Object<'j>, origin: &Origin, length: usize, limit: usize) -> Object<'j> {
    let text = |text: String| Json::String(text.into());
    let mut members = object.into_members();
    members.push((FORMAT.into(), text(origin.format.as_str().to_owned())));
    members.push((DIGEST.into(), text(origin.sha256.clone())));
    // The names, the digest and the punctuation take less than 256 bytes; the format is escaped.
    let used = length + 256 + origin.format.as_str().len() * 2;
    if let Some(encoded) = origin.encoded.as_ref().filter(|encoded| used + encoded.len() <= limit) {
        members.push((BYTES.into(), text(encoded.clone())));
    }
    Object::from_members(members).unwrap_or_default()
}

/// Returns the origin that the attributes of a stored event state; `None` if the event was sent in the ledger's format.
pub(super) fn of(object: &Object<'_>) -> Option<StoredOrigin> {
    let text = |name| match object.get(name) {
        Some(Json::String(text)) => Some(text.as_ref()),
        _ => None,
    };
    Some(StoredOrigin {
        format: text(FORMAT)?.to_owned(),
        sha256: text(DIGEST)?.to_owned(),
        bytes: text(BYTES).and_then(decompress),
    })
}

fn decompress(text: &str) -> Option<Bytes> {
    gzip::decompress(&STANDARD.decode(text).ok()?, MAX_ORIGINAL_BYTES).map(Bytes::from)
}
