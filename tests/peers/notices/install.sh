#!/bin/sh
# Installs smtp-server and standardwebhooks, exactly what package-lock.json says (a few MB), into a cache that all clones of a
# machine share, and prints the folder. Where npm or the registry is not there it says so and prints nothing: the
# tests that need it are then skipped.
#
#   tests/peers/notices/install.sh     PHOTON_PEERS_TIMEOUT=SECONDS (default 120)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
key=$(cat "$here/package.json" "$here/package-lock.json" | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}/photon-test-peers
dir=$cache/notices-$key

skip() {
        echo "peers: $1. THE TESTS WITH smtp-server and standardwebhooks WILL BE SKIPPED." >&2
        exit 0
}

if [ ! -e "$dir/complete" ]; then
        for tool in npm node flock timeout; do
                command -v $tool >/dev/null || skip "there is no $tool on this machine"
        done
        mkdir -p "$cache"
        exec 9>"$cache/notices.lock"
        flock -w "${PHOTON_PEERS_TIMEOUT:-120}" 9 || skip "another installation holds $cache/notices.lock"
        if [ ! -e "$dir/complete" ]; then # not by whoever held the lock
                rm -rf "$dir"
                mkdir -p "$dir"
                cp "$here/package.json" "$here/package-lock.json" "$dir/"
                # No install script of a package runs.
                (cd "$dir" && timeout -k 10 "${PHOTON_PEERS_TIMEOUT:-120}" npm ci --ignore-scripts --no-audit --no-fund \
                        --loglevel=error >npm.log 2>&1 9>&-) || skip "npm could not install smtp-server and standardwebhooks: $(tail -n 1 "$dir/npm.log")"
                touch "$dir/complete"
        fi
fi
echo "$dir"
