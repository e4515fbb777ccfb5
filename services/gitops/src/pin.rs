//! The release that a file states for a lane.

use ledger_domain::{Artifact, ImageReference, ShortText};

use crate::document::Node;

/// The form in which the text of a field states a release.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ValueForm {
    /// The text is the version.
    #[default]
    Version,
    /// The text is an image: `registry.example/web:v1`, with its digest or not. The tag is the version.
    Image,
}

/// The release that a file states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The version.
    pub version: ShortText,
    /// The artifact, if the file states a digest.
    pub artifact: Option<Artifact>,
    /// Another part of the release, such as the version of a chart. Another detail is another release.
    pub detail: Option<ShortText>,
}

/// A text of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub text: String,
    /// A reason for which the deployed version can be spelled in another way.
    pub warning: Option<String>,
}

/// Returns the text of a scalar.
///
/// # Errors
/// The node states nothing that can be a version.
pub(crate) fn text_of(node: &Node) -> Result<Text, String> {
    let Node::Scalar { text, is_bare } = node else {
        return Err(format!("the value is {}, not a text", node.phrase()));
    };
    let text = text.trim();
    if text.is_empty() {
        return Err("the value is empty, so the release is unknown".to_owned());
    }
    if ["{{", "${", "$("].iter().any(|start| text.contains(start)) {
        return Err(format!("the value {text:?} is a template, so the release is unknown"));
    }
    if text.starts_with("ENC[") {
        return Err("the value is encrypted".to_owned());
    }
    let warning = (*is_bare && !is_small_integer(text)).then(|| {
        format!("the value {text} is not quoted, so that tools may read it as a number and deploy another spelling")
    });
    Ok(Text { text: text.to_owned(), warning })
}

/// Returns true for numbers that every tool writes as they stand.
fn is_small_integer(text: &str) -> bool {
    text.len() <= 6
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
}

/// Returns the version of a text.
///
/// # Errors
/// The text is not a version that the ledger records.
pub(crate) fn version(text: &str) -> Result<ShortText, String> {
    ShortText::parse(text).map_err(|error| format!("the version {error}"))
}

/// Returns the release of a text in a form.
///
/// # Errors
/// The text does not state a release.
pub(crate) fn pin(text: &str, form: ValueForm) -> Result<Pin, String> {
    match form {
        ValueForm::Version => Ok(Pin { version: version(text)?, artifact: None, detail: None }),
        ValueForm::Image => {
            let ImageReference { repository, tag, digest } = ImageReference::split(text);
            image(Some(repository), tag, digest)
        }
    }
}

/// Returns the release of an image: its tag, or its digest if it has no tag.
///
/// # Errors
/// The image has neither, or one that is not valid.
pub(crate) fn image(
    repository: Option<&str>,
    tag: Option<&str>,
    digest: Option<&str>,
) -> Result<Pin, String> {
    let artifact = digest.map(|digest| {
        let text = match repository.filter(|repository| !repository.is_empty()) {
            Some(repository) => format!("{repository}@{digest}"),
            None => digest.to_owned(),
        };
        Artifact::parse(&text).map_err(|error| format!("the image {error}"))
    });
    let artifact = artifact.transpose()?;
    let version_text = tag.or(digest).ok_or("the image states neither a tag nor a digest")?;
    Ok(Pin { version: version(version_text)?, artifact, detail: None })
}

/// Returns a warning for a revision or a range of versions that can mean another release tomorrow.
pub(crate) fn moving(revision: &str) -> Option<String> {
    let is_branch = matches!(revision, "HEAD" | "main" | "master") || revision.starts_with("refs/heads/");
    let is_range = revision.contains(['*', '^', '~', '>', '<', ' ', '|'])
        || revision.split('.').any(|part| matches!(part, "x" | "X"));
    (is_branch || is_range)
        .then(|| format!("{revision:?} moves: the repository does not state which release ran"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parts(text: &str) -> Result<(String, Option<String>), String> {
        let pin = pin(&text.replace("DIGEST", DIGEST), ValueForm::Image)?;
        let artifact = pin.artifact.map(|artifact| artifact.as_str().replace(DIGEST, "DIGEST"));
        Ok((pin.version.as_str().replace(DIGEST, "DIGEST"), artifact))
    }

    #[test]
    fn an_image_states_its_tag_as_the_version_and_its_digest_as_the_artifact() {
        for (text, version, artifact) in [
            ("registry.example:5000/web:v1", "v1", None),
            ("web:v1@DIGEST", "v1", Some("web@DIGEST")),
            ("registry.example:5000/a/web@DIGEST", "DIGEST", Some("registry.example:5000/a/web@DIGEST")),
        ] {
            assert_eq!(parts(text), Ok((version.to_owned(), artifact.map(str::to_owned))), "{text}");
        }
        for text in ["web", "registry.example:5000/web", "web@sha256:12", "web:v1@latest", "web:"] {
            assert!(parts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_without_a_release_is_an_error() {
        let scalar = |text: &str| Node::Scalar { text: text.to_owned(), is_bare: false };
        for text in ["", "  ", "{{ .Values.tag }}", "${VERSION}", "ENC[AES256_GCM,data:x]"] {
            assert!(text_of(&scalar(text)).is_err(), "{text}");
        }
        assert!(text_of(&Node::Null).is_err());
        assert!(text_of(&Node::Mapping(Vec::new())).is_err());
    }

    #[test]
    fn a_number_that_tools_spell_in_another_way_has_a_warning() {
        let warns = |text: &str, is_bare| {
            text_of(&Node::Scalar { text: text.to_owned(), is_bare }).is_ok_and(|text| text.warning.is_some())
        };
        for text in ["1.10", "1e3", "007", "20260801120000", "true"] {
            assert!(warns(text, true), "{text}");
            assert!(!warns(text, false), "{text}");
        }
        assert!(!warns("4711", true));
    }

    #[test]
    fn branches_and_ranges_move() {
        for revision in ["HEAD", "main", "1.x", "1.*", "^1.2", ">=1 <2", "~1.2", "refs/heads/a"] {
            assert!(moving(revision).is_some(), "{revision}");
        }
        for revision in ["v1.2.3", "1.2.3+build", "release-2026.08", "9c41d07", "refs/tags/v1"] {
            assert!(moving(revision).is_none(), "{revision}");
        }
    }
}
