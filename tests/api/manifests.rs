//! Manifests: the live releases in infrastructure-as-code formats, parsed by real parsers of each format.

use std::collections::BTreeMap;
use std::process::Stdio;

use ledger_tests::{InProcess, Story, text};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[tokio::test]
async fn a_manifest_is_complete_in_each_format_and_never_changes() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let client = service.client();
    let story = Story::on(&client);
    let release = json!({
        "version": "no", "artifact": format!("registry.example/web@{DIGEST}"), "config": DIGEST,
        "infrastructure": "git:3f2a", "commit": "1e10",
    });
    story.record("deploy.succeeded", 1, json!({"service": "web", "release": release})).await;
    let point = story.deploy("api", "1.10", 2).await;
    let state = story.get("state").await;
    let get = async |format: &str, at: &str| {
        let path = format!("/v1/environments/production/manifest?format={format}&at={at}");
        let response = client.get(&path).await;
        assert_eq!(response.status, 200, "{}", response.text);
        assert_eq!(response.header("composition-digest"), text(&state["digest"]));
        response.text
    };
    let at = point.to_string();

    let json: Value = serde_json::from_str(&get("json", &at).await).expect("JSON");
    let yaml: Value = serde_saphyr::from_str(&get("yaml", &at).await).expect("YAML");
    let helm: Value = serde_saphyr::from_str(&get("helm-values", &at).await).expect("YAML");
    let kustomize: Vec<Value> =
        serde_saphyr::from_multiple(&get("kustomize", &at).await).expect("YAML documents");
    let variables = variables(&get("env", &at).await).await;
    let before = get("json", &at).await;
    story.deploy("api", "2.0", 3).await;
    let path = format!("/v1/environments/production/manifest?at={at}");
    let after = client.get(&path).await.text;
    let unknown = client.get("/v1/environments/production/manifest?format=toml").await;

    assert_eq!(json, yaml);
    assert_eq!(json["digest"], state["digest"]);
    assert_eq!(json["lanes"][1]["release"], release);
    assert_eq!(helm["services"]["web"]["targets"]["default"]["version"], "no");
    assert_eq!(helm["services"]["web"]["targets"]["default"]["image"]["digest"], DIGEST);
    assert_eq!(helm["services"]["api"]["targets"]["default"]["version"], "1.10");
    assert_eq!(helm["services"]["web"]["targets"]["default"]["infrastructureRevision"], "git:3f2a");
    let image = |name: &str| {
        let images = kustomize[0]["images"].as_array().expect("images").iter();
        images.clone().find(|image| image["name"] == name).cloned().unwrap_or_default()
    };
    assert_eq!((&image("web")["digest"], &image("api")["newTag"]), (&DIGEST.into(), &"1.10".into()));
    assert_eq!(variables["WEB_VERSION"], "no");
    assert_eq!((&*variables["WEB_CONFIG"], &*variables["API_VERSION"]), (DIGEST, "1.10"));
    assert_eq!(before, after, "a point in the past does not change");
    assert_eq!((unknown.status, unknown.problem()), (400, "invalid-parameter"));
}

/// Returns the variables that a shell reads from a file.
async fn variables(file: &str) -> BTreeMap<String, String> {
    let mut shell = Command::new("sh")
        .args(["-c", "set -a; . /dev/stdin; env"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut stdin = shell.stdin.take().expect("its input");
    stdin.write_all(file.as_bytes()).await.expect("written");
    drop(stdin);
    let output = shell.wait_with_output().await.expect("its output");
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let pairs = lines.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
