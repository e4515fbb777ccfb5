# A GitOps repository at its address, exports of other tools, and stand-ins for the tools that make them.

git config --global user.name Mira
git config --global user.email mira@example.com
git config --global init.defaultBranch main
git config --global "url.$PWD/origin/.insteadOf" https://git.example/
git init --quiet origin/shop/deploy.git
(
    cd origin/shop/deploy.git
    mkdir -p charts/search-api
    echo 'image: {tag: "v948"}' >charts/search-api/production.yaml
    git add .
    git commit --quiet -m 'Deploy v948'
)
stand_in gh <<'EOF'
case "$*" in
*statuses*)
    echo '[{"id": 71, "state": "success", "environment": "prod", "created_at": "2024-08-01T12:00:00Z",
        "deployment_url": "https://api.github.com/repos/acme/search-api/deployments/41"}]'
    ;;
*)
    echo '[{"id": 41, "sha": "5732a5872809a214337dc162d8b21f900429daae", "ref": "v1.2.3", "task": "deploy", "payload": {},
        "environment": "prod", "creator": {"login": "mira", "type": "User"}, "created_at": "2024-08-01T11:59:00Z",
        "url": "https://api.github.com/repos/acme/search-api/deployments/41"}]'
    ;;
esac
EOF
TOKEN=of-gitlab
curl() {
    case "$*" in
    *https://gitlab.example/*)
        echo '[{"id": 15, "iid": 2, "ref": "v1.2.3", "sha": "5732a5872809a214337dc162d8b21f900429daae", "status": "success",
            "created_at": "2024-08-01T11:59:00Z", "updated_at": "2024-08-01T12:00:00Z", "user": {"username": "mira"},
            "environment": {"name": "production"}, "deployable": {"id": 796, "name": "deploy", "ref": "v1.2.3",
            "web_url": "https://gitlab.example/shop/search-api/-/jobs/796", "project": {},
            "commit": {"id": "5732a5872809a214337dc162d8b21f900429daae", "title": "Cache the index"}}}]'
        ;;
    *) command curl "$@" ;;
    esac
}
printf 'when,env,app,version,result\n2024-08-01T12:00:00Z,production,search-api,v901,ok\n' >deploys.csv
jq --null-input --raw-output --slurpfile event /dev/stdin '["payload"], [$event[0] | tojson] | @csv' <<'EOF' | gzip >cdevents.csv.gz
{
  "context": {
    "specversion": "0.5.1", "id": "271069a8", "source": "https://ci.example/search-api",
    "type": "dev.cdevents.service.deployed.0.3.0", "timestamp": "2024-08-01T12:00:00Z"
  },
  "subject": {"id": "search-api", "content": {
    "environment": {"id": "production"}, "artifactId": "pkg:oci/search-api@sha256%3A1e69f8162c23cc6c981ef52ea27680dc1c8a7ed24f68fd48a2c2c5f9527e51cc?tag=v948"
  }}
}
EOF
