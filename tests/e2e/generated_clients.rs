//! Clients that generators make from the published OpenAPI document: a program of each language compiles with the
//! generated types, reports a deploy, and reads it back.

use std::fs;
use std::path::{Path, PathBuf};

use ledger_tests::{Command, Guarded, Outcome};
use serde_json::{Value, json};
use tempfile::TempDir;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/http/openapi.json");
/// Folder of the programs, and of the generators' settings.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/generated_clients");

#[tokio::test]
async fn a_generated_python_client_posts_and_reads() {
    let generator = installed("openapi-python-client");
    let python = text(&generator.with_file_name("python3"));
    let folder = folder();
    let package = text(&folder.path().join("ledger_client"));
    let settings = format!("{PROGRAMS}/python.yml");
    let program = format!("{PROGRAMS}/deploy.py");

    let generate = [
        "generate",
        "--path",
        DOCUMENT,
        "--output-path",
        &package,
        "--meta",
        "none",
        "--config",
        &settings,
        "--overwrite",
    ];
    succeed(&text(&generator), &generate, &[]).await;
    // A type that the generator lost would be missing only where it is used.
    let root = text(folder.path());
    let packages = [("PYTHONPATH", &*root)];
    succeed(&python, &["-c", IMPORT_ALL], &packages).await;
    let (service, token) = service().await;
    let url = format!("{}/v1", service.service.url());
    let printed = succeed(&python, &[&program, &url, &token], &packages).await;

    assert_eq!(parse(&printed), expected());
}

#[tokio::test]
async fn a_generated_typescript_client_posts_and_reads() {
    let generator = installed("openapi-typescript");
    let folder = folder();
    let types = text(&folder.path().join("ledger.d.ts"));
    for file in ["deploy.ts", "package.json", "tsconfig.json"] {
        fs::copy(Path::new(PROGRAMS).join(file), folder.path().join(file)).expect("copied");
    }
    // The programs of npm are in node_modules/.bin.
    let modules = generator.ancestors().nth(2).expect("a folder above the programs");
    std::os::unix::fs::symlink(modules, folder.path().join("node_modules")).expect("a link");

    succeed(&text(&generator), &[DOCUMENT, "--output", &types], &[]).await;
    // Checks the types, those of the generated file included.
    succeed(&text(&generator.with_file_name("tsc")), &["--project", &text(folder.path())], &[]).await;
    let (service, token) = service().await;
    let program = text(&folder.path().join("out/deploy.js"));
    let url = format!("{}/v1/tenants/default", service.service.url());
    let printed = succeed("node", &[&program, &url, &token], &[]).await;

    assert_eq!(parse(&printed), expected());
}

/// progenitor reads OpenAPI 3.0. To compile it and its client takes minutes, so the guide says how it was tried.
#[tokio::test]
async fn the_document_is_converted_to_openapi_3_0() {
    let folder = folder();
    let output = folder.path().join("openapi-3.0.json");

    let script = format!("{PROGRAMS}/openapi_3_0.py");
    succeed("python3", &[&script, DOCUMENT, &text(&output)], &[]).await;

    let document = parse(&fs::read_to_string(output).expect("a document"));
    assert_eq!(document["openapi"], "3.0.3");
    let schemas = document["components"]["schemas"].as_object().expect("components");
    assert!(schemas.len() > 100, "{}", schemas.len());
    let newer: Vec<&String> =
        schemas.iter().filter(|(_, schema)| needs_version_3_1(schema)).map(|(name, _)| name).collect();
    assert_eq!(newer, Vec::<&String>::new());
    for (path, item) in document["paths"].as_object().expect("paths") {
        for operation in ["get", "post"].iter().filter_map(|method| item.get(method)) {
            let request = operation.pointer("/requestBody/content").and_then(Value::as_object);
            assert!(request.is_none_or(|content| content.len() == 1), "{path}");
        }
    }
}

/// Returns true for a schema with a list of types or a constant.
fn needs_version_3_1(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            members.get("const").is_some_and(Value::is_string)
                || members.get("type").is_some_and(Value::is_array)
                || members.values().any(needs_version_3_1)
        }
        Value::Array(parts) => parts.iter().any(needs_version_3_1),
        _ => false,
    }
}

/// Imports all modules of the generated package.
const IMPORT_ALL: &str = "
import importlib, pkgutil, ledger_client
for module in pkgutil.walk_packages(ledger_client.__path__, 'ledger_client.'):
    importlib.import_module(module.name)
";

/// Returns what each program prints.
fn expected() -> Value {
    json!({
        "recorded": [1, 2],
        "resent": ["duplicate", "duplicate"],
        "live": "v948",
        "since": 2,
        "history": ["io.releaseledger.deploy.started.v1", "io.releaseledger.deploy.succeeded.v1"],
        "correlation": "run-4711",
        "problem": "urn:release-ledger:problem:unknown-environment",
        "status": 404,
    })
}

/// Starts a service with an empty ledger, and returns it with a token that may send and read events.
async fn service() -> (Guarded, String) {
    let guarded = Guarded::start(&[], "").await;
    let token = guarded.create_token("ci", "workload").await;
    guarded.grant("ci", &token, &["*"], &["emit", "read"]).await;
    let token = token.expose().to_owned();
    (guarded, token)
}

/// Finds a program of the generators.
fn installed(program: &str) -> PathBuf {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&search).map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{program} is not on PATH: ops/test installs it into target/generators"))
}

/// Runs a program, asserts success, and returns what it printed.
async fn succeed(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let Outcome { code, stdout, stderr } = Command::start_with(program, arguments, variables).outcome().await;
    assert_eq!(code, Some(0), "{program} {arguments:?}\n{stdout}\n{stderr}");
    stdout
}

fn parse(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("ledger-test-").tempdir().expect("a folder")
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}
