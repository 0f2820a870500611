#!/bin/bash
# Boots systemd in a container of this machine's own /usr (systemd-nspawn: nothing is downloaded, nothing stays), and
# shows that the installed units start and work there under all their restrictions.
#
# usage: boot_units.sh SOURCE BIN    exit 0: all held; 1: something did not, with its name; 77: cannot be tried here
# Not shown here: the limits of the resource controllers and of devices (MemoryMax, TasksMax, CPUWeight, DeviceAllow,
# IPAddressDeny), which a container in a container may not set; a GPU.
set -eu
source_folder=$1 bin=$2
skip() { echo "skipped: $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root"
for program in systemd-nspawn nsenter echoscu storescu curl; do
    command -v $program >/dev/null || skip "$program is not installed"
done

stage=$(mktemp -d)
machine="cardionode-test-$$"
nspawn=
finish() {
    set +e  # what is gone already is no failure, and the exit code stays that of the test
    [ -z "$nspawn" ] || { kill "$nspawn" 2>/dev/null; sleep 1; kill "$nspawn" 2>/dev/null; wait "$nspawn" 2>/dev/null; }
    rm -rf "$stage"
} >/dev/null 2>&1
trap finish EXIT
fail() {
    echo "FAILED: $*"
    inside journalctl --no-pager -n 40 -t cardionode-scp -t cardionode-pipeline -t systemd | grep -i cardionode || true
    inside systemctl status --no-pager -l "cardionode-*" || true
    exit 1
}

# --- installed as an administrator does it
DESTDIR=$stage cmake -DCMAKE_INSTALL_PREFIX=/usr/local "-DCARDIONODE_SOURCE_DIR=$source_folder" \
    -P "$source_folder/systemd/install.cmake" >/dev/null
mkdir -p "$stage/usr/local/bin" "$stage/usr/local/share/cardionode"
cp "$bin"/cardionode-scp "$stage/usr/local/bin/"
units=(cardionode-scp)
if [ -x "$bin/cardionode-pipeline" ]; then
    cp "$bin"/cardionode-pipeline "$bin"/cardionode-decode "$stage/usr/local/bin/"
    units+=(cardionode-pipeline)
fi
# The small network of the tests: the shipped one is not what is looked at.
mkdir -p "$stage/usr/local/share/cardionode/bundles"
cp -r "$source_folder/tests/data/quick_bundle" "$stage/usr/local/share/cardionode/bundles/"
cat > "$stage/etc/cardionode/node.yaml" <<Y
scp:
  min_free_mib: 1
  journal_spare_mib: 0
  series_quiet_seconds: 1
  study_quiet_seconds: 1
pipeline:
  bundle: /usr/local/share/cardionode/bundles/quick_bundle
  device: cpu
  threads: 1
audit:
  host: 127.0.0.1
  port: 6514
  transport: tcp
metrics:
  receiver_port: 9404
  pipeline_port: 9405
Y
mkdir -p "$stage/usr/local/lib/systemd/system/cardionode-scp.service.d"
printf '[Service]\nWatchdogSec=4\n' > "$stage/usr/local/lib/systemd/system/cardionode-scp.service.d/test.conf"

# --- boots
systemd-nspawn -q -D / --volatile=yes --boot --private-network --register=no --keep-unit --console=pipe \
    --machine="$machine" --bind-ro="$stage/usr/local:/usr/local" --bind-ro="$stage/etc/cardionode:/etc/cardionode" \
    --bind-ro=/etc/alternatives \
    systemd.unit=basic.target systemd.mask=systemd-networkd-wait-online.service >"$stage/boot" 2>&1 </dev/null &
nspawn=$!
leader=
inside() { nsenter -t "$leader" -m -p -u -i -n -C "$@"; }
until_true() {  # seconds command...
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}
booted() {
    leader=$(pgrep -P "$nspawn" -x systemd) || return 1
    # Says "degraded" with a failure's exit code: other services of this machine need not work here.
    inside systemctl is-system-running 2>&1 | cat | grep -qE '^(running|degraded|starting)$'
}
until_true 40 booted || skip "systemd does not boot in a container here: $(tail -1 "$stage/boot")"
until_true 40 inside test -d /var/lib/cardionode/audit || fail "systemd-tmpfiles did not make the folders"

# --- the receiver
timeout 60 nsenter -t "$leader" -m -p -u -i -n -C systemctl start cardionode-scp || fail "cardionode-scp does not start"
pid=$(inside systemctl show -P MainPID cardionode-scp)
status() { inside cat "/proc/$pid/status"; }
status | grep -qP "^Uid:\t$(inside id -u cardionode-scp)\t" || fail "the receiver does not run as its own user"
status | grep -qP '^CapEff:\t0{16}$' || fail "the receiver has capabilities"
status | grep -qP '^NoNewPrivs:\t1$' || fail "the receiver may gain privileges"
status | grep -qP '^Seccomp:\t2$' || fail "the receiver's system calls are not filtered"
for path in /etc /usr/local/bin /var/lib/cardionode/work /home; do
    ! inside nsenter -t "$pid" -m -- touch "$path/probe" 2>/dev/null || fail "$path can be written in the receiver's view"
done
inside nsenter -t "$pid" -m -- touch /var/lib/cardionode/spool/probe || fail "the receiver cannot write its spool"
inside rm -f /var/lib/cardionode/spool/probe
inside echoscu -aec CARDIONODE 127.0.0.1 11112 || fail "no answer to C-ECHO"
mkdir "$stage/usr/local/share/images"
tar -xJf "$source_folder/tests/data/cta/cta.tar.xz" -C "$stage/usr/local/share/images"
inside bash -c 'storescu -aec CARDIONODE +sd +r 127.0.0.1 11112 /usr/local/share/images' || fail "C-STORE failed"
metric() { inside curl -sf "http://127.0.0.1:$1/metrics" | grep -F "$2"; }
all_indexed() {
    local stored
    stored=$(metric 9404 'cardionode_instances_indexed_total{outcome="stored"}' | cut -d' ' -f2)
    [ "$stored" -gt 0 ] && [ "$stored" = "$(metric 9404 cardionode_instances_acknowledged_total | grep -v '#' | cut -d' ' -f2)" ]
}
until_true 30 all_indexed || fail "what was acknowledged was not indexed: $(inside curl -s http://127.0.0.1:9404/metrics | grep instances)"
inside curl -sf http://127.0.0.1:9404/health/ready >/dev/null || fail "the receiver is not ready"
inside bash -c 'grep -l "DICOM Instances Transferred" /var/lib/cardionode/audit/*-cardionode-scp.audit' >/dev/null ||
    until_true 20 inside bash -c 'grep -l "DICOM Instances Transferred" /var/lib/cardionode/audit/*.audit' ||
    fail "the transfer was not audited"

# --- its watchdog: a supervisor that hangs is ended and started again
inside kill -STOP "$pid"
restarted() { [ "$(inside systemctl show -P NRestarts cardionode-scp)" -gt 0 ] && inside systemctl is-active -q cardionode-scp; }
until_true 60 restarted || fail "the watchdog did not start the receiver again"
inside echoscu -aec CARDIONODE 127.0.0.1 11112 || fail "no answer after the watchdog"

# --- the pipeline
if [ ${#units[@]} = 2 ]; then
    timeout 120 nsenter -t "$leader" -m -p -u -i -n -C systemctl start cardionode-pipeline ||
        fail "cardionode-pipeline does not start"
    pid=$(inside systemctl show -P MainPID cardionode-pipeline)
    status | grep -qP "^Uid:\t$(inside id -u cardionode-pipeline)\t" || fail "the pipeline does not run as its own user"
    status | grep -qP '^Seccomp:\t2$' || fail "the pipeline's system calls are not filtered"
    ! inside nsenter -t "$pid" -m -- touch /var/lib/cardionode/spool/probe 2>/dev/null ||
        fail "the pipeline can write the spool"
    settled() { metric 9405 cardionode_studies_ | grep -E '^cardionode_studies_(finished_total|failed_total\{kind="reject"\}) [1-9]'; }
    until_true 150 settled || fail "the study was not analysed"
    inside systemctl stop cardionode-pipeline
    [ "$(inside systemctl show -P Result cardionode-pipeline)" = success ] || fail "the pipeline did not end cleanly"
fi
inside systemctl stop cardionode-scp
[ "$(inside systemctl show -P Result cardionode-scp)" = success ] || fail "the receiver did not end cleanly"
echo "shown: ${units[*]}"
