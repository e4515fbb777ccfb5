//! Style sheet and icon of the pages.

use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

const STYLE: &str = include_str!("../assets/pages.css");
const ICON: &str = include_str!("../assets/icon.svg");

/// Number of bytes of the hash in the path.
const HASH_BYTES: usize = 8;

static STYLE_PATH: LazyLock<String> = LazyLock::new(|| path_of(STYLE, "pages.css"));
static ICON_PATH: LazyLock<String> = LazyLock::new(|| path_of(ICON, "icon.svg"));

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

/// Returns the icon of every page, an SVG image.
#[must_use]
pub fn icon() -> &'static str {
    ICON
}

/// Returns the path of the icon: `/assets/<hash>/icon.svg`. It changes with the contents.
#[must_use]
pub fn icon_path() -> &'static str {
    ICON_PATH.as_str()
}

fn path_of(content: &str, name: &str) -> String {
    let hash = Sha256::digest(content.as_bytes());
    format!("/assets/{}/{name}", hex::encode(&hash[..HASH_BYTES]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Size of the style sheet, in bytes, which every first visit loads.
    const MAX_BYTES: usize = 12 * 1024;

    #[test]
    fn the_path_changes_with_the_contents() {
        assert_ne!(path_of("a{}", "a.css"), path_of("b{}", "a.css"));
        assert_eq!(path_of("a{}", "a.css"), path_of("a{}", "a.css"));
        assert_eq!(style_path(), path_of(style(), "pages.css"));
        assert_eq!(icon_path(), path_of(icon(), "icon.svg"));
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
