#!/usr/bin/env bash
# Builds the image without a Docker engine and without a registry, and tries it: a binary from this
# machine's Rust, the last stage of docker/Dockerfile, Debian's buildah. Needs root, rustup,
# and the packages buildah, musl-tools, ca-certificates and curl.
#
#   docker/build-local.sh [IMAGE]         PROFILE=dev builds faster
set -euo pipefail
cd "$(dirname "$0")/.."

image=${1:-localhost/forebay}
profile=${PROFILE:-release}
target=$(uname -m)-unknown-linux-musl
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=${STORAGE_DRIVER:-vfs} CARGO_PROFILE_RELEASE_STRIP=symbols

work=$(mktemp -d)
containers=()
server=
tidy() {
    [[ -z $server ]] || kill -9 "$server" 2>/dev/null || true
    for container in "${containers[@]}"; do
        buildah umount "$container" >/dev/null 2>&1 || true
        buildah rm "$container" >/dev/null 2>&1 || true
    done
    rm -rf "$work"
}
trap tidy EXIT

fail() { echo "build-local: $*" >&2; exit 1; }

# A fresh container of an image, or of nothing, to be removed at the end.
from() {
    container=$(buildah from "$1")
    containers+=("$container")
}

binary() {
    rustup target list --installed | grep -qx "$target" || rustup target add "$target"
    cargo build --locked --bin forebay --profile "$profile" --target "$target"
    local folder=$profile
    [[ $profile != dev ]] || folder=debug
    install -D "${CARGO_TARGET_DIR:-target}/$target/$folder/forebay" "$work/out/forebay"
    install -D -m 644 docker/forebay.toml "$work/out/config/forebay.toml"
    install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$work/out/etc/ssl/certs/ca-certificates.crt"
    chmod 755 "$work" "$work/out"
}

# The files as an image, which takes the place of the stage that compiles.
files() {
    from scratch
    buildah copy -q "$container" "$work/out" /out >/dev/null
    buildah commit -q "$container" localhost/forebay-files >/dev/null
}

# The stage that compiles is not needed then, and so neither run nor its base image pulled.
build() {
    buildah bud -q --force-rm --no-cache --format docker --build-arg FILES=localhost/forebay-files \
        -f docker/Dockerfile -t "$image" . >/dev/null
    # Some versions remove it themselves.
    buildah rmi localhost/forebay-files >/dev/null 2>&1 || true
}

# Waits at most five seconds for a command to succeed.
await() {
    for _ in {1..50}; do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    return 1
}

try() {
    from "$image"
    local root
    root=$(buildah mount "$container")
    forebay() { chroot --userspec=65532:65532 "$root" /forebay "$@"; }
    [[ $(buildah inspect --type image --format '{{.Docker.Config.User}}' "$image") == 65532:65532 ]] \
        || fail "it would run as root"
    [[ $(buildah inspect --type image --format '{{.Docker.Config.Healthcheck.Test}}' "$image") == *healthcheck* ]] \
        || fail "it has no health check"
    buildah run --user 65532 "$container" -- /forebay --version
    forebay check
    local port=${PORT:-18080} admin=127.0.0.1:${ADMIN_PORT:-19900}
    ! forebay healthcheck --admin "$admin" 2>/dev/null || fail "healthy before it was started"
    chroot --userspec=65532:65532 "$root" /forebay proxy --from "127.0.0.1:$port" --to 127.0.0.1:1 --admin "$admin" \
        2>"$work/log" &
    server=$!
    await forebay healthcheck --admin "$admin" || { cat "$work/log" >&2; fail "not ready within five seconds"; }
    local status
    status=$(curl -s -o /dev/null -w '%{http_code}' --noproxy '*' "http://127.0.0.1:$port/")
    [[ $status == 502 ]] || fail "502 was expected of an endpoint that is not there, and $status came"
    kill -TERM "$server"
    local code=0
    wait "$server" || code=$?
    server=
    [[ $code == 0 ]] || fail "drained with exit code $code"
    ! forebay healthcheck --admin "$admin" 2>/dev/null || fail "healthy after it was stopped"
}

binary
files
build
try
echo "$image works: $(stat -c %s "$work/out/forebay") bytes of binary"
