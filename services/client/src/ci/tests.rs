//! Environment variables in, facts out: one row for each CI.

use super::*;

const COMMIT: &str = "6973793ef3442b763e3f66547344994e5c778d6c";

type Variables = &'static [(&'static str, &'static str)];

fn map(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn detected(variables: &[(&str, &str)]) -> CiContext {
    detect(&map(variables))
}

/// A run of a CI: its variables, and the expected facts; an empty text stands for none.
struct Row {
    variables: Variables,
    deployment: &'static str,
    commit: &'static str,
    pipeline: &'static str,
    actor: (&'static str, &'static str),
    source: &'static str,
    correlation: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        variables: &[
            ("CI", "true"),
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SHA", COMMIT),
            ("GITHUB_RUN_ID", "1658821493"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "acme/web"),
            ("GITHUB_ACTOR", "ada"),
            ("GITHUB_TRIGGERING_ACTOR", "grace"),
            ("GITHUB_WORKFLOW", "deploy"),
            ("GITHUB_JOB", "production"),
        ],
        deployment: "github-1658821493-2",
        commit: COMMIT,
        pipeline: "https://github.com/acme/web/actions/runs/1658821493/attempts/2",
        actor: ("person", "grace"),
        source: "https://github.com/acme/web",
        correlation: "https://github.com/acme/web/actions/runs/1658821493",
    },
    Row {
        variables: &[
            ("GITLAB_CI", "true"),
            ("CI_COMMIT_SHA", COMMIT),
            ("CI_JOB_ID", "50"),
            ("CI_JOB_URL", "https://gitlab.example/acme/web/-/jobs/50"),
            ("CI_PIPELINE_URL", "https://gitlab.example/acme/web/-/pipelines/9"),
            ("GITLAB_USER_LOGIN", "ada"),
            ("CI_PROJECT_PATH", "acme/web"),
            ("CI_PROJECT_URL", "https://gitlab.example/acme/web"),
        ],
        deployment: "gitlab-50",
        commit: COMMIT,
        pipeline: "https://gitlab.example/acme/web/-/jobs/50",
        actor: ("person", "ada"),
        source: "https://gitlab.example/acme/web",
        correlation: "https://gitlab.example/acme/web/-/pipelines/9",
    },
    Row {
        variables: &[
            ("BUILDKITE", "true"),
            ("BUILDKITE_BUILD_URL", "https://buildkite.com/acme/web/builds/7"),
            ("BUILDKITE_COMMIT", COMMIT),
            ("BUILDKITE_JOB_ID", "0190"),
            ("BUILDKITE_BUILD_CREATOR", "Ada Lovelace"),
            ("BUILDKITE_ORGANIZATION_SLUG", "acme"),
            ("BUILDKITE_PIPELINE_SLUG", "web"),
        ],
        deployment: "buildkite-0190",
        commit: COMMIT,
        pipeline: "https://buildkite.com/acme/web/builds/7#0190",
        actor: ("person", "Ada Lovelace"),
        source: "https://buildkite.com/acme/web",
        correlation: "https://buildkite.com/acme/web/builds/7",
    },
    Row {
        variables: &[
            ("TF_BUILD", "True"),
            ("BUILD_BUILDID", "871"),
            ("SYSTEM_JOBID", "12f1170f-54f2-53f3-20dd-22fc7dff55f9"),
            ("SYSTEM_JOBATTEMPT", "1"),
            ("BUILD_SOURCEVERSION", COMMIT),
            ("SYSTEM_COLLECTIONURI", "https://dev.azure.com/acme/"),
            ("SYSTEM_TEAMPROJECT", "Web Shop"),
            ("BUILD_REQUESTEDFOR", "Ada Lovelace"),
            ("BUILD_DEFINITIONNAME", "deploy"),
        ],
        deployment: "azure-871-12f1170f-54f2-53f3-20dd-22fc7dff55f9-1",
        commit: COMMIT,
        pipeline: "https://dev.azure.com/acme/Web%20Shop/_build/results?buildId=871",
        actor: ("person", "Ada Lovelace"),
        source: "https://dev.azure.com/acme/Web%20Shop",
        correlation: "https://dev.azure.com/acme/Web%20Shop/_build/results?buildId=871",
    },
    Row {
        variables: &[
            ("CIRCLECI", "true"),
            ("CIRCLE_SHA1", COMMIT),
            ("CIRCLE_WORKFLOW_JOB_ID", "5ab5ad80"),
            ("CIRCLE_WORKFLOW_ID", "9f1"),
            ("CIRCLE_BUILD_NUM", "12"),
            ("CIRCLE_BUILD_URL", "https://circleci.com/gh/acme/web/12"),
            ("CIRCLE_USERNAME", "ada"),
            ("CIRCLE_PROJECT_USERNAME", "acme"),
            ("CIRCLE_PROJECT_REPONAME", "web"),
            ("CIRCLE_JOB", "deploy"),
        ],
        deployment: "circleci-5ab5ad80",
        commit: COMMIT,
        pipeline: "https://circleci.com/gh/acme/web/12",
        actor: ("person", "ada"),
        source: "circleci:acme/web",
        correlation: "circleci-9f1",
    },
    Row {
        variables: &[
            ("BITBUCKET_BUILD_NUMBER", "7"),
            ("BITBUCKET_COMMIT", COMMIT),
            ("BITBUCKET_REPO_FULL_NAME", "acme/web"),
            ("BITBUCKET_STEP_UUID", "{8b2}"),
            ("BITBUCKET_STEP_RUN_NUMBER", "1"),
            ("BITBUCKET_STEP_TRIGGERER_UUID", "{ada}"),
        ],
        deployment: "bitbucket-acme/web-7-{8b2}-1",
        commit: COMMIT,
        pipeline: "https://bitbucket.org/acme/web/pipelines/results/7",
        actor: ("workload", "acme/web"),
        source: "https://bitbucket.org/acme/web",
        correlation: "https://bitbucket.org/acme/web/pipelines/results/7",
    },
    Row {
        variables: &[
            ("TEAMCITY_VERSION", "2025.11"),
            ("TEAMCITY_PROJECT_NAME", "Web Shop"),
            ("TEAMCITY_BUILDCONF_NAME", "Deploy"),
            ("BUILD_NUMBER", "31"),
            ("BUILD_VCS_NUMBER", COMMIT),
            ("BUILD_URL", "https://teamcity.example/build/4711"),
        ],
        deployment: "teamcity-Web Shop-Deploy-31",
        commit: COMMIT,
        pipeline: "https://teamcity.example/build/4711",
        actor: ("workload", "Web Shop/Deploy"),
        source: "teamcity:Web%20Shop",
        correlation: "",
    },
    Row {
        variables: &[
            ("DRONE", "true"),
            ("DRONE_REPO", "acme/web"),
            ("DRONE_BUILD_NUMBER", "42"),
            ("DRONE_STAGE_NUMBER", "1"),
            ("DRONE_COMMIT_SHA", COMMIT),
            ("DRONE_BUILD_LINK", "https://drone.example/acme/web/42"),
            ("DRONE_BUILD_TRIGGER", "ada"),
        ],
        deployment: "drone-acme/web-42-1",
        commit: COMMIT,
        pipeline: "https://drone.example/acme/web/42",
        actor: ("person", "ada"),
        source: "drone:acme/web",
        correlation: "https://drone.example/acme/web/42",
    },
    Row {
        variables: &[
            ("JENKINS_URL", "https://jenkins.example/"),
            ("BUILD_URL", "https://jenkins.example/job/web/15/"),
            ("JOB_URL", "https://jenkins.example/job/web/"),
            ("BUILD_TAG", "jenkins-web-15"),
            ("JOB_NAME", "web"),
            ("GIT_COMMIT", COMMIT),
            ("BUILD_USER_ID", "ada"),
        ],
        deployment: "jenkins-web-15",
        commit: COMMIT,
        pipeline: "https://jenkins.example/job/web/15/",
        actor: ("person", "ada"),
        source: "https://jenkins.example/job/web/",
        correlation: "https://jenkins.example/job/web/15/",
    },
    Row {
        variables: &[
            ("ARGO_WORKFLOW_NAME", "deploy-x7k2p"),
            ("ARGO_WORKFLOW_UID", "1b2c"),
            ("ARGO_WORKFLOW_NAMESPACE", "ci"),
            ("ARGO_WORKFLOW_TEMPLATE", "deploy"),
            ("ARGO_POD_NAME", "deploy-x7k2p-123"),
        ],
        deployment: "argo-1b2c-deploy-x7k2p-123",
        commit: "",
        pipeline: "",
        actor: ("workload", "ci/deploy"),
        source: "argo-workflows:ci/deploy",
        correlation: "argo-1b2c",
    },
    Row {
        variables: &[
            ("TEKTON_TASK_RUN", "deploy-run-9"),
            ("TEKTON_TASK_RUN_UID", "7f00"),
            ("TEKTON_PIPELINE_RUN", "release-9"),
            ("TEKTON_NAMESPACE", "ci"),
            ("TEKTON_TASK", "deploy"),
        ],
        deployment: "tekton-7f00",
        commit: "",
        pipeline: "",
        actor: ("workload", "ci/deploy"),
        source: "tekton:ci/deploy",
        correlation: "tekton-ci-release-9",
    },
];

#[test]
fn every_ci_provides_its_runs_commit_page_actor_and_project() {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    for row in ROWS {
        let expected = CiContext {
            deployment: some(row.deployment),
            commit: some(row.commit),
            pipeline: some(row.pipeline),
            actor: actor(row.actor.0, row.actor.1),
            source: some(row.source),
            correlation: some(row.correlation),
        };
        assert_eq!(detected(row.variables), expected, "{}", row.variables[0].0);
    }
    assert_eq!(ROWS.len(), PROVIDERS.len(), "every CI has a row");
}

#[test]
fn what_a_trigger_started_is_done_by_a_workload() {
    for (ci, person, trigger, workload) in [
        ("GITHUB_ACTIONS", "grace", "renovate[bot]", "acme/web/deploy"),
        ("TF_BUILD", "Ada Lovelace", "Microsoft.VisualStudio.Services.TFS", "Web Shop/deploy"),
        ("DRONE", "ada", "@cron", "acme/web"),
        ("JENKINS_URL", "ada", "timer", "web"),
    ] {
        let row = ROWS.iter().find(|row| row.variables.iter().any(|(name, _)| *name == ci));
        let variables = row.expect("a row").variables.iter();
        let started: Vec<_> =
            variables.map(|(name, value)| (*name, if *value == person { trigger } else { *value })).collect();
        assert_eq!(detected(&started).actor, actor("workload", workload), "{ci}");
    }
}

/// Returns what a run of a CI states if these variables are set, too.
fn with(ci: &str, more: &[(&'static str, &'static str)]) -> CiContext {
    let row = ROWS.iter().find(|row| row.variables.iter().any(|(name, _)| *name == ci)).expect("a row");
    detected(&[row.variables, more].concat())
}

#[test]
fn the_commit_of_a_run_that_is_not_of_the_release_is_omitted() {
    for event in ["workflow_run", "schedule", "repository_dispatch", "pull_request", "pull_request_target"] {
        assert_eq!(with("GITHUB_ACTIONS", &[("GITHUB_EVENT_NAME", event)]).commit, None, "{event}");
    }
    assert_eq!(with("TF_BUILD", &[("BUILD_REASON", "PullRequest")]).commit, None);
    for event in ["push", "workflow_dispatch", "release"] {
        let commit = with("GITHUB_ACTIONS", &[("GITHUB_EVENT_NAME", event)]).commit;
        assert_eq!(commit.as_deref(), Some(COMMIT), "{event}");
    }
}

#[test]
fn a_run_that_a_schedule_started_is_done_by_a_workload() {
    for (ci, variable, workload) in [
        ("GITHUB_ACTIONS", ("GITHUB_EVENT_NAME", "schedule"), "acme/web/deploy"),
        ("GITLAB_CI", ("CI_PIPELINE_SOURCE", "schedule"), "acme/web"),
        ("BUILDKITE", ("BUILDKITE_SOURCE", "schedule"), "web"),
        ("TF_BUILD", ("BUILD_REASON", "Schedule"), "Web Shop/deploy"),
    ] {
        assert_eq!(with(ci, &[variable]).actor, actor("workload", workload), "{ci}");
    }
}

#[test]
fn the_person_who_deploys_a_release_of_azure_is_the_actor() {
    let deployed = with("TF_BUILD", &[("RELEASE_DEPLOYMENT_REQUESTEDFOR", "Grace Hopper")]);
    assert_eq!(deployed.actor, actor("person", "Grace Hopper"));
}

#[test]
fn the_project_and_the_named_actor_are_the_same_in_every_run() {
    let variables = [
        ("GITLAB_CI", "true"),
        ("CI_COMMIT_SHA", COMMIT),
        ("CI_JOB_ID", "50"),
        ("GITLAB_USER_LOGIN", "ada"),
        ("CI_PROJECT_URL", "https://gitlab.example/acme/web"),
    ];
    let source = Some("https://gitlab.example/acme/web".to_owned());
    let constant = |flags: CiFlags, more: &[(&'static str, &'static str)]| {
        flags.constant_context_of(&map(&[&variables[..], more].concat())).expect("a context")
    };
    let expected = CiContext { source: source.clone(), ..CiContext::default() };
    assert_eq!(constant(CiFlags::default(), &[]), expected);
    let expected = CiContext { source, actor: actor("person", "grace"), ..CiContext::default() };
    assert_eq!(constant(CiFlags::default(), &[(ACTOR, "grace")]), expected);
    assert_eq!(constant(CiFlags { no_ci: true }, &[]), CiContext::default());
}

#[test]
fn the_actor_of_a_first_run_on_github_started_it() {
    let first = [("GITHUB_ACTIONS", "true"), ("GITHUB_ACTOR", "ada")];
    assert_eq!(detected(&first).actor, actor("person", "ada"));
}

#[test]
fn missing_and_invalid_values_are_omitted() {
    assert_eq!(detected(&[("CI", "true"), ("GITHUB_SHA", COMMIT)]), CiContext::default());
    let odd = [("GITHUB_ACTIONS", "true"), ("GITHUB_ACTOR", "two\nlines"), ("GITHUB_RUN_ID", "7")];
    let expected = CiContext { deployment: Some("github-7".to_owned()), ..CiContext::default() };
    assert_eq!(detected(&odd), expected);
    let at_head = [("BUILDKITE", "true"), ("BUILDKITE_COMMIT", "HEAD")];
    assert_eq!(detected(&at_head).commit, None);
    for project in ["https://ci.example/50%", "https://ci.example/[x]", "https://ada:s3cret@ci.example/web"] {
        assert_eq!(detected(&[("GITLAB_CI", "true"), ("CI_PROJECT_URL", project)]).source, None, "{project}");
    }
}

#[test]
fn release_ledger_actor_overrides_the_ci_and_must_be_valid() {
    let actor_of = |flags: CiFlags, name: &str| {
        let variables = [("DRONE", "true"), ("DRONE_BUILD_TRIGGER", "ada"), (ACTOR, name)];
        flags.context_of(&map(&variables)).map(|context| context.actor).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(actor_of(CiFlags::default(), "workload:ci"), Ok(actor("workload", "ci")));
    assert_eq!(actor_of(CiFlags::default(), "grace"), Ok(actor("person", "grace")));
    assert_eq!(actor_of(CiFlags::default(), ""), Ok(actor("person", "ada")));
    assert_eq!(actor_of(CiFlags { no_ci: true }, ""), Ok(None));
    assert_eq!(actor_of(CiFlags { no_ci: true }, "grace"), Ok(actor("person", "grace")));
    let error = actor_of(CiFlags::default(), "person:").expect_err("no name");
    assert!(error.starts_with("invalid RELEASE_LEDGER_ACTOR: "), "{error}");
}
