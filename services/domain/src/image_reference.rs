//! The parts of a reference to a container image. Whether they are valid is decided where they are used.

/// The parts of a text such as `registry.example:5000/search-api:v1@sha256:…`, as it states them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageReference<'t> {
    /// The repository, with its registry.
    pub repository: &'t str,
    /// The tag.
    pub tag: Option<&'t str>,
    /// The digest: what follows the last `@`.
    pub digest: Option<&'t str>,
}

impl<'t> ImageReference<'t> {
    /// Splits a reference into its parts, without a check of any.
    #[must_use]
    pub fn split(text: &'t str) -> Self {
        let (path, digest) = match text.rsplit_once('@') {
            Some((path, digest)) => (path, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash precedes a port, not a tag.
        let name = path.rfind('/').map_or(0, |slash| slash + 1);
        let end = path[name..].find(':').map_or(path.len(), |colon| name + colon);
        Self { repository: &path[..end], tag: path.get(end + 1..), digest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_split_into_repository_tag_and_digest() {
        for (text, repository, tag, digest) in [
            ("registry.example:5000/a/b:v1", "registry.example:5000/a/b", Some("v1"), None),
            ("registry.example:5000/a/b", "registry.example:5000/a/b", None, None),
            ("a/b:v1@sha256:00", "a/b", Some("v1"), Some("sha256:00")),
            ("a/b@sha256:00", "a/b", None, Some("sha256:00")),
            ("b", "b", None, None),
            ("b:", "b", Some(""), None),
            ("", "", None, None),
        ] {
            assert_eq!(ImageReference::split(text), ImageReference { repository, tag, digest }, "{text}");
        }
    }
}
