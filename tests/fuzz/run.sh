#!/bin/sh
# Runs every fuzz target of a build folder for some seconds each, from the
# seeds in tests/fuzz/corpus/NAME. A crash leaves its input in the build folder
# and ends in status 1.
#
#     tests/fuzz/run.sh BUILD_FOLDER SECONDS
set -eu
build=$1
seconds=$2
here=$(dirname "$0")
failed=0
ran=0

for bin in "$build"/tests/fuzz/fuzz_*; do
        case $bin in *.*) continue ;; esac
        [ -x "$bin" ] || continue
        name=$(basename "$bin")
        name=${name#fuzz_}
        found=$build/corpus/$name
        seeds=$here/corpus/$name
        mkdir -p "$found"
        [ -d "$seeds" ] || seeds=""
        log=$build/fuzz_$name.txt
        ran=$((ran + 1))
        if "$bin" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2560 -max_len=65536 -print_final_stats=1 \
                -artifact_prefix="$build/fuzz_$name-" "$found" $seeds >"$log" 2>&1; then
                echo "fuzz $name: ok, $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
        else
                echo "fuzz $name: FAILED, see $log"
                grep -v '^#' "$log" | head -40
                failed=1
        fi
done
if [ $ran = 0 ]; then
        echo "fuzz: no target in $build/tests/fuzz" >&2
        exit 1
fi
exit $failed
