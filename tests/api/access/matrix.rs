//! Every route of the OpenAPI document, for principals with different grants, in several tenants: only what is granted
//! passes. A route that the table does not have fails.

use std::collections::BTreeMap;

use ledger_tests::{Client, Guarded};
use reqwest::Method;
use serde_json::{Value, json};

/// What a route needs, written down independently of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing: the answer shows nothing of any ledger.
    Public,
    /// Credentials only.
    Credentials,
    /// The secret of a webhook, and no credentials of the ledger.
    Secret,
    /// Some grant for the tenant. What the request contains decides the rest.
    Tenant,
    /// This verb in the environment of the path, which is `staging` or `production`.
    InEnvironment(&'static str),
    /// This verb in all environments.
    Everywhere(&'static str),
    /// `admin` for the tenant `_admin`.
    Administration,
}

/// Returns what each operation needs.
fn table() -> BTreeMap<&'static str, Needs> {
    use Needs::{Administration, Credentials, Everywhere, InEnvironment, Public, Secret, Tenant};
    BTreeMap::from([
        ("listSchemas", Public),
        ("getSchema", Public),
        ("whoAmI", Credentials),
        ("listTokens", Administration),
        ("listGrants", Administration),
        ("listTenants", Administration),
        ("listReads", Administration),
        ("explainAccess", Administration),
        ("postEvents", Tenant),
        ("listEvents", Everywhere("read")),
        ("getEvent", Tenant),
        ("getOriginal", Tenant),
        ("deliverWebhook", Secret),
        ("listQuarantine", Everywhere("hooks")),
        ("getQuarantined", Everywhere("hooks")),
        ("retryQuarantined", Everywhere("hooks")),
        ("discardQuarantined", Everywhere("hooks")),
        ("listSubscriptions", Everywhere("subscribe")),
        ("getSubscription", Everywhere("subscribe")),
        ("listDeliveries", Everywhere("subscribe")),
        ("getPosition", Tenant),
        ("listClockSkews", Everywhere("read")),
        ("listEnvironments", Tenant),
        ("getOverview", Tenant),
        ("findRelease", Tenant),
        ("getDeployFrequency", Tenant),
        ("listFreezes", Tenant),
        ("getState", InEnvironment("read")),
        ("getDiff", InEnvironment("read")),
        ("listPoints", InEnvironment("read")),
        ("getPoint", InEnvironment("read")),
        ("getPolicy", InEnvironment("read")),
        ("askGate", InEnvironment("gate")),
        ("backtestPolicy", Everywhere("read")),
        ("getRollbackHorizon", InEnvironment("read")),
        ("requestRollback", InEnvironment("rollback")),
        ("listRollbacks", Everywhere("read")),
        ("getRollback", Tenant),
        ("followEvents", Everywhere("read")),
        ("followRollbacks", Everywhere("read")),
        ("getManifest", InEnvironment("read")),
        ("getDrift", InEnvironment("read")),
        ("getTargets", InEnvironment("read")),
    ])
}

/// A principal: its grants as (tenant, environments, verbs).
struct Subject {
    name: &'static str,
    grants: &'static [(&'static str, &'static [&'static str], &'static [&'static str])],
}

const SUBJECTS: [Subject; 10] = [
    Subject { name: "nothing", grants: &[] },
    Subject { name: "reader", grants: &[("default", &["*"], &["read"])] },
    Subject { name: "staging-reader", grants: &[("default", &["staging"], &["read"])] },
    Subject { name: "deployer", grants: &[("default", &["staging"], &["emit", "gate"])] },
    Subject { name: "operator", grants: &[("default", &["*"], &["rollback", "approve", "gate"])] },
    Subject { name: "shop-reader", grants: &[("shop", &["*"], &["read"])] },
    Subject { name: "every-reader", grants: &[("*", &["*"], &["read"])] },
    Subject { name: "two", grants: &[("default", &["staging"], &["*"]), ("shop", &["prod*"], &["read"])] },
    Subject { name: "subscriber", grants: &[("default", &["*"], &["subscribe"])] },
    Subject { name: "administrator", grants: &[("_admin", &["*"], &["admin"])] },
];

impl Subject {
    /// Returns true if a grant has the verb in the tenant for the environment; `None`: for all.
    fn may(&self, verb: &str, tenant: &str, environment: Option<&str>) -> bool {
        self.grants.iter().any(|(of, environments, verbs)| {
            let in_tenant = *of == "*" || *of == tenant;
            let has_verb = verbs.iter().any(|has| *has == "*" || *has == verb);
            let covers = environments.iter().any(|covered| match environment {
                _ if *covered == "*" => true,
                None => false,
                Some(name) => {
                    *covered == name || covered.strip_suffix('*').is_some_and(|start| name.starts_with(start))
                }
            });
            in_tenant && has_verb && covers
        })
    }

    fn knows(&self, tenant: &str) -> bool {
        self.grants.iter().any(|(of, ..)| *of == "*" || *of == tenant)
    }

    /// Returns the problem with which a request must be refused; `None`: it passes.
    fn refusal(&self, needs: Needs, tenant: &str, environment: &str) -> Option<&'static str> {
        let by = |is_allowed: bool| match (is_allowed, self.knows(tenant)) {
            (true, _) => None,
            (false, true) => Some("forbidden"),
            (false, false) => Some("unknown-tenant"),
        };
        match needs {
            Needs::Public | Needs::Credentials => None,
            Needs::Secret => Some("unauthenticated"),
            Needs::Administration => (!self.may("admin", "_admin", None)).then_some("forbidden"),
            Needs::Tenant => by(self.knows(tenant)),
            Needs::InEnvironment(verb) => by(self.may(verb, tenant, Some(environment))),
            Needs::Everywhere(verb) => by(self.may(verb, tenant, None)),
        }
    }
}

/// An operation of the document.
struct Operation {
    id: String,
    method: Method,
    path: String,
}

/// Returns the operations of the document with each of their servers: with and without a tenant.
async fn operations(client: &Client) -> Vec<Operation> {
    let document = client.get("/openapi.json").await.ok();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let servers = item["servers"].as_array().or(document["servers"].as_array()).expect("servers");
        let prefixes: Vec<&str> = servers.iter().filter_map(|server| server["url"].as_str()).collect();
        for (method, operation) in item.as_object().expect("operations") {
            let Some(id) = operation["operationId"].as_str() else { continue };
            let method: Method = method.to_uppercase().parse().expect("a method");
            let operation = |prefix: &&str| Operation {
                id: id.to_owned(),
                method: method.clone(),
                path: format!("{}{path}", prefix.trim_end_matches('/')),
            };
            operations.extend(prefixes.iter().map(operation));
        }
    }
    operations
}

/// Returns a path with a value for each parameter.
fn filled(path: &str, tenant: &str, environment: &str) -> String {
    let message_id = "0".repeat(32);
    let values = [
        ("{tenant}", tenant),
        ("{environment}", environment),
        ("{position}", "1"),
        ("{rollback_id}", "r"),
        ("{point}", "1"),
        ("{hook}", "github-main"),
        ("{message_id}", &message_id),
        ("{subscription}", "chat"),
        ("{folder}", "events"),
        ("{file}", "common.json"),
    ];
    values.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value))
}

/// Returns a body that is valid as far as authorisation looks at it.
fn body(id: &str) -> Value {
    match id {
        "askGate" => json!({"service": "web", "release": {"version": "v1"}}),
        "requestRollback" => {
            json!({"to": "1", "reason": "r", "initiated_by": {"type": "person", "name": "a"}})
        }
        "discardQuarantined" => json!({"reason": "r"}),
        "explainAccess" => json!({"principal": {"token": "8c1f2e3d4a5b6978"}, "verb": "read"}),
        "backtestPolicy" => json!({"environment": "staging", "policy": {}}),
        _ => json!([]),
    }
}

#[tokio::test]
async fn only_what_is_granted_passes_on_every_route() {
    let guarded = Guarded::start(&["--only=http,projector", "--tenants=default,shop"], "").await;
    let mut clients = Vec::new();
    for subject in &SUBJECTS {
        let token = guarded.create_token(subject.name, "workload").await;
        for (number, (tenant, environments, verbs)) in subject.grants.iter().enumerate() {
            let id = format!("{}-{number}", subject.name);
            guarded.grant_in(tenant, &id, &token, environments, verbs).await;
        }
        clients.push((subject, guarded.service.client_with(token.expose())));
    }
    let stranger = guarded.service.client();
    let table = table();
    let (mut tried, mut wrong) = (0, Vec::new());
    for operation in operations(&guarded.admin).await {
        let id = &*operation.id;
        let needs = *table.get(id).unwrap_or_else(|| panic!("{id} is not in the table: what does it need?"));
        let tenants: &[&str] = if operation.path.contains("{tenant}") {
            &["default", "shop", "none", "_admin"]
        } else {
            &["default"]
        };
        let environments: &[&str] =
            if operation.path.contains("{environment}") { &["staging", "production"] } else { &["staging"] };
        for (tenant, environment) in tenants.iter().flat_map(|t| environments.iter().map(move |e| (*t, *e))) {
            let path = filled(&operation.path, tenant, environment);
            let ask = |client: &Client| {
                let request =
                    client.request(operation.method.clone(), &path).header("prefer", "return=minimal");
                let content_type = if id == "postEvents" {
                    "application/cloudevents-batch+json"
                } else {
                    "application/json"
                };
                Client::send(request.header("content-type", content_type).body(body(id).to_string()))
            };
            let without_credentials = if needs == Needs::Public { 200 } else { 401 };
            assert_eq!(ask(&stranger).await.status, without_credentials, "{path} without credentials");
            for (subject, client) in &clients {
                tried += 1;
                let expected = subject.refusal(needs, tenant, environment);
                // A stream does not end: look at its head only.
                let exists = tenant != "none";
                let is_stream = matches!(id, "followEvents" | "followRollbacks");
                let (status, problem) = if is_stream && expected.is_none() && exists {
                    let response =
                        client.request(operation.method.clone(), &path).send().await.expect("a response");
                    (response.status().as_u16(), String::new())
                } else {
                    let response = ask(client).await;
                    (response.status, response.problem().to_owned())
                };
                let refusals = ["forbidden", "unknown-tenant", "unauthenticated"];
                let refused = refusals.into_iter().find(|refusal| *refusal == problem);
                let is_right = match expected {
                    // Nothing may be done in a tenant that does not exist, also by those who may know it.
                    _ if !exists && refused == Some("unknown-tenant") => true,
                    Some(expected) => refused == Some(expected),
                    None => exists && refused.is_none() && status != 401 && status < 500,
                };
                if !is_right {
                    wrong.push(format!(
                        "{} {} {path}: {status} {problem}, expected {expected:?}",
                        subject.name, operation.method
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried >= 1_000, "{tried}");
}
