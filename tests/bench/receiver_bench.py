#!/usr/bin/env python3
"""How fast cardionode-scp answers, beside receivers that everybody has: DCMTK's storescp and Orthanc.

usage: tests/bench/receiver_bench.py [--scp build/release/bin/cardionode-scp] [--associations 1,4,32] [--rounds 3]
           [--slices 300] [--receivers storescp,orthanc,cardionode] [--folder DIR] [--fresh] [--check] [--json FILE]

Each round runs the receivers one after the other, so that they meet the same machine; the table has the median of the
rounds. Every association sends its own slices (512 x 512 x 16 bit, 528 kB, its own UIDs) from memory over a plain
socket and waits for each answer, as a scanner does. All receivers get TCP_NODELAY=1: without it storescp and Orthanc
answer 20 times a second.
  storescp    storescp --fork +B -pdu 131072: writes the bytes as they come and syncs nothing
  orthanc     Orthanc with its default storage and index
  cardionode  answers when the instance is on the disk
Afterwards the number of instances that each receiver holds is compared with what it acknowledged: "lost" must be 0.
--check: also says which of the project's bars hold (BARS below); exit code 1 when one does not.
--fresh: do not wait until the receiver has prepared its journal files (spool/spare), which it does when it is idle.
"slowest/fastest" is the time of the slowest association over that of the fastest. Run it on a machine that does nothing
else; --folder chooses the disk.
"""
import argparse
import glob
import json
import os
import shutil
import signal
import socket
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
MAX_PDU = 131072
ROWS = 512
# (associations, figure, at least or below, what): the answer of cardionode is durable, storescp's is not.
BARS = [
    (1, "of_storescp", ">=", 0.8), (1, "of_orthanc", ">=", 3.0), (4, "of_storescp", ">=", 1.0),
    (4, "of_orthanc", ">=", 2.0), (4, "p99_ms", "<", 20.0), (32, "spread", "<", 3.0),
]  # fmt: skip


# --- a data set, without a DICOM library


def element(group, number, vr, value):
    if isinstance(value, str):
        value = value.encode()
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    if vr in ("OB", "OW", "SQ", "UN"):
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def us(group, number, value):
    return element(group, number, "US", struct.pack("<H", value))


def slice_of(study, number, pixels):
    """(SOP Instance UID, data set in Explicit VR Little Endian)"""
    uid = f"{study}.1.{number}"
    data = b"".join(
        [
            element(0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY\\AXIAL"),
            element(0x0008, 0x0016, "UI", CT_IMAGE),
            element(0x0008, 0x0018, "UI", uid),
            element(0x0008, 0x0060, "CS", "CT"),
            element(0x0010, 0x0010, "PN", "BENCHMARK"),
            element(0x0010, 0x0020, "LO", f"B{study[-9:]}"),
            element(0x0018, 0x0050, "DS", "0.5"),
            element(0x0020, 0x000D, "UI", study),
            element(0x0020, 0x000E, "UI", f"{study}.1"),
            element(0x0020, 0x0011, "IS", "1"),
            element(0x0020, 0x0013, "IS", str(number)),
            element(0x0020, 0x0032, "DS", f"-100\\-100\\{number * 0.5:g}"),
            element(0x0020, 0x0037, "DS", "1\\0\\0\\0\\1\\0"),
            us(0x0028, 0x0002, 1),
            element(0x0028, 0x0004, "CS", "MONOCHROME2"),
            us(0x0028, 0x0010, ROWS),
            us(0x0028, 0x0011, ROWS),
            us(0x0028, 0x0100, 16),
            us(0x0028, 0x0101, 16),
            us(0x0028, 0x0102, 15),
            us(0x0028, 0x0103, 1),
            element(0x7FE0, 0x0010, "OW", pixels),
        ]
    )
    return uid, data


def study_uid(round_number, receiver, association):
    return f"2.25.{os.getpid()}{time.time_ns() % 10**12}{round_number}{len(receiver)}{association:03d}"


# --- the upper layer and C-STORE, just enough of it


def item(kind, body):
    return struct.pack(">BBH", kind, 0, len(body)) + body


def associate_request(called):
    context = struct.pack(">BBBB", 1, 0, 0, 0) + item(0x30, CT_IMAGE.encode()) + item(0x40, EXPLICIT_LITTLE.encode())
    user = item(0x51, struct.pack(">I", MAX_PDU)) + item(0x52, b"2.25.1") + item(0x55, b"BENCH")
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), b"BENCH".ljust(16))
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user)
    return struct.pack(">BBI", 1, 0, len(body)) + body


def command_element(number, value):
    return struct.pack("<HHI", 0, number, len(value)) + value


def padded(uid):
    return uid.encode() + b"\0" * (len(uid) % 2)


def largest_pdu(accept):
    """What the receiver takes, from its A-ASSOCIATE-AC."""
    at = 68
    while at + 4 <= len(accept):
        kind, _, length = struct.unpack(">BBH", accept[at : at + 4])
        if kind == 0x50 and accept[at + 4] == 0x51:
            return min(struct.unpack(">I", accept[at + 8 : at + 12])[0] or MAX_PDU, MAX_PDU)
        at += 4 + length
    return 16384


def store_message(number, uid, data, max_pdu):
    """The PDUs of one C-STORE as a list of buffers."""
    short = lambda value: struct.pack("<H", value)
    body = command_element(2, padded(CT_IMAGE)) + command_element(0x100, short(1)) + command_element(0x110, short(number))
    body += command_element(0x700, short(0)) + command_element(0x800, short(1)) + command_element(0x1000, padded(uid))
    body = command_element(0, struct.pack("<I", len(body))) + body
    buffers = [struct.pack(">BBIIBB", 4, 0, len(body) + 6, len(body) + 2, 1, 3), body]
    room = max_pdu - 6
    view = memoryview(data)
    for at in range(0, len(data), room):
        part = view[at : at + room]
        last = 2 if at + room >= len(data) else 0
        buffers += [struct.pack(">BBIIBB", 4, 0, len(part) + 6, len(part) + 2, 1, last), part]
    return buffers


def receive(connection, size):
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError("the receiver closed the connection")
        data += part
    return bytes(data)


def receive_pdu(connection):
    kind, _, length = struct.unpack(">BBI", receive(connection, 6))
    return kind, receive(connection, length)


def status_of(pdu):
    at = 6
    while at + 8 <= len(pdu):
        group, number, length = struct.unpack("<HHI", pdu[at : at + 8])
        if (group, number) == (0, 0x900):
            return struct.unpack("<H", pdu[at + 8 : at + 10])[0]
        at += 8 + length
    return None


class Sender(threading.Thread):
    """One association that sends `slices`."""

    def __init__(self, port, called, slices, start):
        super().__init__()
        self.port, self.called, self.slices, self.start_together = port, called, slices, start
        self.latencies, self.acknowledged, self.problem, self.seconds = [], 0, None, 0.0

    def run(self):
        try:
            self.start_together.wait()
            begun = time.perf_counter()
            self.send()
            self.seconds = time.perf_counter() - begun
        except Exception as error:  # shown in the table's line
            self.problem = repr(error)

    def send(self):
        with socket.create_connection(("127.0.0.1", self.port), 60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(associate_request(self.called))
            kind, accept = receive_pdu(connection)
            if kind != 2:
                raise RuntimeError("the association was refused")
            max_pdu = largest_pdu(accept)
            for number, (uid, data) in enumerate(self.slices):
                buffers = store_message(number % 65535 + 1, uid, data, max_pdu)
                begun = time.perf_counter()
                while buffers:
                    sent = connection.sendmsg(buffers[:512])
                    while buffers and sent >= len(buffers[0]):
                        sent -= len(buffers.pop(0))
                    if sent:
                        buffers[0] = memoryview(buffers[0])[sent:]
                kind, body = receive_pdu(connection)
                self.latencies.append(time.perf_counter() - begun)
                if kind != 4 or status_of(body) != 0:
                    raise RuntimeError(f"instance {number} was answered with PDU type {kind}, not with success")
                self.acknowledged += 1
            connection.sendall(struct.pack(">BBII", 5, 0, 4, 0))
            receive_pdu(connection)


# --- the receivers


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Receiver:
    name, called = "", "BENCHSCP"

    def __init__(self, folder, arguments):
        self.folder, self.arguments = os.path.join(folder, self.name), arguments
        os.makedirs(self.folder)
        self.port, self.acknowledged = free_port(), 0
        self.process = subprocess.Popen(
            self.command(), stdout=open(self.folder + ".log", "w"), stderr=subprocess.STDOUT, env=dict(os.environ, TCP_NODELAY="1")
        )
        until = time.time() + 20
        while socket.socket().connect_ex(("127.0.0.1", self.port)) != 0:
            if time.time() > until or self.process.poll() is not None:
                sys.exit(f"{self.name} does not start: see {self.folder}.log")
            time.sleep(0.1)

    def ready(self):
        pass

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


class Storescp(Receiver):
    name, program = "storescp", "storescp"

    def command(self):
        return ["storescp", "--fork", "+B", "-pdu", str(MAX_PDU), "-aet", self.called, "-od", self.folder, str(self.port)]

    def held(self):
        return len(os.listdir(self.folder))


class Orthanc(Receiver):
    name, program = "orthanc", "Orthanc"

    def command(self):
        self.http = free_port()
        settings = {
            "StorageDirectory": self.folder, "IndexDirectory": self.folder, "Plugins": [], "HttpPort": self.http,
            "RemoteAccessAllowed": False, "DicomAet": self.called, "DicomPort": self.port, "DicomAlwaysAllowStore": True,
        }  # fmt: skip
        with open(self.folder + ".json", "w") as file:
            json.dump(settings, file)
        return ["Orthanc", self.folder + ".json"]

    def held(self):
        return json.load(urllib.request.urlopen(f"http://127.0.0.1:{self.http}/statistics"))["CountInstances"]


class Cardionode(Receiver):
    name, called = "cardionode", "CARDIONODE"

    def command(self):
        with open(self.folder + ".yaml", "w") as file:
            file.write(
                f"node:\n  spool: {self.folder}/spool\n  work: {self.folder}/work\n  database: {self.folder}/queue.db\n"
                f"scp:\n  port: {self.port}\n  max_associations: 64\n  min_free_mib: 256\n"
            )
        return [self.arguments.scp, "--config", self.folder + ".yaml"]

    def spare_bytes(self):
        return sum(os.path.getsize(f) for f in glob.glob(self.folder + "/spool/spare/*.spare"))

    def ready(self):
        """Until what came is indexed and the journal files are prepared again."""
        until = time.time() + 180
        while time.time() < until and self.held() < self.acknowledged:
            time.sleep(0.5)
        while time.time() < until and not self.arguments.fresh and self.spare_bytes() < self.arguments.spare_mib << 20:
            time.sleep(0.5)

    def held(self):
        try:
            with sqlite3.connect(f"file:{self.folder}/queue.db?mode=ro", uri=True, timeout=10) as queue:
                return queue.execute("SELECT count(*) FROM instances").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


# --- rounds and table


def run_round(receiver, associations, slices, round_number, pixels):
    receiver.ready()
    os.sync()
    barrier = threading.Barrier(associations + 1)
    senders = []
    for association in range(associations):
        study = study_uid(round_number, receiver.name, association)
        made = [slice_of(study, number + 1, pixels) for number in range(slices)]
        senders.append(Sender(receiver.port, receiver.called, made, barrier))
    for sender in senders:
        sender.start()
    begun = time.perf_counter()
    barrier.wait()
    for sender in senders:
        sender.join()
    seconds = time.perf_counter() - begun
    receiver.acknowledged += sum(s.acknowledged for s in senders)
    problems = [s.problem for s in senders if s.problem]
    if problems:
        print(f"{receiver.name}, {associations} associations: {problems[0]} ({len(problems)} in all)", file=sys.stderr)
    latencies = sorted(x for s in senders for x in s.latencies) or [float("nan")]
    times = [s.seconds for s in senders if not s.problem] or [float("nan")]
    return {
        "receiver": receiver.name, "associations": associations, "round": round_number,
        "per_second": sum(s.acknowledged for s in senders) / seconds, "p50_ms": 1e3 * latencies[len(latencies) // 2],
        "p99_ms": 1e3 * latencies[int(len(latencies) * 0.99)], "spread": max(times) / min(times), "problems": len(problems),
    }  # fmt: skip


def median(rows, receiver, n, key):
    found = [r[key] for r in rows if r["receiver"] == receiver and r["associations"] == n]
    return statistics.median(found or [float("nan")])


def check(rows, counts, lost):
    """Prints each bar that was measured. @return True: all of them hold"""
    holds = lost.get("cardionode", 1) == 0
    print(f"\n{'holds' if holds else 'FAILS'}: no instance of cardionode is lost")
    for n, figure, relation, bar in BARS:
        if n not in counts:
            continue
        if figure.startswith("of_"):
            value = median(rows, "cardionode", n, "per_second") / median(rows, figure[3:], n, "per_second")
        else:
            value = median(rows, "cardionode", n, figure)
        good = value >= bar if relation == ">=" else value < bar  # false for a figure that is not there
        holds = holds and good
        print(f"{'holds' if good else 'FAILS'}: {n} associations, {figure} {value:.2f} {relation} {bar:g}")
    return holds


def table(rows, counts, lost):
    print("| receiver | associations | instances/s | of storescp | of Orthanc | p50 ms | p99 ms | slowest/fastest | lost |")
    print("|---|---|---|---|---|---|---|---|---|")
    for n in counts:
        for name in lost:
            rate = median(rows, name, n, "per_second")
            peers = (median(rows, peer, n, "per_second") for peer in ("storescp", "orthanc"))
            ratios = " | ".join(f"{rate / peer:.2f}" if peer > 0 else "-" for peer in peers)
            print(
                f"| {name} | {n} | {rate:.0f} | {ratios} | {median(rows, name, n, 'p50_ms'):.2f} |"
                f" {median(rows, name, n, 'p99_ms'):.1f} | {median(rows, name, n, 'spread'):.2f} | {lost[name]} |"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--scp", default="build/release/bin/cardionode-scp")
    add("--associations", default="1,4,32")
    add("--receivers", default="storescp,orthanc,cardionode")
    add("--rounds", type=int, default=3)
    add("--slices", type=int, default=300)
    add("--folder", default=None, help="on the disk to be measured; default: the temporary folder")
    add("--fresh", action="store_true")
    add("--spare-mib", type=int, default=1900, help="how much of the prepared journal to wait for")
    add("--check", action="store_true")
    add("--json", default=None, help="also write every round's figures here")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the receivers end as well
    counts = [int(n) for n in arguments.associations.split(",")]
    pixels = os.urandom(2 * ROWS * ROWS)
    kinds = {kind.name: kind for kind in (Storescp, Orthanc, Cardionode)}
    folder = tempfile.mkdtemp(prefix="receiver-bench-", dir=arguments.folder)
    receivers, rows, lost = [], [], {}
    try:
        for name in arguments.receivers.split(","):
            if name not in kinds:
                parser.error(f"unknown receiver {name}")
            program = arguments.scp if name == "cardionode" else kinds[name].program
            if not shutil.which(program):
                print(f"{program} is not there: left out", file=sys.stderr)
                continue
            receivers.append(kinds[name](folder, arguments))
        for round_number in range(arguments.rounds):
            for n in counts:
                # 32 associations ask for fairness, not for room in memory: as many slices in all as four send.
                slices = arguments.slices if n <= 4 else max(10, 4 * arguments.slices // n)
                for receiver in receivers:
                    rows.append(run_round(receiver, n, slices, round_number, pixels))
                    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        for receiver in receivers:
            receiver.ready()
            lost[receiver.name] = receiver.acknowledged - receiver.held()
    finally:
        for receiver in receivers:
            receiver.stop()
        shutil.rmtree(folder, ignore_errors=True)
    table(rows, counts, lost)
    held = check(rows, counts, lost) if arguments.check else True
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)
    return 1 if not held or any(lost.values()) or any(r["problems"] for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
