#!/bin/bash
# Second act of the demo: two hospitals and a coordinator on loopback make a model better in two rounds, over mutual
# TLS. Called by `node.sh demo fed [--keep | --stop]` after the build. Ends with 0 only when both rounds are done, the
# model is better in each hospital, only TLS 1.3 was spoken and nothing of a patient was in any message.
set -euo pipefail
SOURCE=$(readlink -f "$(dirname "${BASH_SOURCE[0]}")/../..")
BIN=${CARDIONODE_BIN:-$SOURCE/build/release/bin}
DEMO=${CARDIONODE_DEMO_FOLDER:-$SOURCE/build/demo-fed}
BUNDLE=${CARDIONODE_DEMO_BUNDLE:-$SOURCE/models/bundles/heart-root-unet16}
LONGEST=${CARDIONODE_DEMO_SECONDS:-1200}  # for the two rounds
STUDIES=${CARDIONODE_DEMO_STUDIES:-10}    # a hospital
STEPS=${CARDIONODE_DEMO_STEPS:-60}        # of a round, at each hospital
ROUNDS=2
HOSPITALS='north south'
LOGS='coordinator north south'
STOP='./node.sh demo fed --stop'
TOOLS=$SOURCE/conf/demo
. "$TOOLS/programs.sh"

case ${1:-} in
    --keep) KEEP=yes ;;
    --stop)
        stop_programs
        exit 0
        ;;
    '') ;;
    *) fail "unknown word: $1" ;;
esac
/usr/bin/python3 -c 'import numpy' 2>/dev/null || fail "python3-numpy is not installed"

stop_programs
rm -rf "$DEMO"
mkdir -p "$DEMO"
: >"$DEMO/pids"
stop_when_this_ends
BEGAN=$SECONDS
took() { printf '   %4d s  %s\n' $((SECONDS - BEGAN)) "$*"; }

# --- keys and certificates, studies, initial model

say "Certificates: a private authority, the server, two hospitals; the consortium's signing key. All new"
"$TOOLS/certificates.sh" "$DEMO/tls" $HOSPITALS || fail "no certificates"

say "Drawing $STUDIES patients for each hospital: DICOM series of phantoms, a scanner of its own, partly labelled"
start draw-north "$TOOLS/fed_hospital.sh" "$DEMO/north" "$BIN" north "$STUDIES" sharp 101 heart hps/2
north=$STARTED
start draw-south "$TOOLS/fed_hospital.sh" "$DEMO/south" "$BIN" south "$STUDIES" low_kilovolt 205 hps heart/2
south=$STARTED
for hospital in $HOSPITALS; do
    wait "${!hospital}" || {
        LOGS="draw-$hospital"
        fail "no studies for $hospital"
    }
done
: >"$DEMO/pids"
took "north: sharp kernel, hearts drawn in all, points set in half; south: low kilovolt, the other way round"

ARCHITECTURE=$("$TOOLS/fed_setup.py" initial "$BUNDLE" "$DEMO/initial.safetensors" heart hps) || fail "no initial model"
took "initial model: the body of $(basename "$BUNDLE"), heads that know nothing yet"

# --- settings, consent

PORT=$(free_port 28443)
fill_in() {  # template, target, hospital
    sed -e "s|@DEMO@|$DEMO|g" -e "s|@SOURCE@|$SOURCE|g" -e "s|@BUNDLE@|$BUNDLE|g" -e "s|@PORT@|$PORT|g" \
        -e "s|@HOSPITAL@|$3|g" -e "s|@PIN@|$(cat "$DEMO/tls/server.pin")|g" \
        -e "s|@NEXT_PIN@|$(cat "$DEMO/tls/next.pin")|g" \
        -e "s|@ARCHITECTURE@|$ARCHITECTURE|g" -e "s|@STEPS@|$STEPS|g" -e "s|@ROUNDS@|$ROUNDS|g" "$1" >"$2"
}
fill_in "$TOOLS/fed-coordinator.yaml" "$DEMO/coordinator.yaml" ''
for hospital in $HOSPITALS; do
    fill_in "$TOOLS/fed-node.yaml" "$DEMO/$hospital.yaml" "$hospital"
    "$BIN/cardionode" check --config "$DEMO/$hospital.yaml" >"$DEMO/check.log" 2>&1 || {
        LOGS=check
        fail "the settings of $hospital are wrong"
    }
    "$BIN/cardionode" fed consent --yes --config "$DEMO/$hospital.yaml" >"$DEMO/consent-$hospital.txt" ||
        fail "no consent of $hospital"
done
say "Each hospital has read what would leave it and agreed: $DEMO/consent-north.txt"

# --- the rounds

CAPTURE=''
if [ "$(id -u)" -eq 0 ]; then
    start capture "$TOOLS/capture.py" "$DEMO/traffic.pcap" "$PORT"
    CAPTURE=$STARTED
    until grep -q capturing "$DEMO/capture.log" 2>/dev/null; do
        kill -0 "$CAPTURE" 2>/dev/null || {
            CAPTURE=''
            sed -i '$d' "$DEMO/pids"
            break
        }
        sleep 0.1
    done
fi
start collect "$TOOLS/no_patient_data.py" collect "$DEMO/coordinator" "$DEMO/north/fedclient/messages" \
    "$DEMO/south/fedclient/messages" "$DEMO/objects"
COLLECT=$STARTED
say "Starting cardionode-fedcoord on https://localhost:$PORT, and cardionode-fedclient in each hospital"
start coordinator "$BIN/cardionode-fedcoord" run "$DEMO/coordinator.yaml" --state "$DEMO/coordinator"
wait_until 30 "the coordinator" listens "$PORT"
for hospital in $HOSPITALS; do
    start "$hospital" "$BIN/cardionode-fedclient" --now --config "$DEMO/$hospital.yaml"
done

ROUNDS_BEGAN=$SECONDS
shown=0
run=''
while [ "$run" != finished ]; do
    all_run || fail "a program ended while the rounds were under way"
    if "$BIN/cardionode-fedcoord" status --json --state "$DEMO/coordinator" >"$DEMO/status.part" 2>>"$DEMO/status.log"
    then
        mv "$DEMO/status.part" "$DEMO/coordinator.json"
        now=$("$TOOLS/fed_report.py" progress "$DEMO/coordinator.json" || true)
        if [ -n "$now" ] && [ "$now" != "$shown" ]; then
            took "$(tail -n 1 <<<"$now")"
            shown=$now
        fi
        run=$(sed -n 's/^ "run": "\([a-z ]*\)".*/\1/p' "$DEMO/coordinator.json")
    fi
    [ $((SECONDS - ROUNDS_BEGAN)) -lt "$LONGEST" ] || fail "the rounds were not done within $LONGEST s"
    sleep 0.5
done

# --- what came of it

for hospital in $HOSPITALS; do
    "$BIN/cardionode" fed history --json --config "$DEMO/$hospital.yaml" >"$DEMO/$hospital.json" ||
        fail "cardionode fed history of $hospital"
done
GOOD=yes
"$TOOLS/fed_report.py" table "$DEMO" "$ROUNDS" "$DEMO/rounds.png" $HOSPITALS || GOOD='the model is not better'

printf '\nWhat an eavesdropper on the line has seen\n'
if [ -n "$CAPTURE" ]; then
    stop_one "$CAPTURE"
    "$TOOLS/tls_only.py" "$DEMO/traffic.pcap" "$PORT" || GOOD='not only TLS 1.3 was spoken'
    printf '  capture: %s (%s)\n' "$DEMO/traffic.pcap" "$(tail -n 1 "$DEMO/capture.log")"
else
    printf '  skipped: only root may capture packets\n'
fi

printf '\nPatients in what was exchanged, read in plain text as sender and receiver hold it\n'
stop_one "$COLLECT"
"$TOOLS/no_patient_data.py" check "$DEMO/objects" "$DEMO"/*/archive -- \
    "$DEMO"/*/fedclient/studies/demo-root/*.safetensors ||
    GOOD='something of a patient is in a message'

[ "$GOOD" = yes ] || fail "$GOOD"
printf '\nOne hospital: %s fed history --config %s\n' "$BIN/cardionode" "$DEMO/north.yaml"
printf 'The whole act took %d s. Research use only.\n' $((SECONDS - BEGAN))
