//! Pull requests of GitHub that were merged: activities, by which the lead time of a change can be found.

use super::{Repository, actor};
use crate::hooks::context::Context;
use crate::hooks::draft::Draft;
use crate::hooks::json::Node;
use crate::text;
use crate::translation::{NotUnderstood, Translation};

/// A pull request that was closed. It is merged once: its identity needs no time.
pub(super) fn closed(context: Context<'_>, root: &Node<'_>) -> Result<Translation, NotUnderstood> {
    let change = root.object("pull_request")?;
    if !change.flag("merged")? {
        return Ok(Translation::Ignored("pull_request closed: it was not merged".to_owned()));
    }
    let repository = Repository::read(context, root)?;
    let at = context.time(&change, "merged_at")?;
    let id = format!("pull_request/{}/merged", change.id("id")?);
    let title = change.hint("title").unwrap_or_default();
    let subject = format!("{}#{}: {title}", repository.full_name, change.id("number")?);
    let merger = change.get("merged_by").or_else(|| root.get("sender"));
    let event = Draft::new("activity.reported", &repository.source, &id, at)
        .with("activity", "change.merged")
        .with_line("subject", Some(&subject))
        .with_optional("commit", change.hint("merge_commit_sha").filter(|sha| text::is_full_commit(sha)))
        .with_actor(actor(merger.as_ref()))
        .with_link("change", change.hint("html_url"));
    Ok(Translation::Events(vec![event.build()]))
}
