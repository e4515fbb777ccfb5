//! The CI systems that are detected, and the variables that their documentation names.

/// A CI and the variables that it sets. In a template, `{NAME}` stands for the value of a variable; of
/// several templates, the first one with all its variables set is used.
pub(super) struct CiProvider {
    /// The variable that is set in every run of this CI, and in no other.
    pub(super) marker: &'static str,
    /// The run; each attempt is a run of its own.
    pub(super) deployment: &'static [&'static str],
    pub(super) commit: &'static [&'static str],
    /// Variables and their values in runs whose commit is not that of the release: the head of the default branch in a
    /// run that another event caused, and the merge of a pull request.
    pub(super) without_commit: &'static [(&'static str, &'static str)],
    /// Variables and their values in runs that a schedule started: the person whom the CI names did not start them.
    pub(super) scheduled: &'static [(&'static str, &'static str)],
    /// The web page of the run.
    pub(super) pipeline: &'static [&'static str],
    /// The person who started the run.
    pub(super) person: &'static [&'static str],
    /// The workload, for runs that no person started.
    pub(super) workload: &'static [&'static str],
    /// The project, as the source of events: a URI-reference.
    pub(super) source: &'static [&'static str],
    /// The run that all jobs of a pipeline share; where a webhook reports the run, the same as there.
    pub(super) correlation: &'static [&'static str],
}

/// The CI systems, those with the most specific markers first. Argo Workflows and Tekton set no variables in the
/// containers of users: the workflow or task sets these from the variables of its manifest.
pub(super) const PROVIDERS: &[CiProvider] = &[
    CiProvider {
        marker: "GITHUB_ACTIONS",
        deployment: &["github-{GITHUB_RUN_ID}-{GITHUB_RUN_ATTEMPT}", "github-{GITHUB_RUN_ID}"],
        commit: &["{GITHUB_SHA}"],
        without_commit: &[
            ("GITHUB_EVENT_NAME", "workflow_run"),
            ("GITHUB_EVENT_NAME", "schedule"),
            ("GITHUB_EVENT_NAME", "repository_dispatch"),
            ("GITHUB_EVENT_NAME", "pull_request"),
            ("GITHUB_EVENT_NAME", "pull_request_target"),
        ],
        scheduled: &[("GITHUB_EVENT_NAME", "schedule")],
        pipeline: &[
            "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}/attempts/\
             {GITHUB_RUN_ATTEMPT}",
            "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
        ],
        // The first is the person who started a run again.
        person: &["{GITHUB_TRIGGERING_ACTOR}", "{GITHUB_ACTOR}"],
        workload: &["{GITHUB_REPOSITORY}/{GITHUB_WORKFLOW}"],
        source: &["{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}"],
        correlation: &["{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}"],
    },
    CiProvider {
        marker: "GITLAB_CI",
        deployment: &["gitlab-{CI_JOB_ID}"],
        commit: &["{CI_COMMIT_SHA}"],
        without_commit: &[],
        scheduled: &[("CI_PIPELINE_SOURCE", "schedule")],
        pipeline: &["{CI_JOB_URL}", "{CI_PIPELINE_URL}"],
        person: &["{GITLAB_USER_LOGIN}"],
        workload: &["{CI_PROJECT_PATH}"],
        source: &["{CI_PROJECT_URL}"],
        correlation: &["{CI_PIPELINE_URL}"],
    },
    CiProvider {
        marker: "BUILDKITE",
        deployment: &["buildkite-{BUILDKITE_JOB_ID}"],
        commit: &["{BUILDKITE_COMMIT}"],
        without_commit: &[],
        scheduled: &[("BUILDKITE_SOURCE", "schedule")],
        pipeline: &["{BUILDKITE_BUILD_URL}#{BUILDKITE_JOB_ID}", "{BUILDKITE_BUILD_URL}"],
        person: &["{BUILDKITE_BUILD_CREATOR}"],
        workload: &["{BUILDKITE_PIPELINE_SLUG}"],
        source: &["https://buildkite.com/{BUILDKITE_ORGANIZATION_SLUG}/{BUILDKITE_PIPELINE_SLUG}"],
        correlation: &["{BUILDKITE_BUILD_URL}"],
    },
    CiProvider {
        marker: "TF_BUILD",
        deployment: &[
            "azure-{BUILD_BUILDID}-{SYSTEM_JOBID}-{SYSTEM_JOBATTEMPT}",
            "azure-{BUILD_BUILDID}-{SYSTEM_JOBID}",
            "azure-{BUILD_BUILDID}",
        ],
        commit: &["{BUILD_SOURCEVERSION}"],
        without_commit: &[("BUILD_REASON", "PullRequest")],
        scheduled: &[("BUILD_REASON", "Schedule")],
        pipeline: &["{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}"],
        // The first is the person who started the deployment of a release.
        person: &["{RELEASE_DEPLOYMENT_REQUESTEDFOR}", "{BUILD_REQUESTEDFOR}"],
        workload: &["{SYSTEM_TEAMPROJECT}/{BUILD_DEFINITIONNAME}"],
        source: &["{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}"],
        correlation: &["{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}"],
    },
    CiProvider {
        marker: "CIRCLECI",
        deployment: &[
            "circleci-{CIRCLE_WORKFLOW_JOB_ID}",
            "circleci-{CIRCLE_PROJECT_USERNAME}-{CIRCLE_PROJECT_REPONAME}-{CIRCLE_BUILD_NUM}",
        ],
        commit: &["{CIRCLE_SHA1}"],
        without_commit: &[],
        scheduled: &[],
        pipeline: &["{CIRCLE_BUILD_URL}"],
        person: &["{CIRCLE_USERNAME}"],
        workload: &["{CIRCLE_PROJECT_USERNAME}/{CIRCLE_PROJECT_REPONAME}/{CIRCLE_JOB}"],
        source: &[
            "circleci:{CIRCLE_PROJECT_USERNAME}/{CIRCLE_PROJECT_REPONAME}",
            "circleci:{CIRCLE_PROJECT_ID}",
        ],
        correlation: &["circleci-{CIRCLE_WORKFLOW_ID}"],
    },
    CiProvider {
        marker: "BITBUCKET_BUILD_NUMBER",
        deployment: &[
            "bitbucket-{BITBUCKET_REPO_FULL_NAME}-{BITBUCKET_BUILD_NUMBER}-{BITBUCKET_STEP_UUID}-\
             {BITBUCKET_STEP_RUN_NUMBER}",
            "bitbucket-{BITBUCKET_REPO_FULL_NAME}-{BITBUCKET_BUILD_NUMBER}",
        ],
        commit: &["{BITBUCKET_COMMIT}"],
        without_commit: &[],
        scheduled: &[],
        pipeline: &[
            "https://bitbucket.org/{BITBUCKET_REPO_FULL_NAME}/pipelines/results/{BITBUCKET_BUILD_NUMBER}",
        ],
        // It names the person by a UUID only, and a schedule as well.
        person: &[],
        workload: &["{BITBUCKET_REPO_FULL_NAME}"],
        source: &["https://bitbucket.org/{BITBUCKET_REPO_FULL_NAME}"],
        correlation: &[
            "https://bitbucket.org/{BITBUCKET_REPO_FULL_NAME}/pipelines/results/{BITBUCKET_BUILD_NUMBER}",
        ],
    },
    CiProvider {
        marker: "TEAMCITY_VERSION",
        deployment: &["teamcity-{TEAMCITY_PROJECT_NAME}-{TEAMCITY_BUILDCONF_NAME}-{BUILD_NUMBER}"],
        commit: &["{BUILD_VCS_NUMBER}"],
        without_commit: &[],
        scheduled: &[],
        pipeline: &["{BUILD_URL}"],
        // The person is a parameter of the build, and no variable.
        person: &[],
        workload: &["{TEAMCITY_PROJECT_NAME}/{TEAMCITY_BUILDCONF_NAME}"],
        source: &["teamcity:{TEAMCITY_PROJECT_NAME}"],
        // Builds of a chain share no variable.
        correlation: &[],
    },
    CiProvider {
        marker: "DRONE",
        deployment: &[
            "drone-{DRONE_REPO}-{DRONE_BUILD_NUMBER}-{DRONE_STAGE_NUMBER}",
            "drone-{DRONE_REPO}-{DRONE_BUILD_NUMBER}",
        ],
        commit: &["{DRONE_COMMIT_SHA}"],
        without_commit: &[],
        scheduled: &[],
        pipeline: &["{DRONE_BUILD_LINK}"],
        person: &["{DRONE_BUILD_TRIGGER}"],
        workload: &["{DRONE_REPO}"],
        source: &["drone:{DRONE_REPO}"],
        correlation: &["{DRONE_BUILD_LINK}"],
    },
    CiProvider {
        marker: "JENKINS_URL",
        deployment: &["{BUILD_TAG}"],
        commit: &["{GIT_COMMIT}"],
        without_commit: &[],
        scheduled: &[],
        pipeline: &["{BUILD_URL}"],
        person: &["{BUILD_USER_ID}"],
        workload: &["{JOB_NAME}"],
        source: &["{JOB_URL}"],
        correlation: &["{BUILD_URL}"],
    },
    CiProvider {
        marker: "ARGO_WORKFLOW_NAME",
        deployment: &["argo-{ARGO_WORKFLOW_UID}-{ARGO_POD_NAME}", "argo-{ARGO_WORKFLOW_UID}"],
        commit: &[],
        without_commit: &[],
        scheduled: &[],
        pipeline: &[],
        person: &[],
        workload: &["{ARGO_WORKFLOW_NAMESPACE}/{ARGO_WORKFLOW_TEMPLATE}", "{ARGO_WORKFLOW_NAMESPACE}"],
        source: &[
            "argo-workflows:{ARGO_WORKFLOW_NAMESPACE}/{ARGO_WORKFLOW_TEMPLATE}",
            "argo-workflows:{ARGO_WORKFLOW_NAMESPACE}",
        ],
        correlation: &["argo-{ARGO_WORKFLOW_UID}"],
    },
    CiProvider {
        marker: "TEKTON_TASK_RUN",
        deployment: &["tekton-{TEKTON_TASK_RUN_UID}", "tekton-{TEKTON_NAMESPACE}-{TEKTON_TASK_RUN}"],
        commit: &[],
        without_commit: &[],
        scheduled: &[],
        pipeline: &[],
        person: &[],
        workload: &["{TEKTON_NAMESPACE}/{TEKTON_TASK}", "{TEKTON_NAMESPACE}"],
        source: &["tekton:{TEKTON_NAMESPACE}/{TEKTON_TASK}", "tekton:{TEKTON_NAMESPACE}"],
        correlation: &["tekton-{TEKTON_NAMESPACE}-{TEKTON_PIPELINE_RUN}"],
    },
];
