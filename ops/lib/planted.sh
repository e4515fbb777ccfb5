# For scripts that plant errors in a copy of the last commit. Source it from the root of the tree.

# Makes the copy: `$copy/tree`. It is removed when the script ends.
copy_last_commit() {
    copy="$(mktemp -d)"
    # Postgres, which may run as another user, must pass through.
    chmod 711 "$copy"
    trap 'rm -rf "$copy"' EXIT
    mkdir "$copy/tree"
    git archive HEAD | tar -x -C "$copy/tree"
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/planted"
}

# Prints the patches of a folder, or those of them that are named, one a line.
planted_patches() {
    local folder="$1" patch found=false
    shift
    for patch in "$folder"/*.patch; do
        if [[ $# -eq 0 || " $* " == *" $(basename "$patch" .patch) "* ]]; then
            printf '%s\n' "$PWD/$patch"
            found=true
        fi
    done
    "$found" || fail "no such patch in $folder: $*"
}
