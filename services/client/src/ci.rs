//! What a CI tells of its run in variables: the run's name, the commit, where to read more, and who began it.
//!
//! Invariants: pure. What does not fit into an event is left out: a CI's odd value fails no deploy.

use std::collections::BTreeMap;

use ledger_domain::ShortText;
use ledger_domain::event::Actor;

/// A CI: the variable by which it is known, and which of its variables tell what. In a template `{NAME}` is a
/// variable's value; the first template whose variables are all there is taken.
struct Ci {
    known_by: &'static str,
    /// The run: another one for another attempt.
    deployment: &'static [&'static str],
    commit: &'static str,
    /// The page of the run.
    pipeline: &'static [&'static str],
    /// Who began the run.
    person: &'static str,
    /// What runs, where nobody began it.
    workload: &'static str,
}

const ALL: &[Ci] = &[
    Ci {
        known_by: "GITHUB_ACTIONS",
        deployment: &["github-{GITHUB_RUN_ID}-{GITHUB_RUN_ATTEMPT}", "github-{GITHUB_RUN_ID}"],
        commit: "{GITHUB_SHA}",
        pipeline: &[
            "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}/attempts/{GITHUB_RUN_ATTEMPT}",
            "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
        ],
        person: "{GITHUB_ACTOR}",
        workload: "{GITHUB_REPOSITORY}/{GITHUB_WORKFLOW}",
    },
    Ci {
        known_by: "GITLAB_CI",
        deployment: &["gitlab-{CI_JOB_ID}"],
        commit: "{CI_COMMIT_SHA}",
        pipeline: &["{CI_JOB_URL}", "{CI_PIPELINE_URL}"],
        person: "{GITLAB_USER_LOGIN}",
        workload: "{CI_PROJECT_PATH}",
    },
    Ci {
        known_by: "BUILDKITE",
        deployment: &["buildkite-{BUILDKITE_JOB_ID}"],
        commit: "{BUILDKITE_COMMIT}",
        pipeline: &["{BUILDKITE_BUILD_URL}#{BUILDKITE_JOB_ID}", "{BUILDKITE_BUILD_URL}"],
        person: "{BUILDKITE_BUILD_CREATOR}",
        workload: "{BUILDKITE_PIPELINE_SLUG}",
    },
    Ci {
        known_by: "JENKINS_URL",
        deployment: &["{BUILD_TAG}"],
        commit: "{GIT_COMMIT}",
        pipeline: &["{BUILD_URL}"],
        person: "{BUILD_USER_ID}",
        workload: "{JOB_NAME}",
    },
];

/// What stands for a person in Jenkins where a trigger began the build.
const TRIGGERS: [&str; 5] = ["timer", "scmChange", "branchIndexing", "remoteRequest", "genericWebhook"];

/// What a CI tells of its run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) deployment: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) pipeline: Option<String>,
    pub(super) actor: Option<Actor>,
}

/// What the CI tells in these variables; nothing if none is known by them.
pub(super) fn facts(variables: &BTreeMap<String, String>) -> Facts {
    let Some(ci) = ALL.iter().find(|ci| variables.get(ci.known_by).is_some_and(|value| !value.is_empty()))
    else {
        return Facts::default();
    };
    let filled = |template: &&str| fill(template, variables);
    let person = fill(ci.person, variables).filter(|name| is_person(name));
    let actor = match person {
        Some(name) => actor("person", &name),
        None => fill(ci.workload, variables).and_then(|name| actor("workload", &name)),
    };
    Facts {
        deployment: ci.deployment.iter().find_map(filled),
        commit: fill(ci.commit, variables).filter(|commit| is_commit(commit)),
        pipeline: ci.pipeline.iter().find_map(filled),
        actor,
    }
}

/// The template's text, if all of its variables are there and it fits into an event.
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
    !name.ends_with("[bot]") && !TRIGGERS.contains(&name)
}

/// Whether it names a commit: Buildkite says HEAD before it knows.
fn is_commit(text: &str) -> bool {
    text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "6973793ef3442b763e3f66547344994e5c778d6c";

    fn told(variables: &[(&str, &str)]) -> Facts {
        facts(&variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn expected(deployment: &str, pipeline: &str, (kind, name): (&str, &str)) -> Facts {
        Facts {
            deployment: Some(deployment.to_owned()),
            commit: Some(COMMIT.to_owned()),
            pipeline: Some(pipeline.to_owned()),
            actor: actor(kind, name),
        }
    }

    #[test]
    fn github_actions_tells_its_attempt() {
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
        assert_eq!(told(&run), expected("github-1658821493-2", page, ("person", "ada")));
        let by_bot = run.map(|(name, value)| (name, if value == "ada" { "renovate[bot]" } else { value }));
        assert_eq!(told(&by_bot).actor, actor("workload", "acme/web/deploy"));
    }

    #[test]
    fn gitlab_tells_its_job() {
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
        assert_eq!(told(&job), expected("gitlab-50", page, ("person", "ada")));
    }

    #[test]
    fn jenkins_tells_its_build_and_who_began_it_if_a_person_did() {
        let build = [
            ("JENKINS_URL", "https://jenkins.example/"),
            ("BUILD_URL", "https://jenkins.example/job/web/15/"),
            ("BUILD_TAG", "jenkins-web-15"),
            ("JOB_NAME", "web"),
            ("GIT_COMMIT", COMMIT),
            ("BUILD_USER_ID", "ada"),
        ];
        let page = "https://jenkins.example/job/web/15/";
        assert_eq!(told(&build), expected("jenkins-web-15", page, ("person", "ada")));
        let by_timer = build.map(|(name, value)| (name, if value == "ada" { "timer" } else { value }));
        assert_eq!(told(&by_timer).actor, actor("workload", "web"));
    }

    #[test]
    fn buildkite_tells_its_job() {
        let job = [
            ("BUILDKITE", "true"),
            ("BUILDKITE_BUILD_URL", "https://buildkite.com/acme/web/builds/7"),
            ("BUILDKITE_COMMIT", COMMIT),
            ("BUILDKITE_JOB_ID", "0190"),
            ("BUILDKITE_BUILD_CREATOR", "Ada Lovelace"),
            ("BUILDKITE_PIPELINE_SLUG", "web"),
        ];
        let page = "https://buildkite.com/acme/web/builds/7#0190";
        assert_eq!(told(&job), expected("buildkite-0190", page, ("person", "Ada Lovelace")));
        let at_head = job.map(|(name, value)| (name, if value == COMMIT { "HEAD" } else { value }));
        assert_eq!(told(&at_head).commit, None);
    }

    #[test]
    fn what_is_not_told_or_does_not_fit_is_left_out() {
        assert_eq!(told(&[("CI", "true"), ("GITHUB_SHA", COMMIT)]), Facts::default());
        let odd = told(&[("GITHUB_ACTIONS", "true"), ("GITHUB_ACTOR", "two\nlines"), ("GITHUB_RUN_ID", "7")]);
        assert_eq!(odd, Facts { deployment: Some("github-7".to_owned()), ..Facts::default() });
    }
}
