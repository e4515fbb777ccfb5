//! Fields of the forms of pages.

use uuid::Uuid;

use crate::problem::Problem;

/// Parses the event id that a page put into its form, so that a form that is sent twice is recorded once.
pub(super) fn parse_event_id(text: &str) -> Result<Uuid, Problem> {
    let invalid = |_| Problem::parameter("event_id", "must be the UUID of the page; load the page again");
    Uuid::try_parse(text).map_err(invalid)
}

/// Returns the reason that a form gives, if it gives one. Browsers send line ends as CR LF.
pub(super) fn reason(text: &str) -> Option<String> {
    let text = text.replace("\r\n", "\n");
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_trimmed_and_has_the_line_ends_of_other_clients() {
        assert_eq!(reason(" It leaks.\r\nMemory.\r\n"), Some("It leaks.\nMemory.".to_owned()));
        assert_eq!(reason(" \r\n"), None);
    }

    #[test]
    fn an_event_id_is_a_uuid() {
        assert!(parse_event_id("0193f3a0-7c2b-7d11-9a52-6b4f5f0e1d2c").is_ok());
        for wrong in ["", "1", "0193f3a0-7c2b-7d11-9a52-6b4f5f0e1d2cc"] {
            assert!(parse_event_id(wrong).is_err(), "{wrong}");
        }
    }
}
