//! Settings of `up`: the flags for its private servers, and what its settings file may contain.

use std::net::SocketAddr;
use std::path::PathBuf;

use figment::Figment;
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Value};
use ledger_devstack::Stack;
use secrecy::ExposeSecret as _;

use super::tls::TlsFlags;
use super::{Config, Error, Flags, existing_file};

/// Settings that `up` sets itself; its settings file must not contain them.
const RESERVED: &[&str] = &[
    "access.administrators",
    "access.authentication",
    "http.behind_proxy",
    "http.listen",
    "http.tls_certificate",
    "http.tls_client_ca",
    "http.tls_key",
    "http.tls_require_client_certificate",
    "journal.certificates",
    "journal.client_certificate",
    "journal.client_key",
    "journal.credentials",
    "journal.replicas",
    "journal.url",
    "log.filter",
    "projections.read_url",
    "projections.url",
];

/// Settings of a service that uses private servers of its own.
#[derive(Debug)]
pub struct Local {
    /// Settings file.
    pub config: Option<PathBuf>,
    /// Address to listen on.
    pub listen: SocketAddr,
    /// True if a proxy encrypts the connections of clients.
    pub is_behind_proxy: bool,
    /// Tenants to serve, if not those of the file or of the defaults.
    pub tenants: Option<Vec<String>>,
    /// Hosts by which clients may reach the service, if not those of the file. Without any, these are loopback hosts, and
    /// addresses if the service does not listen on a loopback address.
    pub allowed_hosts: Option<Vec<String>>,
    /// Log filter, in the syntax of tracing.
    pub log_filter: String,
}

impl Local {
    /// Checks the settings file, before any server starts.
    ///
    /// # Errors
    /// The file does not exist or has an invalid setting, or one that `up` sets itself.
    pub fn check(&self) -> Result<(), Error> {
        let Some(config) = &self.config else { return Ok(()) };
        let file = self.file()?;
        let is_set = |name: &&&str| file.find_ref(name).is_some();
        let reserved: Vec<&str> = RESERVED.iter().filter(is_set).copied().collect();
        if !reserved.is_empty() {
            return Err(Error::ReservedForUp(config.clone(), reserved.join(", ")));
        }
        let flags = Flags { config: Some(config.clone()), tenants: self.tenants.clone(), ..Flags::default() };
        Config::read(&flags).map(drop)
    }

    /// Returns the flags of a service that uses the servers of `stack`, and that an administrator may change.
    ///
    /// # Errors
    /// The settings file does not exist, or is not TOML.
    pub fn flags(&self, administrator: Dict, stack: &Stack) -> Result<Flags, Error> {
        let in_file = self.file()?.find_ref("http.allowed_hosts").is_some();
        let hosts = self.allowed_hosts.clone();
        Ok(Flags {
            config: self.config.clone(),
            administrator: Some(administrator),
            listen: Some(self.listen),
            tenants: self.tenants.clone(),
            http_allowed_hosts: hosts.or_else(|| (!in_file).then(|| local_hosts(self.listen))),
            http_tls: TlsFlags::behind_proxy(self.is_behind_proxy),
            log_filter: Some(self.log_filter.clone()),
            journal_url: Some(stack.nats.url().expose_secret().to_owned()),
            projections_url: Some(stack.postgres.url().expose_secret().to_owned()),
            ..Flags::default()
        })
    }

    /// Returns the contents of the settings file; an empty table without a file.
    fn file(&self) -> Result<Value, Error> {
        let Some(config) = &self.config else { return Ok(Dict::new().into()) };
        let file = Figment::from(Toml::file_exact(existing_file(config)?));
        file.extract::<Dict>().map(Value::from).map_err(|error| Error::Setting(Box::new(error)))
    }
}

/// Returns the hosts by which clients may reach a service that listens on an address, without a name of its own.
fn local_hosts(listen: SocketAddr) -> Vec<String> {
    let hosts: &[&str] = if listen.ip().is_loopback() { &["loopback"] } else { &["loopback", "addresses"] };
    hosts.iter().map(|host| (*host).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the settings file with this text.
    fn check(text: &str) -> Result<(), String> {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), text).expect("written");
        let local = Local {
            config: Some(file.path().to_owned()),
            listen: "127.0.0.1:0".parse().expect("an address"),
            is_behind_proxy: false,
            tenants: None,
            allowed_hosts: None,
            log_filter: "warn".to_owned(),
        };
        let path = file.path().display().to_string();
        local.check().map_err(|error| error.to_string().replace(&path, "ledger.toml"))
    }

    #[test]
    fn without_a_list_a_local_service_has_loopback_hosts_and_addresses_if_others_may_connect() {
        let hosts = |listen: &str| local_hosts(listen.parse().expect("an address"));

        assert_eq!(hosts("127.0.0.1:0"), ["loopback"]);
        assert_eq!(hosts("0.0.0.0:80"), ["loopback", "addresses"]);
    }

    #[test]
    fn a_settings_file_of_up_sets_nothing_that_up_sets_itself() {
        assert_eq!(check("[http]\nmax_events = 10\nallowed_hosts = [\"a.example\"]\n"), Ok(()));
        assert_eq!(
            check("[http]\nlisten = \"127.0.0.1:1\"\n[journal]\nurl = \"nats://production\"\n"),
            Err(
                "settings file ledger.toml sets http.listen, journal.url, which `up` sets itself; remove them, or use \
                 `release-ledger serve`"
                    .to_owned()
            )
        );
    }

    #[test]
    fn every_reserved_setting_is_in_the_documented_defaults() {
        for name in RESERVED {
            let (_, setting) = name.split_once('.').expect("a section");
            let (value, list) = (format!("{setting} ="), format!("[[{name}]]"));
            let states = |line: &str| line.starts_with(&value) || line == list;
            assert!(
                super::super::DEFAULTS.lines().any(|line| states(line.trim_start_matches("# "))),
                "{name}"
            );
        }
    }

    #[test]
    fn an_error_in_the_file_is_found_before_a_server_starts() {
        let error = check("[http]\nmax_event = 10\n").expect_err("a misspelt setting");
        assert!(error.contains("max_event"), "{error}");
        let error = check("[http\n").expect_err("no TOML");
        assert!(error.contains("ledger.toml"), "{error}");
    }
}
