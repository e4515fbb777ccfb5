//! Style sheet of the pages.

use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

const STYLE: &str = include_str!("../assets/pages.css");

/// Number of bytes of the hash in the path.
const HASH_BYTES: usize = 8;

static STYLE_PATH: LazyLock<String> = LazyLock::new(|| path_of(STYLE));

/// Returns the style sheet of every page.
#[must_use]
pub fn style() -> &'static str {
    STYLE
}

/// Returns the path of the style sheet: `/assets/<hash>/pages.css`. It changes with the contents, so that browsers may
/// keep the file forever.
#[must_use]
pub fn style_path() -> &'static str {
    STYLE_PATH.as_str()
}

fn path_of(style: &str) -> String {
    let hash = Sha256::digest(style.as_bytes());
    format!("/assets/{}/pages.css", hex::encode(&hash[..HASH_BYTES]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Size of the style sheet, in bytes, which every first visit loads.
    const MAX_BYTES: usize = 12 * 1024;

    #[test]
    fn the_path_changes_with_the_contents() {
        assert_ne!(path_of("a{}"), path_of("b{}"));
        assert_eq!(path_of("a{}"), path_of("a{}"));
        assert_eq!(style_path(), path_of(style()));
    }

    #[test]
    fn the_path_has_sixteen_digits_of_the_hash() {
        let hash = style_path().strip_prefix("/assets/").and_then(|rest| rest.strip_suffix("/pages.css"));
        let hash = hash.expect("the path names the hash");
        assert_eq!(hash.len(), 16);
        assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn the_style_sheet_is_small_and_loads_nothing() {
        assert!(style().len() <= MAX_BYTES, "{} bytes", style().len());
        assert!(!style().contains("@import") && !style().contains("url("));
    }
}
