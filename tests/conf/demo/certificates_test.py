import hashlib
import re
import shutil
import stat
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "conf/demo/certificates.sh"


def openssl(*words, check=True):
    return subprocess.run(["openssl", *map(str, words)], check=check, capture_output=True, text=True)


class Certificates(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("openssl"):
            raise unittest.SkipTest("openssl is not installed")
        cls.folder = Path(tempfile.mkdtemp()) / "tls"
        cls.addClassCleanup(shutil.rmtree, cls.folder.parent)
        subprocess.run([SCRIPT, cls.folder, "north", "south"], check=True)

    def test_every_private_key_is_its_owners_alone(self):
        keys = [file for file in self.folder.iterdir() if "PRIVATE KEY" in file.read_text(errors="replace")]
        self.assertEqual(sorted(k.stem for k in keys), ["ca", "consortium", "next", "north", "server", "south"])
        for key in keys:
            self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o600, key.name)

    def test_certificates_verify_for_their_purpose_alone(self):
        for name, purpose, other in (("server", "sslserver", "sslclient"), ("north", "sslclient", "sslserver")):
            words = ("verify", "-x509_strict", "-crl_check", "-CRLfile", self.folder / "ca.crl", "-CAfile",
                     self.folder / "ca.pem", "-purpose")
            self.assertEqual(openssl(*words, purpose, self.folder / f"{name}.pem", check=False).returncode, 0, name)
            self.assertNotEqual(openssl(*words, other, self.folder / f"{name}.pem", check=False).returncode, 0, name)

    def test_tls_keys_are_p384_and_the_consortiums_is_ed25519(self):
        for name in ("ca", "server", "next", "north", "south"):
            self.assertIn("secp384r1", openssl("pkey", "-in", self.folder / f"{name}.key", "-noout", "-text").stdout)
        self.assertIn("ED25519", openssl("pkey", "-in", self.folder / "consortium.key", "-noout", "-text").stdout)

    def test_the_pin_is_the_hash_of_the_certificates_public_key(self):
        words = f"openssl x509 -in {self.folder}/server.pem -noout -pubkey | openssl pkey -pubin -outform der"
        key = subprocess.run(["sh", "-c", words], check=True, capture_output=True).stdout
        expected = hashlib.sha256(key).hexdigest()
        pins = [(self.folder / f"{name}.pin").read_text() for name in ("server", "next")]
        self.assertEqual(pins[0], expected + "\n")
        self.assertTrue(all(re.fullmatch(r"[0-9a-f]{64}\n", pin) for pin in pins))
        self.assertNotEqual(*pins)

    def test_the_server_is_named_as_loopback(self):
        text = openssl("x509", "-in", self.folder / "server.pem", "-noout", "-ext", "subjectAltName").stdout
        self.assertIn("DNS:localhost, IP Address:127.0.0.1", text)

    def test_a_revoked_hospital_is_on_the_list(self):
        other = self.folder.parent / "other"
        subprocess.run([SCRIPT, other, "north"], check=True)
        subprocess.run([SCRIPT, "--revoke", other, "north"], check=True)
        answer = openssl("verify", "-crl_check", "-CRLfile", other / "ca.crl", "-CAfile", other / "ca.pem",
                         other / "north.pem", check=False)
        self.assertIn("revoked", answer.stdout + answer.stderr)
        self.assertNotEqual((other / "ca.pem").read_text(), (self.folder / "ca.pem").read_text(), "new at every call")

    def test_names_that_would_be_other_files_are_refused(self):
        for name in ("ca", "server", "../up", "North", ""):
            words = [SCRIPT, self.folder.parent / "x", name]
            self.assertEqual(subprocess.run(words, capture_output=True).returncode, 2)
        self.assertFalse((self.folder.parent / "x").exists())
