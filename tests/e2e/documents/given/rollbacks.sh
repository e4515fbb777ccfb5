# Three releases of search-api at two targets, two of which passed their checks; a release on staging; the tools that the
# guide's step calls.

hours_ago() {
    date -u -d "-$1 hours" +%FT%TZ
}
release() { # ENVIRONMENT VERSION HOURS TARGET…
    local environment=$1 version=$2 hours=$3 target
    shift 3
    for target; do
        release-ledger emit deploy.succeeded --environment "$environment" --service search-api --version "$version" \
            --artifact "pkg:cargo/search-api@$version" --target "$target" --time "$(hours_ago "$hours")"
    done
}
passes() { # ENVIRONMENT HOURS
    release-ledger check passed smoke --environment "$1" --time "$(hours_ago "$2")"
    release-ledger check passed e2e --environment "$1" --time "$(hours_ago "$2")"
}
release production v946 50 on-premise cloud
passes production 49
release staging v947 45 cloud
passes staging 44
release production v947 40 on-premise cloud
passes production 39
release production v948 2 on-premise cloud
release-ledger check failed smoke --environment production --time "$(hours_ago 1)"
release-ledger emit deploy.succeeded --environment preview-17 --service search-api --version v950
for tool in deploy switch-traffic remove; do
    printf '#!/bin/sh\necho "%s $*"\n' "$tool" >"$tool"
    chmod +x "$tool"
done
stand_in editor <<'EOF'
sed -i 's/1800/900/' "$1"
EOF
export VISUAL=editor
