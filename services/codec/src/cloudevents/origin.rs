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
    /// Format of the message: `cdevents`, `hook:github/deployment_status`.
    pub format: ShortText,
    /// Bytes of the message, as received.
    pub bytes: Bytes,
}

/// The origin of a stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOrigin {
    /// Format of the message.
    pub format: String,
    /// SHA-256 of the message's bytes, in hexadecimal.
    pub sha256: String,
    /// Bytes of the message, as received; `None` if they were too long to be kept.
    pub bytes: Option<Bytes>,
}

/// Adds an origin to the members of an event whose canonical form has `length` bytes and may have `limit`.
pub(super) fn add<'j>(object: Object<'j>, origin: &Origin, length: usize, limit: usize) -> Object<'j> {
    let digest = hex(&Sha256::digest(&origin.bytes));
    let text = |text: String| Json::String(text.into());
    let mut members = object.into_members();
    members.push((FORMAT.into(), text(origin.format.as_str().to_owned())));
    members.push((DIGEST.into(), text(digest)));
    // The names, the digest and the punctuation take less than 256 bytes; the format is escaped.
    let used = length + 256 + origin.format.as_str().len() * 2;
    if origin.bytes.len() <= MAX_ORIGINAL_BYTES {
        let encoded = compress(&origin.bytes);
        if used + encoded.len() <= limit {
            members.push((BYTES.into(), text(encoded)));
        }
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

fn compress(bytes: &[u8]) -> String {
    STANDARD.encode(gzip::compress(bytes))
}

fn decompress(text: &str) -> Option<Bytes> {
    gzip::decompress(&STANDARD.decode(text).ok()?, MAX_ORIGINAL_BYTES).map(Bytes::from)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
