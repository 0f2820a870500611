# shellcheck shell=bash
# Programs that a demo starts, and how they end. For demo.sh and fed.sh, which set DEMO (the folder), LOGS (names of
# logs to show after a failure) and STOP (the words that stop what --keep left) before they read this.
# Each program is noted in $DEMO/pids, so that a later run finds what an earlier one left.

say() { printf '== %s\n' "$*"; }
fail() {
    printf 'The demo failed: %s\n' "$*" >&2
    local log
    for log in $LOGS; do
        if [ -s "$DEMO/$log.log" ]; then
            echo "--- the end of $DEMO/$log.log"
            tail -n 15 "$DEMO/$log.log"
        fi >&2
    done
    exit 1
}

ours() {  # is process $1 one that a demo in this folder started?
    tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -qF "$DEMO/"
}
stop_one() {  # SIGKILL only if it does not stop within 20 s
    ours "$1" || return 0
    kill -TERM "$1" 2>/dev/null || return 0
    for _ in $(seq 200); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$1" 2>/dev/null || true
}
stop_programs() {  # newest first
    [ -f "$DEMO/pids" ] || return 0
    local pid
    for pid in $(tac "$DEMO/pids"); do stop_one "$pid"; done
    rm -f "$DEMO/pids"
}
KEEP=no
on_exit() {
    local status=$?
    trap - EXIT INT TERM
    if [ "$KEEP" = yes ] && [ "$status" -eq 0 ]; then
        say "Left running, as asked. To stop: $STOP"
    else
        stop_programs
    fi
    exit "$status"
}
stop_when_this_ends() {
    trap on_exit EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_port() {  # the first one from $1 that nobody listens on
    local port=$1
    while listens "$port"; do port=$((port + 1)); done
    echo "$port"
}
start() {  # log name, words...; STARTED is its process
    local log=$DEMO/$1.log
    shift
    TCP_NODELAY=1 setsid "$@" >"$log" 2>&1 </dev/null &
    STARTED=$!
    echo $STARTED >>"$DEMO/pids"
}
all_run() {
    local pid
    while read -r pid; do kill -0 "$pid" 2>/dev/null || return 1; done <"$DEMO/pids"
}
wait_until() {  # seconds, what for, words...
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "no sign of $what"
        all_run || fail "a program ended while waiting for $what"
        sleep 0.1
    done
}
