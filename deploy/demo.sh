#!/bin/sh
# make demo: a hub and three agents in a scratch folder, joined by token, and a real
# workflow on them. Everything is on loopback and gone afterwards; --keep leaves it running.
set -eu

keep=no
[ "${1:-}" = "--keep" ] && keep=yes
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${BUILD:-$root/build}
work=$(mktemp -d "${TMPDIR:-/tmp}/photon-demo.XXXXXX")
pids=""

stop() {
        status=$?
        trap - EXIT INT TERM
        if [ $status -ne 0 ]; then
                echo "demo: failed; the hub's log ends with:" >&2
                tail -n 20 "$work/hub.log" >&2 || true
        fi
        for p in $pids; do kill "$p" 2>/dev/null || true; done
        for p in $pids; do wait "$p" 2>/dev/null || true; done
        rm -rf "$work"
        exit $status
}
trap stop EXIT
trap 'exit 130' INT TERM

# Waits for a line in a file that a process of ours writes; fails when that process ends.
wait_line() { # PATTERN FILE PID
        until grep -q "$1" "$2" 2>/dev/null; do
                kill -0 "$3" 2>/dev/null || { echo "demo: ended early:" >&2; cat "$2" >&2; return 1; }
                sleep 0.05
        done
}

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "1. A hub: certificate authority, database, first admin"
export XDG_CONFIG_HOME="$work/config"
"$bin/photon-hub" init --data "$work/hub" --host localhost
PHOTON_TOKEN=$(sed -n 's/.*"token":"\([^"]*\)".*/\1/p' "$work/config/photon/context.json")
export PHOTON_TOKEN PHOTON_CA="$work/hub/pki/ca.crt"
"$bin/photon-hub" serve --data "$work/hub" --agent-listen 127.0.0.1:0 --api-listen 127.0.0.1:0 --advertise 127.0.0.1 \
        >"$work/ready" 2>"$work/hub.log" &
hub=$!
pids="$hub"
wait_line '^ready ' "$work/ready" "$hub"
cat "$work/ready"
PHOTON_HUB=$(sed -n 's/.* api=\(.*\)$/\1/p' "$work/ready")
export PHOTON_HUB

say "2. Three agents join with one token"
token=$("$bin/photon" token create --uses 3 --ttl 10m --label demo=yes)
for n in laptop server edge; do
        env -u PHOTON_TOKEN -u PHOTON_HUB -u PHOTON_CA PHOTON_JOIN_TOKEN="$token" \
                "$bin/photon-agent" run --data "$work/$n" --name "$n" --label "role=$n" --join "$token" \
                >"$work/$n.log" 2>&1 &
        pids="$pids $!"
done
until [ "$("$bin/photon" agents -o json | grep -o '"state": *"online"' | wc -l)" -eq 3 ]; do
        for p in $pids; do kill -0 "$p" || { cat "$work"/*.log >&2; exit 1; }; done
        sleep 0.1
done
"$bin/photon" agents

say "3. A workflow: fan out, collect, report"
cp "$root/deploy/examples/demo.yaml" "$work/demo.yaml"
cat "$work/demo.yaml"
echo
"$bin/photon" run "$work/demo.yaml" -i words="mission control for tool calls on machines people own" 2>"$work/run.err" || {
        cat "$work/run.err" >&2
        exit 1
}
run=$(grep -Eo '[0-9a-z]{26}' "$work/run.err" | head -n 1)

say "4. What it wrote, and why it went where it went"
"$bin/photon" logs "$run" report
"$bin/photon" explain "$run" report

say "The API is at $PHOTON_HUB/api/v1 (OpenAPI: /api/v1/openapi.json). README.md: the same on two machines."
if [ $keep = yes ]; then
        echo "Try:  export PHOTON_HUB=$PHOTON_HUB PHOTON_TOKEN=$PHOTON_TOKEN PHOTON_CA=$PHOTON_CA"
        echo "Ctrl-C ends it."
        wait "$hub"
fi
