#!/usr/bin/python3
"""Reads a packet capture and says whether the connections to these TCP ports spoke TLS 1.3 and nothing else.

usage: tls_only.py CAPTURE PORT...

Of every connection it reads both directions as TLS records: the first ones must be a ClientHello and a ServerHello,
the ServerHello must choose 0x0304 in supported_versions (RFC 8446, 4.2.1), and after it there may be nothing but
application data, the compatibility change_cipher_spec and a close. It also looks for words of HTTP in every packet.
Exit code 0: TLS 1.3 alone, with at least one whole handshake; 1: something else was seen; 2: the file cannot be read.
Python's standard library alone.
"""
import struct
import sys
from collections import defaultdict

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
CLIENT_HELLO, SERVER_HELLO = 1, 2
SUPPORTED_VERSIONS = 43
SUITES = {0x1301: "TLS_AES_128_GCM_SHA256", 0x1302: "TLS_AES_256_GCM_SHA384", 0x1303: "TLS_CHACHA20_POLY1305_SHA256"}
HELLO_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
PLAIN_WORDS = (b"HTTP/1.", b"POST /", b"GET /", b"Content-Type:", b"/v1/fleet", b"/v0/fleet", b"flwr-public-key")


class BadCapture(Exception):
    pass


def packets(data):
    """(link type, bytes of a packet) of a pcap file, as tcpdump writes it."""
    if len(data) < 24:
        raise BadCapture("no packet capture")
    order = {0xa1b2c3d4: "<", 0xa1b23c4d: "<"}.get(struct.unpack("<I", data[:4])[0])
    order = order or {0xa1b2c3d4: ">", 0xa1b23c4d: ">"}.get(struct.unpack(">I", data[:4])[0])
    if not order:
        raise BadCapture("no pcap file (pcapng is not read: tcpdump -w writes pcap)")
    link, at = struct.unpack(order + "I", data[20:24])[0] & 0xffff, 24
    while at + 16 <= len(data):
        kept, whole = struct.unpack(order + "II", data[at + 8:at + 16])
        if kept < whole:
            raise BadCapture("packets were cut; capture with -s 0")
        if at + 16 + kept > len(data):
            return  # tcpdump was killed within a packet
        yield link, data[at + 16:at + 16 + kept]
        at += 16 + kept


def tcp_of(link, frame):
    """(source, source port, target, target port, sequence number, SYN, whether it opens a connection, payload); None
    for what is not TCP."""
    header = {1: 14, 113: 16, 276: 20, 0: 4, 101: 0, 12: 0}.get(link)
    if header is None:
        raise BadCapture(f"link type {link} is not known here")
    ip = frame[header:]
    if len(ip) < 20:
        return None
    if ip[0] >> 4 == 4:
        length = (ip[0] & 15) * 4
        if ip[9] != 6:
            return None
        source, target, tcp = ip[12:16], ip[16:20], ip[length:struct.unpack(">H", ip[2:4])[0] or None]
    elif ip[0] >> 4 == 6 and len(ip) >= 40:
        if ip[6] != 6:
            return None
        source, target, tcp = ip[8:24], ip[24:40], ip[40:40 + struct.unpack(">H", ip[4:6])[0] or None]
    else:
        return None
    if len(tcp) < 20:
        return None
    source_port, target_port, sequence = struct.unpack(">HHI", tcp[:8])
    opens = tcp[13] & 0x12 == 2  # SYN without ACK
    return source, source_port, target, target_port, sequence, bool(tcp[13] & 2), opens, tcp[(tcp[12] >> 4) * 4:]


class Direction:
    """The bytes of one direction in their order."""

    def __init__(self):
        self.first, self.pieces = None, {}

    def add(self, sequence, syn, payload):
        if syn:
            self.first = (sequence + 1) & 0xffffffff
        if payload:
            if self.first is None:
                self.first = sequence  # the capture began within the connection
            offset = (sequence + syn - self.first) & 0xffffffff
            if offset < 1 << 31 and len(payload) > len(self.pieces.get(offset, b"")):
                self.pieces[offset] = payload

    def bytes(self):
        """What was seen up to the first gap, and whether there is one."""
        out = bytearray()
        for offset in sorted(self.pieces):
            if offset > len(out):
                return bytes(out), True
            out += self.pieces[offset][len(out) - offset:]
        return bytes(out), False


def records(data):
    """(kind, version, body) of each whole record; then ("rest", bytes) for what is no record."""
    at = 0
    while at + 5 <= len(data):
        kind, version, length = struct.unpack(">BHH", data[at:at + 5])
        if kind not in (CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA) or version >> 8 != 3 or length > 16640:
            yield "rest", version, data[at:]
            return
        if at + 5 + length > len(data):
            return  # the connection was cut within a record
        yield kind, version, data[at + 5:at + 5 + length]
        at += 5 + length


def hello(body):
    """Of a ServerHello: (chosen version, cipher suite, whether it asks for another ClientHello)."""
    try:
        if body[0] != SERVER_HELLO:
            return None
        version, random = struct.unpack(">H32s", body[4:38])
        at = 39 + body[38]
        suite = struct.unpack(">H", body[at:at + 2])[0]
        at += 3
        end = at + 2 + struct.unpack(">H", body[at:at + 2])[0] if at + 2 <= len(body) else at
        at += 2
        while at + 4 <= end:
            extension, length = struct.unpack(">HH", body[at:at + 4])
            if extension == SUPPORTED_VERSIONS and length == 2:
                version = struct.unpack(">H", body[at + 4:at + 6])[0]
            at += 4 + length
        return version, suite, random == HELLO_RETRY
    except (IndexError, struct.error):
        return None


def faults_of_client(data):
    """What a client of TLS 1.3 would not send."""
    hellos, closed = 0, False
    for kind, _, body in records(data):
        if kind == "rest":
            return ["the client sent something that is not TLS"], hellos
        if kind == HANDSHAKE:
            if not body or body[0] != CLIENT_HELLO or closed:
                return ["the client sent a handshake message in the clear"], hellos
            hellos += 1
        elif kind == APPLICATION_DATA:
            closed = True
            if not hellos:
                return ["the client sent data before its hello"], hellos
    return [], hellos


def look_at(client, server):
    """Of one connection: its faults, its version and suite (None before a ServerHello), bytes of application data."""
    data, _ = client.bytes()
    faults, _ = faults_of_client(data)
    carried = sum(len(body) for kind, _, body in records(data) if kind == APPLICATION_DATA)
    data, _ = server.bytes()
    chosen, encrypted = None, False
    for kind, _, body in records(data):
        if kind == "rest":
            faults.append("the server sent something that is not TLS")
        elif kind == HANDSHAKE:
            found = hello(body)
            if encrypted or found is None:
                faults.append("the server sent a handshake message in the clear")
                break
            if found[0] != 0x0304:
                faults.append(f"the server chose version 0x{found[0]:04x}, not TLS 1.3")
                chosen = found
                break
            if not found[2]:
                chosen = found
        elif kind == APPLICATION_DATA:
            encrypted = True
            carried += len(body)
            if chosen is None:
                faults.append("the server sent data before its hello")
                break
    return faults, chosen, carried


def check(data, ports):
    """(lines for people, whether all is well)"""
    connections, opened = defaultdict(lambda: (Direction(), Direction())), {}
    faults, plain, count = [], set(), 0
    for link, frame in packets(data):
        packet = tcp_of(link, frame)
        if packet is None:
            continue
        source, source_port, target, target_port, sequence, syn, opens, payload = packet
        if target_port in ports:
            key, side = (source, source_port, target, target_port), 0
        elif source_port in ports:
            key, side = (target, target_port, source, source_port), 1
        else:
            continue
        count += 1
        if opens:  # a port that was used before may open another connection
            opened[key] = sequence
        connections[key, opened.get(key)][side].add(sequence, syn, payload)
        plain |= {word for word in PLAIN_WORDS if word in payload}
    faults += [f"a packet holds {word.decode()!r} in the clear" for word in sorted(plain)]
    versions, suites, carried, shaken = set(), set(), 0, 0
    for client, server in connections.values():
        found, chosen, size = look_at(client, server)
        faults += found
        carried += size
        if chosen:
            shaken += 1
            versions.add("TLS 1.3" if chosen[0] == 0x0304 else f"0x{chosen[0]:04x}")
            suites.add(SUITES.get(chosen[1], f"0x{chosen[1]:04x}"))
    if not shaken:
        faults.append("no handshake was seen")
    lines = [f"{count} packets, {len(connections)} connections, {shaken} handshakes, {carried / 1e6:.1f} MB encrypted",
             f"versions: {', '.join(sorted(versions)) or 'none'}; suites: {', '.join(sorted(suites)) or 'none'}"]
    lines += [f"FAULT: {fault}" + (f" ({faults.count(fault)} times)" if faults.count(fault) > 1 else "")
              for fault in sorted(set(faults))]
    return lines, not faults


def main(words):
    if len(words) < 2 or not all(word.isdigit() for word in words[1:]):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with open(words[0], "rb") as capture:
            lines, good = check(capture.read(), {int(word) for word in words[1:]})
    except (OSError, BadCapture) as error:
        print(f"{words[0]}: {error}", file=sys.stderr)
        return 2
    print("\n".join("  " + line for line in lines))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
