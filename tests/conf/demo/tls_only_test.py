"""Captures are made here: real TLS conversations of Python's ssl in memory, put into TCP packets."""
import contextlib
import io
import os
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

import tls_only

CERTIFICATES = Path(tls_only.__file__).with_name("certificates.sh")
PORT = 443


class Wire:
    """A pcap file of one connection at a time."""

    def __init__(self, link=1, port=PORT):
        self.data = struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 262144, link)
        self.link, self.port, self.number = link, port, 40000
        self.open()

    def open(self, same_port=False):
        self.number += 0 if same_port else 1
        self.sequence = [(1 << 32) - 100 - 7 * self.number, 5000]  # the first one wraps round
        if same_port:
            self.sequence = [777, 123456]
        for side in (0, 1):
            self.packet(side, b"", flags=(2, 18)[side])
            self.sequence[side] += 1

    def packet(self, side, payload, flags=16, sequence=None, cut=0):
        ports = (self.number, self.port) if side == 0 else (self.port, self.number)
        number = (self.sequence[side] if sequence is None else sequence) & 0xffffffff
        tcp = struct.pack(">HHIIBBHHH", *ports, number, 0, 5 << 4, flags, 65535, 0, 0) + payload
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0, b"\x7f\0\0\1", b"\x7f\0\0\1") + tcp
        frame = {1: bytes(12) + b"\x08\0", 113: bytes(14) + b"\x08\0", 0: b"\2\0\0\0"}[self.link] + ip
        self.data += struct.pack("<IIII", 0, 0, len(frame) - cut, len(frame)) + frame[:len(frame) - cut]

    def send(self, side, payload, size=1400):
        for at in range(0, len(payload), size):
            piece = payload[at:at + size]
            self.packet(side, piece)
            self.sequence[side] += len(piece)


def check(wire, ports=(PORT,)):
    lines, good = tls_only.check(wire.data, set(ports))
    return "\n".join(lines), good


class Captures(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("openssl"):
            raise unittest.SkipTest("openssl is not installed")
        cls.folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        subprocess.run([CERTIFICATES, cls.folder, "north"], check=True, capture_output=True)

    def talk(self, wire, version=ssl.TLSVersion.TLSv1_3, said=b"POST /v1/fleet/pull-messages HTTP/1.1\r\n\r\n"):
        """A handshake and one request and answer."""
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(self.folder / "server.pem", self.folder / "server.key")
        client = ssl.create_default_context(cafile=self.folder / "ca.pem")
        client.load_cert_chain(self.folder / "north.pem", self.folder / "north.key")
        server.load_verify_locations(self.folder / "ca.pem")
        server.verify_mode = ssl.CERT_REQUIRED
        for context in (client, server):
            context.minimum_version = context.maximum_version = version
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [client.wrap_bio(down, up, server_hostname="localhost"), server.wrap_bio(up, down, server_side=True)]

        def carry(side):
            payload = (up if side == 0 else down).read()
            if payload:
                wire.send(side, payload)
                (up if side == 0 else down).write(payload)
        for _ in range(4):
            for side in (0, 1):
                with contextlib.suppress(ssl.SSLWantReadError):
                    ends[side].do_handshake()
                carry(side)
        ends[0].write(said)
        carry(0)
        self.assertEqual(ends[1].read(), said)
        ends[1].write(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(50000))
        carry(1)

    def test_tls_1_3_alone_is_well(self):
        for link in (1, 113, 0):
            wire = Wire(link)
            self.talk(wire)
            wire.open()
            self.talk(wire)
            text, good = check(wire)
            self.assertTrue(good, text)
            self.assertIn("2 connections, 2 handshakes", text)
            self.assertIn("versions: TLS 1.3; suites: TLS_", text)

    def test_a_port_that_is_used_again_is_another_connection(self):
        wire = Wire()
        self.talk(wire)
        wire.open(same_port=True)
        self.talk(wire)
        text, good = check(wire)
        self.assertTrue(good, text)
        self.assertIn("2 connections, 2 handshakes", text)

    def test_tls_1_2_is_found(self):
        wire = Wire()
        self.talk(wire)
        wire.open()
        self.talk(wire, ssl.TLSVersion.TLSv1_2)
        text, good = check(wire)
        self.assertFalse(good)
        self.assertIn("0x0303, not TLS 1.3", text)

    def test_plain_http_is_found(self):
        wire = Wire()
        self.talk(wire)
        wire.open()
        wire.send(0, b"POST /v1/fleet/pull-messages HTTP/1.1\r\n\r\n")
        wire.send(1, b"HTTP/1.1 200 OK\r\n\r\n")
        text, good = check(wire)
        self.assertFalse(good)
        self.assertIn("not TLS", text)
        self.assertIn("in the clear", text)

    def test_plain_text_after_a_good_handshake_is_found(self):
        wire = Wire()
        self.talk(wire)
        wire.send(1, b"\x80\x80 patient")
        self.assertFalse(check(wire)[1])

    def test_other_ports_are_not_looked_at(self):
        wire = Wire(port=8080)
        wire.send(0, b"GET / HTTP/1.1\r\n\r\n")
        text, good = check(wire)
        self.assertFalse(good, "no handshake at all is no proof")
        self.assertIn("no handshake", text)

    def test_packets_twice_and_out_of_order_are_put_right(self):
        wire = Wire()
        before = len(wire.data)
        self.talk(wire)
        frames, at = [], before
        while at < len(wire.data):
            size = 16 + struct.unpack("<I", wire.data[at + 8:at + 12])[0]
            frames.append(wire.data[at:at + size])
            at += size
        wire.data = wire.data[:before] + b"".join(frames[1::-1] + frames[2:] + frames[-3:])
        text, good = check(wire)
        self.assertTrue(good, text)

    def test_a_gap_or_a_capture_that_ends_early_hides_no_fault_before_it(self):
        wire = Wire()
        self.talk(wire, ssl.TLSVersion.TLSv1_2)
        wire.packet(1, b"x", sequence=wire.sequence[1] + 9999)
        wire.data = wire.data[:-3]
        self.assertFalse(check(wire)[1])

    def test_files_that_are_no_whole_capture_are_refused(self):
        cut = Wire()
        cut.packet(0, bytes(100), cut=50)
        for data in (b"", b"no capture at all, but long enough for one", cut.data):
            file = self.folder / "capture"
            file.write_bytes(data)
            said = io.StringIO()
            with contextlib.redirect_stderr(said):
                self.assertEqual(tls_only.main([str(file), "443"]), 2)
            self.assertIn("capture:", said.getvalue())

    @unittest.skipUnless(os.geteuid() == 0, "only root may capture")
    def test_what_goes_over_loopback_is_captured_and_read(self):
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.minimum_version = ssl.TLSVersion.TLSv1_3
        server.load_cert_chain(self.folder / "server.pem", self.folder / "server.key")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(20)
            port = listener.getsockname()[1]
            file = self.folder / "lo.pcap"
            capture = subprocess.Popen([CERTIFICATES.with_name("capture.py"), file, str(port)], stdout=subprocess.PIPE,
                                       text=True)
            self.addCleanup(capture.stdout.close)
            self.addCleanup(capture.wait)
            self.addCleanup(capture.kill)
            if capture.stdout.readline() != "capturing\n":
                self.skipTest("no packet socket here")

            def serve():
                with listener.accept()[0] as plain, server.wrap_socket(plain, server_side=True) as secure:
                    secure.sendall(secure.recv(100) * 1000)
            thread = threading.Thread(target=serve)
            thread.start()
            context = ssl.create_default_context(cafile=self.folder / "ca.pem")
            with socket.create_connection(("127.0.0.1", port), 20) as plain, \
                    context.wrap_socket(plain, server_hostname="localhost") as secure:
                secure.sendall(b"GET / HTTP/1.1\r\n\r\n")
                while secure.recv(65536):
                    pass
            thread.join()
        time.sleep(0.3)
        capture.terminate()
        self.assertRegex(capture.stdout.readline(), "packets, 0 lost")
        lines, good = tls_only.check(file.read_bytes(), {port})
        self.assertTrue(good, lines)
        self.assertIn("1 connections, 1 handshakes", lines[0])
