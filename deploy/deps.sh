#!/bin/sh
# Installs the Debian packages that building needs, and those of the tests when
# called with "test", of the benchmarks with "bench". Does nothing when all are
# there; asks the network only for what is missing.
set -eu

build="gcc make libc6-dev libnng-dev libmbedtls-dev libprotobuf-c-dev protobuf-c-compiler libsqlite3-dev libcjson-dev
libuv1-dev libmicrohttpd-dev libgnutls28-dev libcurl4-openssl-dev libyaml-dev libseccomp-dev nettle-dev"
tests="clang clang-format libclang-rt-14-dev universal-ctags python3 curl jq openssl sqlite3 iproute2
systemd procps git chromium-headless-shell"
# The real AI tools of the tests come from npm (tests/peers/install.sh); any node that brings an npm will do.
command -v npm >/dev/null || tests="$tests nodejs npm"
# gRPC C++ is measured beside our RPC; nothing of ours is built on it.
bench="g++ pkg-config libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc python3"

wanted=$build
case "${1:-}" in
"") ;;
test) wanted="$build $tests" ;;
bench) wanted="$build $bench" ;;
*)
        echo "usage: deploy/deps.sh [test|bench]" >&2
        exit 64
        ;;
esac

if ! command -v dpkg-query >/dev/null; then
        echo "deps: this is no Debian; install what corresponds to:" $wanted >&2
        exit 1
fi
missing=""
for p in $wanted; do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)" != installed ]; then
                missing="$missing $p"
        fi
done
[ -n "$missing" ] || exit 0

echo "deps: installing$missing"
root=""
if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
                echo "deps: not root and no sudo; as root run: apt-get install$missing" >&2
                exit 1
        fi
        root=sudo
fi
install() {
        $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
}
# The lists are often there and fresh enough; a machine without network then
# still gets what its cache holds.
if ! install >/dev/null 2>&1; then
        if ! $root apt-get update -q || ! install; then
                echo "deps: could not install$missing" >&2
                echo "deps: is there a network, and does /etc/apt/sources.list name a Debian 12 mirror?" >&2
                exit 1
        fi
fi
