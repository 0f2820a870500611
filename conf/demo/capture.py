#!/usr/bin/python3
"""Writes what goes to and from these TCP ports on the loopback interface to a pcap file, until SIGTERM or SIGINT.

usage: capture.py CAPTURE PORT...

As root on Linux (a packet socket). tcpdump -i lo does the same where it works; its ring buffer sees nothing on some
virtual machines. Prints "capturing" when it has begun, and at the end how many packets it wrote and the kernel lost.
"""
import signal
import socket
import struct
import sys
import time

SOL_PACKET, PACKET_STATISTICS, PACKET_OUTGOING = 263, 6, 4
SO_RCVBUFFORCE = 33


def ports_of(frame):
    """Source and target port of a TCP packet; none of another one."""
    ip = frame[14:]
    if len(ip) < 40:
        return ()
    if ip[0] >> 4 == 4 and ip[9] == 6:
        at = (ip[0] & 15) * 4
    elif ip[0] >> 4 == 6 and ip[6] == 6:
        at = 40
    else:
        return ()
    return struct.unpack(">HH", ip[at:at + 4]) if len(ip) >= at + 4 else ()


def main(words):
    if len(words) < 2 or not all(word.isdigit() for word in words[1:]):
        print(__doc__, file=sys.stderr)
        return 2
    wanted, ended = {int(word) for word in words[1:]}, []
    try:
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        packets.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        packets.bind(("lo", 0))
    except OSError as error:
        print(f"capture.py: no packet socket: {error.strerror}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.append(1))
    packets.settimeout(0.2)
    count = 0
    with open(words[0], "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 262144, 1))
        print("capturing", flush=True)
        while not ended:
            try:
                frame, (_, _, kind, *_) = packets.recvfrom(262144)
            except socket.timeout:
                continue
            # On loopback each packet is seen twice, as it leaves and as it comes.
            if kind == PACKET_OUTGOING or not wanted.intersection(ports_of(frame)):
                continue
            now = time.time()
            out.write(struct.pack("<IIII", int(now), int(now % 1 * 1e6), len(frame), len(frame)) + frame)
            count += 1
    lost = struct.unpack("II", packets.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
    print(f"{count} packets, {lost} lost", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
