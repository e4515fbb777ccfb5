//! Metadata that a CI provides about its run in environment variables: run id, commit, page and actor.
//!
//! Invariants: pure. A value that is not valid in an event is ignored: an odd variable of a CI fails no
//! deploy.

use std::collections::BTreeMap;

use ledger_domain::ShortText;
use ledger_domain::event::Actor;

/// A CI and the variables that it sets. In a template, `{NAME}` stands for the value of a variable; of
/// several templates, the first one with all its variables set is used.
struct CiProvider {
    marker: &'static str,
    /// The run; each attempt is a run of its own.
    deployment: &'static [&'static str],
    commit: &'static str,
    /// The web page of the run.
    pipeline: &'static [&'static str],
    /// The person who started the run.
    person: &'static str,
    /// The workload, for runs that no person started.
    workload: &'static str,
}

const PROVIDERS: &[CiProvider] = &[
    CiProvider {
        marker: "GITHUB_ACTIONS",
        deployment: &["github-{GITHUB_RUN_ID}-{GITHUB_RUN_ATTEMPT}", "github-{GITHUB_RUN_ID}"],
        commit: "{GITHUB_SHA}",
        pipeline: &[
            "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}/attempts/\
             {GITHUB_RUN_ATTEMPT}",
            "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
        ],
        person: "{GITHUB_ACTOR}",
        workload: "{GITHUB_REPOSITORY}/{GITHUB_WORKFLOW}",
    },
    CiProvider {
        marker: "GITLAB_CI",
        deployment: &["gitlab-{CI_JOB_ID}"],
        commit: "{CI_COMMIT_SHA}",
        pipeline: &["{CI_JOB_URL}", "{CI_PIPELINE_URL}"],
        person: "{GITLAB_USER_LOGIN}",
        workload: "{CI_PROJECT_PATH}",
    },
    CiProvider {
        marker: "BUILDKITE",
        deployment: &["buildkite-{BUILDKITE_JOB_ID}"],
        commit: "{BUILDKITE_COMMIT}",
        pipeline: &["{BUILDKITE_BUILD_URL}#{BUILDKITE_JOB_ID}", "{BUILDKITE_BUILD_URL}"],
        person: "{BUILDKITE_BUILD_CREATOR}",
        workload: "{BUILDKITE_PIPELINE_SLUG}",
    },
    CiProvider {
        marker: "JENKINS_URL",
        deployment: &["{BUILD_TAG}"],
        commit: "{GIT_COMMIT}",
        pipeline: &["{BUILD_URL}"],
        person: "{BUILD_USER_ID}",
        workload: "{JOB_NAME}",
    },
];

/// Values that Jenkins uses instead of a person if a trigger started the build.
const JENKINS_TRIGGERS: [&str; 5] =
    ["timer", "scmChange", "branchIndexing", "remoteRequest", "genericWebhook"];

/// Metadata of the CI's run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CiContext {
    pub(super) deployment: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) pipeline: Option<String>,
    pub(super) actor: Option<Actor>,
}

/// Detects the CI by its variables and returns the metadata of its run; empty if no CI is detected.
pub(super) fn detect(variables: &BTreeMap<String, String>) -> CiContext {
    let Some(provider) = PROVIDERS
        .iter()
        .find(|provider| variables.get(provider.marker).is_some_and(|value| !value.is_empty()))
    else {
        return CiContext::default();
    };
    let fill_template = |template: &&str| fill(template, variables);
    let person = fill(provider.person, variables).filter(|name| is_person(name));
    let actor = match person {
        Some(name) => actor("person", &name),
        None => fill(provider.workload, variables).and_then(|name| actor("workload", &name)),
    };
    CiContext {
        deployment: provider.deployment.iter().find_map(fill_template),
        commit: fill(provider.commit, variables).filter(|commit| is_commit(commit)),
        pipeline: provider.pipeline.iter().find_map(fill_template),
        actor,
    }
}

/// Fills a template; none if a variable is not set or the text is not valid in an event.
fn fill(template: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        text.push_str(before);
        text.push_str(variables.get(name).filter(|value| !value.is_empty())?);
        rest = after;
    }
    text.push_str(rest);
    ShortText::parse(&text).is_ok().then_some(text)
}

fn actor(kind: &str, name: &str) -> Option<Actor> {
    Some(Actor { kind: ShortText::parse(kind).ok()?, name: ShortText::parse(name).ok()? })
}

fn is_person(name: &str) -> bool {
    !name.ends_with("[bot]") && !JENKINS_TRIGGERS.contains(&name)
}

/// Returns true if the text is a commit hash: Buildkite sets HEAD before it has resolved the commit.
fn is_commit(text: &str) -> bool {
    text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "6973793ef3442b763e3f66547344994e5c778d6c";

    fn detected(variables: &[(&str, &str)]) -> CiContext {
        detect(&variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn expected(deployment: &str, pipeline: &str, (kind, name): (&str, &str)) -> CiContext {
        CiContext {
            deployment: Some(deployment.to_owned()),
            commit: Some(COMMIT.to_owned()),
            pipeline: Some(pipeline.to_owned()),
            actor: actor(kind, name),
        }
    }

    #[test]
    fn github_actions_provides_its_attempt() {
        let run = [
            ("CI", "true"),
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SHA", COMMIT),
            ("GITHUB_RUN_ID", "1658821493"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "acme/web"),
            ("GITHUB_ACTOR", "ada"),
            ("GITHUB_WORKFLOW", "deploy"),
            ("GITHUB_JOB", "production"),
        ];
        let page = "https://github.com/acme/web/actions/runs/1658821493/attempts/2";
        assert_eq!(detected(&run), expected("github-1658821493-2", page, ("person", "ada")));
        let by_bot = run.map(|(name, value)| (name, if value == "ada" { "renovate[bot]" } else { value }));
        assert_eq!(detected(&by_bot).actor, actor("workload", "acme/web/deploy"));
    }

    #[test]
    fn gitlab_provides_its_job() {
        let job = [
            ("GITLAB_CI", "true"),
            ("CI_COMMIT_SHA", COMMIT),
            ("CI_JOB_ID", "50"),
            ("CI_JOB_URL", "https://gitlab.example/acme/web/-/jobs/50"),
            ("CI_PIPELINE_URL", "https://gitlab.example/acme/web/-/pipelines/9"),
            ("GITLAB_USER_LOGIN", "ada"),
            ("CI_PROJECT_PATH", "acme/web"),
        ];
        let page = "https://gitlab.example/acme/web/-/jobs/50";
        assert_eq!(detected(&job), expected("gitlab-50", page, ("person", "ada")));
    }

    #[test]
    fn jenkins_provides_its_build_and_the_person_who_started_it() {
        let build = [
            ("JENKINS_URL", "https://jenkins.example/"),
            ("BUILD_URL", "https://jenkins.example/job/web/15/"),
            ("BUILD_TAG", "jenkins-web-15"),
            ("JOB_NAME", "web"),
            ("GIT_COMMIT", COMMIT),
            ("BUILD_USER_ID", "ada"),
        ];
        let page = "https://jenkins.example/job/web/15/";
        assert_eq!(detected(&build), expected("jenkins-web-15", page, ("person", "ada")));
        let by_timer = build.map(|(name, value)| (name, if value == "ada" { "timer" } else { value }));
        assert_eq!(detected(&by_timer).actor, actor("workload", "web"));
    }

    #[test]
    fn buildkite_provides_its_job() {
        let job = [
            ("BUILDKITE", "true"),
            ("BUILDKITE_BUILD_URL", "https://buildkite.com/acme/web/builds/7"),
            ("BUILDKITE_COMMIT", COMMIT),
            ("BUILDKITE_JOB_ID", "0190"),
            ("BUILDKITE_BUILD_CREATOR", "Ada Lovelace"),
            ("BUILDKITE_PIPELINE_SLUG", "web"),
        ];
        let page = "https://buildkite.com/acme/web/builds/7#0190";
        assert_eq!(detected(&job), expected("buildkite-0190", page, ("person", "Ada Lovelace")));
        let at_head = job.map(|(name, value)| (name, if value == COMMIT { "HEAD" } else { value }));
        assert_eq!(detected(&at_head).commit, None);
    }

    #[test]
    fn missing_and_invalid_values_are_omitted() {
        assert_eq!(detected(&[("CI", "true"), ("GITHUB_SHA", COMMIT)]), CiContext::default());
        let odd =
            detected(&[("GITHUB_ACTIONS", "true"), ("GITHUB_ACTOR", "two\nlines"), ("GITHUB_RUN_ID", "7")]);
        assert_eq!(odd, CiContext { deployment: Some("github-7".to_owned()), ..CiContext::default() });
    }
}
