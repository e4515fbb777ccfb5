# Functions for the blocks of documents, and for what stands before them.

# stand_in NAME: makes stdin a program on PATH, in place of a tool that the document runs.
stand_in() {
    { echo '#!/bin/bash'; cat; } >"$BIN/$1"
    chmod +x "$BIN/$1"
}

# ended_after COUNT: ends the job in the background once it has printed so many lines to the file `followed`, and prints
# them. The test that runs this has a time limit.
ended_after() {
    local job=$!
    until [ "$(wc -l <followed)" -ge "$1" ]; do
        kill -0 "$job" || break
        sleep 0.05
    done
    kill -- "-$job" || true
    wait "$job" || true
    cat followed
}

# systemctl restart release-ledger: starts the service with the settings of the document.
systemctl() {
    systemctl_end
    touch ledger.toml
    release-ledger serve --listen="${SERVICE_URL#http://}" --config=ledger.toml --log-filter=warn \
        "--access-authentication=$AUTHENTICATION" &
    service=$!
    until curl --silent --fail --output "$SCRATCH" "$SERVICE_URL/readyz"; do
        kill -0 "$service"
        sleep 0.05
    done
}
systemctl_end() {
    [ -z "$service" ] || { kill "$service"; wait "$service" || true; }
    service=
}
SERVICE_URL=$RELEASE_LEDGER_URL
AUTHENTICATION=off
service=
trap systemctl_end EXIT

# settled: waits until queries know everything that was recorded. A person who types is slower than the projections.
settled() {
    local head
    head="$(release-ledger position | awk '$1 == "head" { print $2 }')" &&
        release-ledger position --wait-for "$head"
} >"$SCRATCH" 2>&1
