#!/bin/bash
# The node at work on loopback: a PACS (Orthanc), the receiver, the pipeline, and a real CTA sent by C-STORE.
# Called by `node.sh demo [--keep | --stop]` after the build. Ends with 0 only when every result is in the PACS.
set -euo pipefail
SOURCE=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/../..")
BIN=${CARDIONODE_BIN:-$SOURCE/build/release/bin}
DEMO=${CARDIONODE_DEMO_FOLDER:-$SOURCE/build/demo}
LONGEST=${CARDIONODE_DEMO_SECONDS:-1200}  # for the study, from the first image to the last result
PATH=$PATH:/usr/sbin:/usr/local/sbin      # where Debian has Orthanc

LOGS='receiver pipeline orthanc'
STOP='./node.sh demo --stop'
. "$SOURCE/conf/demo/programs.sh"

fill_in() {  # template, target
    sed -e "s|@DEMO@|$DEMO|g" -e "s|@SOURCE@|$SOURCE|g" -e "s|@BUNDLE@|$BUNDLE|g" -e "s|@NODE_PORT@|$NODE_PORT|g" \
        -e "s|@PACS_PORT@|$PACS_PORT|g" -e "s|@HTTP_PORT@|$HTTP_PORT|g" "$1" >"$2"
}

case ${1:-} in
    --keep) KEEP=yes ;;
    --stop)
        stop_programs
        exit 0
        ;;
    '') ;;
    *) fail "unknown word: $1" ;;
esac

# --- a fresh folder; what an earlier demo left running is stopped

stop_programs
rm -rf "$DEMO"
mkdir -p "$DEMO/pacs"
: >"$DEMO/pids"
stop_when_this_ends

NODE_PORT=$(free_port 21112)
PACS_PORT=$(free_port 24242)
HTTP_PORT=$(free_port 28042)
# The bundle that conf/node.yaml names, from the source tree.
NAME=$(sed -n 's|^  bundle: *\([^ ]*\).*|\1|p' "$SOURCE/conf/node.yaml")
BUNDLE=${CARDIONODE_DEMO_BUNDLE:-$SOURCE/models/bundles/$(basename "$NAME")}
fill_in "$SOURCE/conf/demo/node.yaml" "$DEMO/node.yaml"
fill_in "$SOURCE/conf/demo/orthanc.json" "$DEMO/orthanc.json"
tar -xJf "$SOURCE/tests/data/cta/cta.tar.xz" -C "$DEMO"

say "Settings: $DEMO/node.yaml"
"$BIN/cardionode" check --config "$DEMO/node.yaml" || fail "the settings are wrong"

say "Starting the PACS (Orthanc): DICOM port $PACS_PORT, http://127.0.0.1:$HTTP_PORT"
start orthanc Orthanc "$DEMO/orthanc.json"
wait_until 60 "the PACS" curl -sf "http://127.0.0.1:$HTTP_PORT/system"
say "Starting cardionode-scp: DICOM port $NODE_PORT"
start receiver "$BIN/cardionode-scp" --config "$DEMO/node.yaml"
wait_until 30 "the receiver" echoscu -aec CARDIONODE 127.0.0.1 "$NODE_PORT"
say "Starting cardionode-pipeline: bundle $(basename "$BUNDLE")"
start pipeline "$BIN/cardionode-pipeline" --config "$DEMO/node.yaml"

say "Sending a CTA of 164 slices, as a scanner does: to the PACS and to the node"
storescu -aet SCANNER1 -aec DEMOPACS 127.0.0.1 "$PACS_PORT" +sd "$DEMO/cta" || fail "the PACS did not take the CTA"
storescu -aet SCANNER1 -aec CARDIONODE 127.0.0.1 "$NODE_PORT" +sd "$DEMO/cta" || fail "the node did not take the CTA"

# --- progress

BEGAN=$SECONDS
shown=''
key='' state='' images=0 error=''
while true; do
    all_run || fail "a program ended while the study was on its way"
    "$BIN/cardionode" studies --config "$DEMO/node.yaml" --json >"$DEMO/studies.json" 2>>"$DEMO/demo.log" || true
    IFS=$'\t' read -r key state images error < <("$SOURCE/conf/demo/report.py" state "$DEMO/studies.json" 2>/dev/null) || true
    now="$state"
    if [ "$state" = processing ]; then
        # The pipeline's log names the stage it is in.
        stage=$(grep -o 'stage=[a-z_]*' "$DEMO/pipeline.log" | tail -n 1 || true)
        now="$state ${stage#stage=}"
    fi
    if [ -n "$now" ] && [ "$now" != "$shown" ]; then
        printf '   %4d s  study %s: %s, %s images\n' $((SECONDS - BEGAN)) "$key" "$now" "$images"
        shown=$now
    fi
    case $state in
        done) break ;;
        set_aside) fail "study $key was set aside: $error" ;;
    esac
    [ $((SECONDS - BEGAN)) -lt "$LONGEST" ] || fail "the study was not done within $LONGEST s"
    sleep 0.3
done

# --- what came back

"$BIN/cardionode" show "$key" --config "$DEMO/node.yaml" --json >"$DEMO/study.json" || fail "cardionode show $key"
"$SOURCE/conf/demo/report.py" table "$DEMO/study.json" "http://127.0.0.1:$HTTP_PORT" || fail "the PACS lacks results"
overview=$(find "$DEMO/work" -name 'overview*.png' | sort | tail -n 1)
[ -s "$overview" ] || fail "no overview picture"
printf '\nOverview picture: %s\n' "$overview"
printf 'More: %s show %s --config %s\n' "$BIN/cardionode" "$key" "$DEMO/node.yaml"
printf 'Research use only: this result is no basis for any decision on a patient.\n'
