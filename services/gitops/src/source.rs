//! The source of events: a name of a repository that does not depend on how it was cloned.

/// Returns the CloudEvents source for the URL of a remote repository: `https://HOST[:PORT]/PATH`, without credentials
/// and `.git`, and the same for a clone over HTTPS, SSH or the git protocol. Returns `None` for a local path, which
/// does not name the same repository elsewhere.
pub(crate) fn source_of_url(url: &str) -> Option<String> {
    let (authority, path) = match url.split_once("://") {
        Some((scheme, rest)) => {
            let default_port = match &*scheme.to_ascii_lowercase() {
                "https" => ":443",
                "http" => ":80",
                "ssh" | "git+ssh" | "ssh+git" => ":22",
                "git" => ":9418",
                _ => return None,
            };
            let (authority, path) = rest.split_once('/')?;
            (authority.strip_suffix(default_port).unwrap_or(authority), path)
        }
        // The form of scp: user@host:path. A slash before the colon makes it a local path.
        None => url.split_once(':').filter(|(host, _)| !host.contains('/') && host.len() > 1)?,
    };
    let host = authority.rsplit('@').next().unwrap_or(authority).to_ascii_lowercase();
    let path = path.split(['?', '#']).next().unwrap_or(path).trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']' | '_');
    if host.is_empty() || path.is_empty() || !host.chars().all(is_host) {
        return None;
    }
    let mut source = format!("https://{host}/");
    for (index, byte) in path.bytes().enumerate() {
        let is_escape = || {
            let digits = path.as_bytes().get(index + 1..index + 3);
            byte == b'%' && digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        let is_mark = matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~' | b'+' | b'@' | b':');
        if byte.is_ascii_alphanumeric() || is_mark || is_escape() {
            source.push(char::from(byte));
        } else {
            source.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_repository_have_the_same_source_and_no_credentials() {
        for url in [
            "https://git.example/team/deploy.git",
            "https://git.example/team/deploy/",
            "https://user:secret@GIT.example:443/team/deploy.git",
            "https://x-access-token:secret@git.example/team/deploy?token=secret",
            "git@git.example:team/deploy.git",
            "ssh://git@git.example:22/team/deploy.git",
            "git://git.example/team/deploy.git",
        ] {
            assert_eq!(source_of_url(url).as_deref(), Some("https://git.example/team/deploy"), "{url}");
        }
        assert_eq!(
            source_of_url("ssh://git@git.example:7999/a b/\u{e4}.git").as_deref(),
            Some("https://git.example:7999/a%20b/%C3%A4")
        );
    }

    #[test]
    fn a_local_path_is_no_source() {
        for url in
            ["/srv/git/deploy.git", "../deploy", "./a:b", "file:///srv/git", "C:\\git", "", "https://", "a:"]
        {
            assert_eq!(source_of_url(url), None, "{url}");
        }
    }
}
