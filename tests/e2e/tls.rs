//! TLS of every connection: with clients, with NATS and with Postgres. Each test makes its own certificates.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ledger_devstack::{Nats, nats};
use ledger_tests::{Command, Servers, Service, deploy, free_port};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::PROGRAM;

/// Limit that only a failing test reaches.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// An authority, and a folder with the certificates that it issues.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    pub(crate) fn new(parent: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = parent.join(name);
        fs::create_dir(&folder).expect("created");
        fs::write(folder.join("ca.pem"), issuer.pem()).expect("written");
        Self { issuer, folder }
    }

    /// Writes a certificate for 127.0.0.1 and its key; returns the files.
    pub(crate) fn issue(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (file, key_file) = (self.file(&format!("{name}.crt")), self.file(&format!("{name}.key")));
        fs::write(&file, certificate.pem()).expect("written");
        fs::write(&key_file, key.serialize_pem()).expect("written");
        (file, key_file)
    }

    pub(crate) fn ca(&self) -> String {
        self.file("ca.pem")
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("UTF-8").to_owned()
    }
}

#[tokio::test]
async fn the_journal_is_reached_over_tls_with_a_client_certificate() {
    let servers = Servers::start().await;
    let authority = Authority::new(servers.folder(), "authority");
    let other = Authority::new(servers.folder(), "other");
    let (certificate, key) = authority.issue("server");
    let mut options = nats::Options::found_in(std::env::var_os("PATH").unwrap_or_default());
    options.extra_config = format!(
        "tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", ca_file: \"{}\", verify: true }}",
        authority.ca()
    );
    let nats = Nats::start(&servers.folder().join("nats-tls"), &options).await.expect("nats-server starts");
    let url = format!("--journal-url={}", nats.url().expose_secret());
    let flags = |ca: &Authority, clients: &Authority| {
        let (certificate, key) = clients.issue("ledger");
        [
            url.clone(),
            format!("--journal-certificates={}", ca.ca()),
            format!("--journal-client-certificate={certificate}"),
            format!("--journal-client-key={key}"),
        ]
    };

    let good = flags(&authority, &authority);
    let service = Service::start(PROGRAM, &servers, &good.each_ref().map(String::as_str)).await;
    service.client().record_and_wait(&deploy("a", "2026-08-01T10:00:00Z", "production", "web", "v1")).await;

    for wrong in [flags(&other, &authority), flags(&authority, &other)] {
        let error = serve_with(&wrong).await;
        assert!(error.contains("no NATS server answers"), "{error}");
    }
    // A server without TLS gets no password.
    let mut plain = good;
    plain[0] = format!("--journal-url={}", servers.nats_url());
    assert!(serve_with(&plain).await.contains("no NATS server answers"));
}

/// Runs a service that must not start. Returns what it printed.
async fn serve_with(flags: &[String]) -> String {
    let own = ["serve", "--listen=127.0.0.1:0", "--access-authentication=off"];
    let all: Vec<_> = own.into_iter().chain(flags.iter().map(String::as_str)).collect();
    let outcome = Command::start(PROGRAM, &all).outcome().await;
    assert_ne!(outcome.code, Some(0), "{}", outcome.stderr);
    outcome.stderr
}

/// Makes Postgres accept TLS, with a certificate of an authority.
async fn encrypt_postgres(servers: &Servers, authority: &Authority) {
    let data = servers.folder().join("postgres/pgdata");
    let owner = fs::metadata(&data).expect("a folder");
    let (certificate, key) = authority.issue("postgres");
    let mut settings = vec![("ssl", "on".to_owned())];
    // The account of Postgres may have no access to the folder of the test.
    for (setting, file) in
        [("ssl_cert_file", certificate), ("ssl_key_file", key), ("ssl_ca_file", authority.ca())]
    {
        let own = data.join(setting);
        fs::copy(file, &own).expect("copied");
        fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).expect("private");
        chown(&own, Some(owner.uid()), Some(owner.gid())).expect("owned by Postgres");
        settings.push((setting, own.to_str().expect("UTF-8").to_owned()));
    }
    let mut connection = PgConnection::connect(&servers.postgres_url()).await.expect("connected");
    for (setting, value) in settings {
        let alter = AssertSqlSafe(format!("ALTER SYSTEM SET {setting} = '{value}'"));
        sqlx::query(alter).execute(&mut connection).await.expect("set");
    }
    sqlx::query("SELECT pg_reload_conf()").execute(&mut connection).await.expect("reloaded");
}

#[tokio::test]
async fn postgres_is_reached_over_tls_with_a_client_certificate() {
    let servers = Servers::start().await;
    let authority = Authority::new(servers.folder(), "authority");
    let other = Authority::new(servers.folder(), "other");
    encrypt_postgres(&servers, &authority).await;
    let (certificate, key) = authority.issue("ledger");
    let url = |ca: &Authority| {
        let tls = format!("sslmode=verify-full&sslrootcert={}&sslcert={certificate}&sslkey={key}", ca.ca());
        servers.postgres_url().replace("sslmode=disable", &tls)
    };
    let connected = async {
        while PgConnection::connect(&url(&authority)).await.is_err() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(WAIT_LIMIT, connected).await.expect("Postgres has TLS");

    let flag = format!("--projections-url={}", url(&authority));
    let service = Service::start(PROGRAM, &servers, &[&flag]).await;
    service.client().record_and_wait(&deploy("a", "2026-08-01T10:00:00Z", "production", "web", "v1")).await;

    let mut connection = PgConnection::connect(&servers.postgres_url()).await.expect("connected");
    let of_the_service = "SELECT count(*) FILTER (WHERE ssl AND client_dn LIKE '%ledger%'), \
                          count(*) FILTER (WHERE NOT ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                          WHERE client_addr IS NOT NULL AND pid <> pg_backend_pid()";
    let counted: (i64, i64) =
        sqlx::query_as(of_the_service).fetch_one(&mut connection).await.expect("counted");
    assert!(counted.0 > 0, "{counted:?}");
    assert_eq!(counted.1, 0, "{counted:?}");
    assert!(PgConnection::connect(&url(&other)).await.is_err());
}

#[tokio::test]
async fn a_service_with_tls_renews_its_certificate_on_sighup() {
    let servers = Servers::start().await;
    let before = Authority::new(servers.folder(), "before");
    let after = Authority::new(servers.folder(), "after");
    let (certificate, key) = before.issue("service");
    let port = free_port();
    let child = tokio::process::Command::new(PROGRAM)
        .args(["serve", "--access-authentication=off", "--log-filter=warn"])
        .arg(format!("--listen=127.0.0.1:{port}"))
        .arg(format!("--journal-url={}", servers.nats_url()))
        .arg(format!("--projections-url={}", servers.postgres_url()))
        .arg(format!("--http-tls-certificate={certificate}"))
        .arg(format!("--http-tls-key={key}"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let url = format!("https://127.0.0.1:{port}/livez");
    wait_until_trusted(&before, &url).await;

    let (new_certificate, new_key) = after.issue("service");
    fs::copy(new_key, &key).expect("copied");
    fs::copy(new_certificate, &certificate).expect("copied");
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).expect("a process");
    kill_process(pid, Signal::HUP).expect("signalled");

    wait_until_trusted(&after, &url).await;
    assert!(client(&before).get(&url).send().await.is_err());
}

/// Returns a client that trusts one authority only.
fn client(authority: &Authority) -> reqwest::Client {
    let ca = reqwest::Certificate::from_pem(authority.issuer.pem().as_bytes()).expect("PEM");
    reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build().expect("a client")
}

/// Waits until the service answers with a certificate of the authority.
async fn wait_until_trusted(authority: &Authority, url: &str) {
    let answered = async {
        loop {
            match client(authority).get(url).send().await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    };
    let answer = tokio::time::timeout(WAIT_LIMIT, answered).await.expect("the service answers");
    assert!(answer.status().is_success());
    assert!(answer.headers().contains_key("strict-transport-security"));
}
