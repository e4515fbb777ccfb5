//! Examples of secrets, for the tests of every crate. None of them is valid.

/// Returns texts with a secret of each kind, each with the name of its kind. They are put together here, so that
/// scanners of this repository do not take them for secrets.
#[must_use]
pub fn examples() -> Vec<(&'static str, String)> {
    let mixed = |length: usize| "aB3dE6gH9j".chars().cycle().take(length).collect::<String>();
    let hex = |length: usize| "0123456789abcdef".chars().cycle().take(length).collect::<String>();
    let token = |prefix: &str, length: usize| format!("{prefix}{}", mixed(length));
    // {"alg":"HS256","typ":"JWT"}
    let header = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
    vec![
        ("a private key", format!("-----BEGIN {}-----\nMIIE", "PRIVATE KEY")),
        ("a private key", format!("-----BEGIN {}-----\\nMIIE", "RSA PRIVATE KEY")),
        ("a private key", format!("key: -----BEGIN {}-----", "OPENSSH PRIVATE KEY")),
        ("a private key", format!("-----BEGIN PGP {}-----", "PRIVATE KEY BLOCK")),
        ("an AWS access key", format!("AKIA{}", "IOSFODNN7EXAMPLE")),
        ("an AWS access key", format!("id=ASIA{},", "IOSFODNN7EXAMPLE")),
        ("an Azure storage account key", format!("AccountName=a;AccountKey={}==;", mixed(86))),
        (
            "an Azure shared access signature",
            format!("https://a.example/b?sv=1&sig={}%2B{}%3D", mixed(20), mixed(22)),
        ),
        ("an Azure shared access signature", format!("sig={}=", mixed(43))),
        ("a DigitalOcean token", format!("dop_v1_{}", hex(64))),
        ("a Docker Hub token", token("dckr_pat_", 27)),
        ("a GitHub token", token("ghp_", 36)),
        ("a GitHub token", token("gho_", 36)),
        ("a GitHub token", token("ghu_", 36)),
        ("a GitHub token", token("x ghs_", 36)),
        ("a GitHub token", token("ghr_", 76)),
        ("a GitHub token", format!("github_pat_{}_{}", mixed(22), mixed(59))),
        ("a GitLab token", token("glpat-", 20)),
        ("a GitLab token", token("gldt-", 20)),
        ("a GitLab token", token("glrt-", 20)),
        ("a Google API key", token("AIza", 35)),
        (
            "the key file of a Google service account",
            r#"{"type":"service_account","private_key_id":"1"}"#.to_owned(),
        ),
        ("the key file of a Google service account", r#"{\"private_key_id\":\"1\"}"#.to_owned()),
        ("a JSON Web Token", format!("Bearer {header}.eyJzdWIiOiIxIn0.{}", mixed(43))),
        ("a JSON Web Token", format!("{header}.eyJzdWIiOiIxIn0.")),
        ("an API token of a release ledger", format!("rl_{}_{}", hex(16), hex(72))),
        ("an npm token", token("npm_", 36)),
        ("a password in a URL", "postgres://ledger:hunter2@db.example:5432/ledger".to_owned()),
        ("a password in a URL", "see redis://:hunter2@cache".to_owned()),
        ("a password in a URL", "https://a:b:c@d@host/path".to_owned()),
        ("a PyPI token", token("pypi-AgEIcHlwaS5vcmc", 60)),
        ("a SendGrid API key", format!("SG.{}.{}", mixed(22), mixed(43))),
        ("a Slack token", format!("xoxb-17653672481-19874698323-{}", mixed(24))),
        ("a Slack token", format!("xoxa-2-{}", mixed(24))),
        ("a Stripe key", token("sk_live_", 24)),
        ("a Stripe key", token("rk_live_", 24)),
        ("a Telegram bot token", token("1234567890:AA", 33)),
        ("a Telegram bot token", format!("https://api.telegram.org/bot123456789:AA{}/getMe", mixed(33))),
        ("a Twilio API key", format!("SK{}", hex(32))),
        ("a HashiCorp Vault token", token("hvs.", 24)),
        ("a HashiCorp Vault token", token("hvb.", 140)),
    ]
}
