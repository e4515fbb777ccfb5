//! Misspelt settings: an error names the one that was probably meant.

use figment::error::Kind;
use ledger_domain::nearest;

use super::{DEFAULTS, Error};

/// Describes an error in the settings: what, where, and for an unknown setting the one that was probably meant.
pub(super) fn describe(error: &figment::Error) -> String {
    let Kind::UnknownField(unknown, expected) = &error.kind else { return error.to_string() };
    let mut path = error.path.clone();
    if path.last().is_none_or(|last| last != unknown) {
        path.push(unknown.clone());
    }
    let name = path.join(".");
    let source = error.metadata.as_ref().map(|metadata| match &metadata.source {
        Some(source) => format!(" in {source}"),
        None => format!(" in {}", metadata.name),
    });
    let source = source.unwrap_or_default();
    path.pop();
    let sibling = |right: &str| path.iter().map(String::as_str).chain([right]).collect::<Vec<_>>().join(".");
    let meant = nearest(unknown, expected).map(sibling).or_else(|| elsewhere(unknown));
    match meant {
        Some(meant) => format!("unknown setting {name}{source}; did you mean {meant}?"),
        None => format!(
            "unknown setting {name}{source}; `release-ledger serve --print-defaults` lists all settings"
        ),
    }
}

/// Checks that no variable of the environment lacks an underscore. `names` are in lower case and without the prefix.
///
/// # Errors
/// Such a variable exists.
pub(super) fn check_variables(names: impl Iterator<Item = String>) -> Result<(), Error> {
    variable(names).map_or(Ok(()), |(variable, meant)| Err(Error::Variable(variable, meant)))
}

/// Finds a variable without the two underscores after its section, which sets nothing. Returns it, and the one that was
/// probably meant.
fn variable(names: impl Iterator<Item = String>) -> Option<(String, String)> {
    let settings = settings();
    names.filter(|name| !name.contains("__")).find_map(|name| {
        let setting = settings.iter().find(|(section, key)| {
            !section.is_empty()
                && name.strip_prefix(section).and_then(|rest| rest.strip_prefix('_')) == Some(*key)
        });
        setting.map(|(section, key)| (name.to_uppercase(), format!("{section}__{key}").to_uppercase()))
    })
}

/// Returns the section and the key of each setting of the defaults, with those that are commented out.
fn settings() -> Vec<(&'static str, &'static str)> {
    let mut section = "";
    let mut settings = Vec::new();
    for line in DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.strip_prefix("# ").unwrap_or(line).split_once(" = ")
            && is_key(key)
        {
            settings.push((section, key));
        }
    }
    settings
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Returns the setting of any section that has this key.
fn elsewhere(key: &str) -> Option<String> {
    let found = settings().into_iter().find(|(_, known)| *known == key);
    found.map(|(section, key)| if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") })
}

#[cfg(test)]
mod tests {
    use crate::config::{AuthenticationMode, Config, Flags};

    use super::*;

    fn error_of(settings: &str) -> String {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), settings).expect("written");
        let flags = Flags::of_file(Some(file.path().to_owned()));
        let flags = Flags { access_authentication: Some(AuthenticationMode::Off), ..flags };
        Config::read(&flags).expect_err("rejected").to_string()
    }

    #[test]
    fn a_misspelt_setting_is_named_with_the_right_one() {
        for (settings, unknown, meant) in [
            ("[journal]\nreplica = 3\n", "journal.replica", "journal.replicas"),
            ("[http]\nlisten_ = \"127.0.0.1:0\"\n", "http.listen_", "http.listen"),
            ("tenant = [\"a\"]\n", "tenant", "tenants"),
            ("[jurnal]\nreplicas = 3\n", "jurnal", "journal"),
            ("[http]\nreplicas = 3\n", "http.replicas", "journal.replicas"),
        ] {
            let error = error_of(settings);
            assert!(error.starts_with(&format!("unknown setting {unknown} in ")), "{error}");
            assert!(error.ends_with(&format!("; did you mean {meant}?")), "{error}");
        }
    }

    #[test]
    fn a_setting_like_no_other_is_named_with_the_list_of_all() {
        let error = error_of("[journal]\nxyzzy = 3\n");
        assert!(error.starts_with("unknown setting journal.xyzzy in "), "{error}");
        assert!(error.ends_with("--print-defaults` lists all settings"), "{error}");
    }

    #[test]
    fn a_variable_with_one_underscore_after_its_section_is_found() {
        let find = |names: &[&str]| variable(names.iter().map(|name| (*name).to_owned()));
        let meant = Some(("JOURNAL_REPLICAS".to_owned(), "JOURNAL__REPLICAS".to_owned()));
        assert_eq!(find(&["url", "journal_replicas"]), meant);
        let read_url = Some(("PROJECTIONS_READ_URL".to_owned(), "PROJECTIONS__READ_URL".to_owned()));
        assert_eq!(find(&["projections_read_url"]), read_url, "commented out in the defaults");
        // Those of the client, of Kubernetes, and right ones.
        assert_eq!(
            find(&["url", "service_host", "port_80_tcp", "tenants", "journal__replicas", "ca_file"]),
            None
        );
    }
}
