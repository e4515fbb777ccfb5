# Functions for scripts that apply patches to a copy of the last commit. Source this from the root of the tree.

# Creates the copy in `$copy/tree`. It is deleted when the script exits.
copy_last_commit() {
    copy="$(mktemp -d)"
    # Postgres may run as another user, which needs to traverse the folder.
    chmod 711 "$copy"
    trap 'rm -rf "$copy"' EXIT
    mkdir "$copy/tree"
    git archive HEAD | tar -x -C "$copy/tree"
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/planted"
}

# planted_patches FOLDER [NAME…]: prints the paths of all patches in a folder, or of the named ones, one per line.
planted_patches() {
    local folder="$1" patch found=false
    shift
    for patch in "$folder"/*.patch; do
        if [[ $# -eq 0 || " $* " == *" $(basename "$patch" .patch) "* ]]; then
            printf '%s\n' "$PWD/$patch"
            found=true
        fi
    done
    "$found" || fail "no patch in $folder is named $*"
}
