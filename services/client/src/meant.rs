//! Suggestions for misspelt names.

use ledger_domain::nearest;

/// Number of names that a message lists.
const SHOWN_NAMES: usize = 20;

/// Returns `; did you mean NAME?`, with the known name that was probably meant; empty if none is near.
pub(super) fn suggestion<N: AsRef<str>>(name: &str, known: &[N]) -> String {
    let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    nearest(name, &known).map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}

/// Returns the suggestion for a misspelt name, or else `; ` and the advice.
pub(super) fn suggestion_or<N: AsRef<str>>(name: &str, known: &[N], advice: &str) -> String {
    let near = suggestion(name, known);
    if near.is_empty() { format!("; {advice}") } else { near }
}

/// Lists names, up to a number of them.
pub(super) fn listed<N: AsRef<str>>(names: &[N]) -> String {
    let shown = names.iter().take(SHOWN_NAMES).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN_NAMES) {
        0 if names.is_empty() => "none".to_owned(),
        0 => shown,
        more => format!("{shown}, and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_if_it_is_near() {
        assert_eq!(suggestion("prodution", &["staging", "production"]), "; did you mean production?");
        assert_eq!(suggestion("dev", &["staging", "production"]), "");
        assert_eq!(suggestion::<&str>("dev", &[]), "");
        assert_eq!(suggestion_or("wbe", &["web"], "see the list"), "; did you mean web?");
        assert_eq!(suggestion_or("api", &["web"], "see the list"), "; see the list");
    }

    #[test]
    fn a_long_list_of_names_is_cut_with_the_number_of_the_others() {
        let names = |count: usize| (0..count).map(|number| format!("e{number}")).collect::<Vec<_>>();
        assert_eq!(listed(&names(0)), "none");
        assert_eq!(listed(&names(2)), "e0, e1");
        assert!(listed(&names(22)).ends_with("e19, and 2 more"));
    }
}
