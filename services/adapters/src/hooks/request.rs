//! A delivery of a webhook: its headers and its body.

/// A delivery as received: the headers by name, in any case, and the bytes of the body.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    headers: Vec<(&'a str, &'a str)>,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Creates a delivery from its headers and its body.
    #[must_use]
    pub fn new(headers: impl IntoIterator<Item = (&'a str, &'a str)>, body: &'a [u8]) -> Self {
        Self { headers: headers.into_iter().collect(), body }
    }

    /// Returns the trimmed value of a header. A header that is repeated with different values has none: it is not
    /// certain which of them the sender meant.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut values = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let (_, value) = values.next()?;
        values.all(|(_, other)| other == value).then(|| value.trim())
    }

    /// Returns the bytes of the body.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_found_in_any_case_and_must_not_contradict_itself() {
        let request = Request::new([("X-GitHub-Event", " ping "), ("a", "1"), ("A", "2")], b"");
        assert_eq!(request.header("x-github-event"), Some("ping"));
        assert_eq!(request.header("a"), None);
        assert_eq!(request.header("b"), None);
    }
}
