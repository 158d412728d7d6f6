#!/bin/sh
# The input is one line of JSON on standard input; events are lines of JSON on standard output.
# What is not JSON on standard output becomes a log line, standard error is kept as it is.
set -eu
read -r input || true
samples=$(printf '%s' "$input" | sed -n 's/.*"samples":\([0-9]*\).*/\1/p')
samples=${samples:-1}

i=1
while :; do
        read -r load _ </proc/loadavg
        printf '{"type":"progress","progress":%d,"total":%d,"message":"load %s"}\n' "$i" "$samples" "$load"
        [ "$i" -ge "$samples" ] && break
        i=$((i + 1))
        sleep 1
done

memory=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)
if [ -z "$memory" ]; then
        echo '{"type":"error","code":"no_meminfo","message":"/proc/meminfo names no MemAvailable; this needs Linux 3.14 or later."}'
        exit 1
fi
read -r uptime _ </proc/uptime
printf '{"type":"text","text":"load %s, %s KiB of memory free"}\n' "$load" "$memory"
printf '{"type":"result","outputs":{"load_1m":%s,"memory_available_kib":%s,"uptime_seconds":%s}}\n' \
        "$load" "$memory" "${uptime%.*}"
