//! Page of an entry of the ledger.

use askama::Template;
use chrono::DateTime;
use ledger_api_types::{EntryBody, PrincipalBody};
use serde_json::Value;

use crate::entry_members::Members;
use crate::frame::{Frame, Layout, Section};
use crate::parts::{Badge, Digest, EntryLink, Moment, actor};
use crate::paths::Paths;
use crate::render_error::RenderError;
use crate::shown::{shown, shown_lines};

/// Prefix of the types of the ledger's events.
const TYPE_PREFIX: &str = "io.releaseledger.";

#[derive(Template)]
#[template(path = "entry.html")]
struct Page {
    layout: Layout,
    previous: Option<String>,
    next: Option<String>,
    kind: String,
    recorded: Moment,
    occurred: Option<Moment>,
    leaf_hash: Option<Digest>,
    /// Actor according to the authenticated sender.
    actor: Option<String>,
    /// Actor that the event states.
    claimed: Option<String>,
    principal: Option<Principal>,
    repeats: Option<EntryLink>,
    corrected_by: Option<EntryLink>,
    went_live: Option<String>,
    returns_to: Option<EntryLink>,
    targets: Option<String>,
    introduces: Option<String>,
    anomalies: Vec<Badge>,
    clock_ahead_ms: Option<i64>,
    members: Members,
    raw: String,
}

/// Authenticated sender.
struct Principal {
    kind: String,
    name: String,
    issuer: String,
    subject: String,
    claims: Vec<Claim>,
}

struct Claim {
    name: String,
    value: String,
}

/// Renders an entry of the ledger: its event, the sender, its effects, and the event as stored. `latest` is the position
/// of the last entry, if it is known: that one has no link to the next.
///
/// # Errors
/// The template is defective.
pub fn entry(frame: &Frame<'_>, entry: &EntryBody, latest: Option<u64>) -> Result<String, RenderError> {
    let paths = Paths::new(frame.tenant);
    let link = |position| EntryLink::new(&paths, position);
    let event: Value = serde_json::from_str(entry.event.get()).unwrap_or_default();
    let page = Page {
        layout: Layout::new(frame, &format!("Entry {}", entry.position), Section::Other),
        previous: entry.position.checked_sub(1).filter(|position| *position > 0).map(|it| paths.entry(it)),
        next: latest
            .is_none_or(|latest| entry.position < latest)
            .then(|| paths.entry(entry.position.saturating_add(1))),
        kind: kind(&event),
        recorded: Moment::new(entry.recorded_at),
        occurred: occurred(&event),
        leaf_hash: (!entry.leaf_hash.is_empty()).then(|| Digest::new(&entry.leaf_hash)),
        actor: entry.actor.as_ref().map(|by| actor(&by.kind, &by.name)),
        claimed: claimed(&event),
        principal: entry.principal.as_ref().map(principal),
        repeats: entry.repeats.map(link),
        corrected_by: entry.corrected_by.map(link),
        went_live: entry.went_live.as_deref().map(shown),
        returns_to: entry.returns_to.map(link),
        targets: targets(entry),
        introduces: list(&entry.new),
        anomalies: entry.anomalies.iter().map(|word| Badge::warning(word)).collect(),
        clock_ahead_ms: entry.clock_ahead_ms,
        members: Members::new(&event),
        raw: shown_lines(entry.event.get()),
    };
    Ok(page.render()?)
}

/// Returns the type without the ledger's prefix and the version: `deploy.succeeded`.
fn kind(event: &Value) -> String {
    let full = event["type"].as_str().unwrap_or("unknown type");
    let short = full.strip_prefix(TYPE_PREFIX).unwrap_or(full);
    shown(short.strip_suffix(".v1").unwrap_or(short))
}

fn occurred(event: &Value) -> Option<Moment> {
    let time = DateTime::parse_from_rfc3339(event["time"].as_str()?).ok()?;
    Some(Moment::new(time.to_utc()))
}

fn claimed(event: &Value) -> Option<String> {
    let claimed = &event["data"]["actor"];
    Some(actor(claimed["type"].as_str().unwrap_or_default(), claimed["name"].as_str()?))
}

fn principal(body: &PrincipalBody) -> Principal {
    let claims = body.claims.iter().map(|(name, value)| Claim { name: shown(name), value: shown(value) });
    Principal {
        kind: shown(&body.kind),
        name: shown(&body.name),
        issuer: shown(&body.issuer),
        subject: shown(&body.subject),
        claims: claims.collect(),
    }
}

fn targets(entry: &EntryBody) -> Option<String> {
    match &entry.target {
        Some(target) => Some(shown(target)),
        None => list(&entry.targets),
    }
}

/// Returns words in one line; `None` if there are none.
fn list(words: &[String]) -> Option<String> {
    let words: Vec<String> = words.iter().map(|word| shown(word)).collect();
    (!words.is_empty()).then(|| words.join(", "))
}
