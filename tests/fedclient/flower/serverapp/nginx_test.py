"""fedclient/flower/nginx.conf in a running nginx on loopback: who gets through to the server behind it, with what."""
import base64
import http.server
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[3]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CERTIFICATES = SOURCE / "conf/demo/certificates.sh"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Behind(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        Behind.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, len(body)))
        self.send_response(200)
        self.send_header("Content-Type", "application/protobuf")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_POST

    def log_message(self, *_):
        pass


@unittest.skipUnless(NGINX, "nginx is not installed")
class Proxy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        # A name of three hospitals; the third one is revoked.
        subprocess.run([CERTIFICATES, cls.folder / "tls", "north", "south", "gone"], check=True, capture_output=True)
        subprocess.run([CERTIFICATES, "--revoke", cls.folder / "tls", "gone"], check=True, capture_output=True)
        cls.tls = cls.folder / "tls"
        cls.start_server_behind()
        cls.start_nginx()

    @classmethod
    def start_server_behind(cls):
        cls.behind_port = free_port()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", cls.behind_port), Behind)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cls.tls / "server.pem", cls.tls / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cls.addClassCleanup(server.server_close)
        cls.addClassCleanup(server.shutdown)

    @classmethod
    def serial(cls, name):
        text = subprocess.run(["openssl", "x509", "-in", cls.tls / f"{name}.pem", "-noout", "-serial"], check=True,
                              capture_output=True, text=True).stdout
        return text.strip().partition("=")[2]

    @classmethod
    def node_key(cls, name):
        public = subprocess.run(["openssl", "pkey", "-in", cls.tls / f"{name}.key", "-pubout"], check=True,
                                capture_output=True).stdout
        return base64.b64encode(public).decode()

    @classmethod
    def start_nginx(cls):
        cls.port = free_port()
        text = (SOURCE / "fedclient/flower/nginx.conf").read_text()
        for old, new in (("listen [::]:443", "# "), ("listen 443", f"listen 127.0.0.1:{cls.port}"),
                         ("127.0.0.1:8000", f"127.0.0.1:{cls.behind_port}"), ("fleet.example.org", "localhost"),
                         ("/etc/cardionode-server/tls/superlink-ca.pem", f"{cls.tls}/ca.pem"),
                         ("/etc/cardionode-server/tls/", f"{cls.tls}/"), ("/etc/cardionode-server/", f"{cls.folder}/"),
                         ("/var/log/nginx/", f"{cls.folder}/")):
            if old not in text:
                raise AssertionError(f"{old} is not in nginx.conf")
            text = text.replace(old, new)
        (cls.folder / "node_keys.map").write_text("".join(
            f'{cls.serial(n)} "{cls.node_key(n)}";\n' for n in ("north", "gone")))
        (cls.folder / "names.map").write_text(f"{cls.serial('north')} north;\n")
        (cls.folder / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; pid {cls.folder}/pid; error_log {cls.folder}/main.log;\n"
            + ("user root;\n" if os.geteuid() == 0 else "") +
            f"events {{ worker_connections 64; }}\nhttp {{ client_body_temp_path {cls.folder}/body;\n"
            f"proxy_temp_path {cls.folder}/proxy; fastcgi_temp_path {cls.folder}/f; uwsgi_temp_path {cls.folder}/u;\n"
            f"scgi_temp_path {cls.folder}/s;\n{text}\n}}\n")
        words = [NGINX, "-c", cls.folder / "nginx.conf", "-e", cls.folder / "first.log"]
        checked = subprocess.run([*words, "-t"], capture_output=True, text=True)
        if checked.returncode:
            raise AssertionError(checked.stderr)
        nginx = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(nginx.wait)
        cls.addClassCleanup(nginx.terminate)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", cls.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("nginx does not listen")

    def setUp(self):
        Behind.seen.clear()

    def post(self, who="north", path="/v1/fleet/push-object", key=None, body=b"x", headers=(), method="POST",
             version=None, name="localhost"):
        """The status; None when there was no answer."""
        context = ssl.create_default_context(cafile=self.tls / "ca.pem")
        if version:
            context.minimum_version = context.maximum_version = version
        if who:
            context.load_cert_chain(self.tls / f"{who}.pem", self.tls / f"{who}.key")
        lines = [f"{method} {path} HTTP/1.1", f"Host: {name}", f"Content-Length: {len(body)}", "Connection: close",
                 f"flwr-public-key: {self.node_key('north') if key is None else key}", *headers]
        try:
            with socket.create_connection(("127.0.0.1", self.port), 10) as plain, \
                    context.wrap_socket(plain, server_hostname=name) as secure:
                secure.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
                answer = b""
                while part := secure.recv(65536):
                    answer += part
        except (OSError, ssl.SSLError):
            return None
        found = re.match(rb"HTTP/1.1 (\d+)", answer)
        return int(found[1]) if found else None

    def test_a_hospital_with_its_certificate_and_key_gets_through(self):
        self.assertEqual(self.post(headers=("flwr-timestamp: t", "flwr-signature: s", "Accept: application/protobuf",
                                            "X-Other: must not pass", "Cookie: nor this")), 200)
        path, headers, length = Behind.seen[0]
        self.assertEqual((path, length), ("/v1/fleet/push-object", 1))
        self.assertEqual((headers["flwr-timestamp"], headers["flwr-signature"]), ("t", "s"))
        self.assertEqual(headers["flwr-public-key"], self.node_key("north"))
        self.assertNotIn("x-other", headers)
        self.assertNotIn("cookie", headers)

    def test_an_object_of_ten_mebibytes_passes_and_twenty_do_not(self):
        self.assertEqual(self.post(body=bytes(10 << 20)), 200)
        self.assertEqual(Behind.seen[0][2], 10 << 20)
        self.assertIn(self.post(body=bytes(20 << 20)), (413, None))
        self.assertEqual(len(Behind.seen), 1)

    def test_without_a_certificate_nothing_passes(self):
        self.assertIn(self.post(who=None), (400, None))
        self.assertEqual(Behind.seen, [])

    def test_a_revoked_certificate_is_refused(self):
        self.assertIn(self.post(who="gone", key=self.node_key("gone")), (400, None))
        self.assertEqual(Behind.seen, [])

    def test_tls_1_2_is_refused(self):
        self.assertIsNone(self.post(version=ssl.TLSVersion.TLSv1_2))

    def test_a_certificate_without_a_line_is_refused(self):
        self.assertEqual(self.post(who="south", key=self.node_key("south")), 403)
        self.assertEqual(self.post(who="south", key=""), 403)
        self.assertEqual(Behind.seen, [])

    def test_another_hospitals_node_key_is_refused(self):
        self.assertEqual(self.post(key=self.node_key("south")), 403)
        self.assertEqual(self.post(key=""), 403)
        self.assertEqual(Behind.seen, [])

    def test_nothing_but_the_calls_of_a_hospital_passes(self):
        for path in ("/", "/v1/control/start-run", "/v1/runtime/push-object", "/v1/fleet/register-node",
                     "/v1/fleet/get-fab", "/v1/fleet/push-object/../../control/list-runs",
                     "/api/v0/fleet/pull-messages"):
            self.assertEqual(self.post(path=path), 404, path)
        self.assertEqual(self.post(method="GET"), 403)
        self.assertEqual(Behind.seen, [])

    def test_another_name_gets_no_handshake(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", self.port), 10) as plain, self.assertRaises(OSError):
            context.wrap_socket(plain, server_hostname="elsewhere.example")

    def test_the_log_names_the_hospital_and_no_key(self):
        self.post()
        time.sleep(0.1)
        log = (self.folder / "cardionode-fleet.log").read_text()
        self.assertIn(" north ", log)
        self.assertIn("TLSv1.3", log)
        self.assertNotIn(self.node_key("north")[:40], log)
