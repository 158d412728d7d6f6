#!/bin/sh
# Installs the real AI tools and MCP programs that the end-to-end tests drive: exactly
# what package-lock.json says, about 2 GB, into a cache that all clones of a machine
# share. Makes the link `installed` beside this file; installed/bin is what goes on PATH.
# Does nothing when all is there. Where the registry cannot be reached it says so and
# succeeds: the tests that need these programs are then skipped, the others run.
#
#   tests/peers/install.sh [--where]     PHOTON_PEERS_TIMEOUT=SECONDS (default 900)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
key=$( (cat "$here/package.json" "$here/package-lock.json" "$here/install.sh" && uname -m) | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}/photon-test-peers
dir=$cache/$key
limit=${PHOTON_PEERS_TIMEOUT:-900}

if [ "${1:-}" = --where ]; then
        echo "$dir"
        exit 0
fi

use() {
        # A link is changed by a rename: a test that runs meanwhile sees the old or the new one.
        ln -sfn "$dir" "$here/.installed.$$"
        mv -Tf "$here/.installed.$$" "$here/installed"
        touch "$dir/complete"
}

skip() {
        rm -f "$here/installed"
        {
                echo "peers: ************************************************************"
                echo "peers: $1"
                echo "peers: The tests with the real AI tools WILL BE SKIPPED. To have them,"
                echo "peers: run tests/peers/install.sh again where npm can install."
                echo "peers: ************************************************************"
        } >&2
        exit 0
}

if [ -e "$dir/complete" ]; then
        use
        exit 0
fi
for tool in npm node flock timeout; do
        command -v $tool >/dev/null || skip "there is no $tool on this machine"
done

mkdir -p "$cache"
exec 9>"$cache/lock"
flock -w "$limit" 9 || skip "another installation holds $cache/lock for over $limit s"
if [ -e "$dir/complete" ]; then # by whoever held the lock
        use
        exit 0
fi

echo "peers: installing the real AI tools into $dir (about 2 GB, one to five minutes)"
rm -rf "$cache"/new.*
new=$cache/new.$$
mkdir "$new"
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM
cp "$here/package.json" "$here/package-lock.json" "$new/"

# No install script of a package runs: native programs come as packages of their own. Not
# `npm ci`: an optional package for Windows is not in the registry, and ci wants it locked.
rc=0
(cd "$new" && timeout -k 10 "$limit" npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error \
        --fetch-retries=2 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=10000 \
        >"$new/npm.log" 2>&1 9>&-) || rc=$?
if [ $rc -ne 0 ]; then
        tail -n 15 "$new/npm.log" >&2
        # What a wrong lockfile says is ours to mend; all else is the machine's or the network's.
        if grep -qE 'code (EUSAGE|EINTEGRITY|ETARGET|ERESOLVE|EJSONPARSE|EINVALIDPACKAGENAME)' "$new/npm.log"; then
                echo "peers: package.json and package-lock.json are wrong, see above" >&2
                exit 1
        fi
        [ $rc -ne 124 ] || skip "npm did not finish within $limit s"
        skip "npm could not install (status $rc), see above"
fi

# What was installed is what is locked, no more and no other version.
(cd "$new" && node -e '
const locked = require("./package-lock.json").packages, got = require("./node_modules/.package-lock.json").packages;
const wrong = Object.keys(got).filter((k) => !locked[k] || locked[k].version !== got[k].version);
wrong.forEach((k) => console.error("peers: " + k + " " + got[k].version + " is not what package-lock.json says"));
process.exit(wrong.length ? 1 : 0);')

# One folder of commands; their #! line finds the node beside them.
modules=$new/node_modules
mkdir "$new/bin"
for name in claude-agent-acp codex-acp conformance gemini mcp-inspector mcp-server-everything mcp-server-filesystem; do
        ln -s "../node_modules/.bin/$name" "$new/bin/$name"
done
case $(uname -m) in
x86_64) arch=x64 triple=x86_64-unknown-linux-musl ;;
aarch64) arch=arm64 triple=aarch64-unknown-linux-musl ;;
*) skip "there are no packages for $(uname -m)" ;;
esac
link() {
        [ -x "$modules/$2" ] || skip "the packages hold no node_modules/$2"
        ln -s "../node_modules/$2" "$new/bin/$1"
}
link node "node-linux-$arch/bin/node"
link claude "@anthropic-ai/claude-code-linux-$arch/claude"
link codex "@openai/codex-linux-$arch/vendor/$triple/bin/codex"

rm -rf "$dir"
mv "$new" "$dir"
: >"$dir/complete"
use
# Versions of long ago; a clone that still wants one installs it again.
find "$cache" -mindepth 2 -maxdepth 2 -name complete -mtime +14 | while read -r old; do
        [ "$old" = "$dir/complete" ] || rm -rf "${old%/complete}"
done
echo "peers: installed in $(du -sh "$dir" | cut -f1)"
