#!/bin/sh
# Runs every fuzz target of a build folder for some seconds each, one per core at
# a time, from the seeds in tests/fuzz/corpus/NAME. A crash leaves its input in
# the build folder and ends in status 1.
#
#     tests/fuzz/run.sh BUILD_FOLDER SECONDS [TARGET]
set -eu
build=$1
seconds=$2
here=$(dirname "$0")

# One target: a line of its own, however many run beside it.
run_one() {
        name=$1
        found=$build/corpus/$name
        seeds=$here/corpus/$name
        log=$build/fuzz_$name.txt
        mkdir -p "$found"
        [ -d "$seeds" ] || seeds=""
        if "$build/tests/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2560 -max_len=65536 \
                -print_final_stats=1 -artifact_prefix="$build/fuzz_$name-" "$found" $seeds >"$log" 2>&1; then
                echo "fuzz $name: ok, $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
        else
                printf 'fuzz %s: FAILED, see %s\n%s\n' "$name" "$log" "$(sed -n '/ERROR/,$p' "$log" | head -40)"
                return 1
        fi
}

if [ $# -gt 2 ]; then
        run_one "$3"
        exit
fi
names=$(ls "$build/tests/fuzz" 2>/dev/null | sed -n 's/^fuzz_\([^.]*\)$/\1/p')
if [ -z "$names" ]; then
        echo "fuzz: no target in $build/tests/fuzz" >&2
        exit 1
fi
echo "$names" | xargs -P "$(nproc)" -n 1 "$0" "$build" "$seconds"
