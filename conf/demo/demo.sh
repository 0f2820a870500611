#!/bin/bash
# The node at work on loopback: a PACS (Orthanc), the receiver, the pipeline, and a real CTA sent by C-STORE.
# Called by `node.sh demo [--keep]` after the build. Ends with 0 only when every result is in the PACS.
set -euo pipefail
SOURCE=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/../..")
BIN=${CARDIONODE_BIN:-$SOURCE/build/release/bin}
DEMO=${CARDIONODE_DEMO_FOLDER:-$SOURCE/build/demo}
LONGEST=${CARDIONODE_DEMO_SECONDS:-900}
KEEP=no
[ "${1:-}" = --keep ] && KEEP=yes

PIDS=()
say() { printf '== %s\n' "$*"; }
fail() {
    printf 'The demo failed: %s\n' "$*" >&2
    local log
    for log in receiver pipeline orthanc; do
        [ -s "$DEMO/$log.log" ] && { echo "--- the end of $DEMO/$log.log"; tail -n 15 "$DEMO/$log.log"; } >&2
    done
    exit 1
}

stop_all() {  # newest first; SIGKILL only for what does not stop
    local status=$? pid i
    trap - EXIT INT TERM
    for ((i = ${#PIDS[@]} - 1; i >= 0; i--)); do
        pid=${PIDS[i]}
        kill -TERM "$pid" 2>/dev/null || continue
        for _ in $(seq 150); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    exit "$status"
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_port() {  # the first one from $1 that nobody listens on
    local port=$1
    while listens "$port"; do port=$((port + 1)); done
    echo "$port"
}
fill_in() {  # template, target
    sed -e "s|@DEMO@|$DEMO|g" -e "s|@SOURCE@|$SOURCE|g" -e "s|@NODE_PORT@|$NODE_PORT|g" \
        -e "s|@PACS_PORT@|$PACS_PORT|g" -e "s|@HTTP_PORT@|$HTTP_PORT|g" "$1" >"$2"
}
start() {  # log name, words...
    local log=$DEMO/$1.log
    shift
    TCP_NODELAY=1 "$@" >"$log" 2>&1 </dev/null &
    PIDS+=($!)
}
wait_until() {  # seconds, what for, words...
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "no sign of $what"
        for pid in "${PIDS[@]}"; do kill -0 "$pid" 2>/dev/null || fail "a program ended while waiting for $what"; done
        sleep 0.1
    done
}
pacs() { curl -sf "http://127.0.0.1:$HTTP_PORT$1"; }
