import base64
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from cardionode_server import signing


class Signing(unittest.TestCase):
    def setUp(self):
        if not shutil.which("openssl"):
            self.skipTest("openssl is not installed")
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.key = self.folder / "consortium.key"
        self.run_openssl("genpkey", "-algorithm", "ed25519", "-out", self.key)
        self.key.chmod(0o600)
        self.run_openssl("pkey", "-in", self.key, "-pubout", "-out", self.folder / "public.pem")

    def run_openssl(self, *words):
        return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True).stdout

    def test_openssl_verifies_it_over_the_text_of_inbound_h(self):
        signature = signing.sign(signing.read_private_key(self.key), "heart-root", 12, "ab" * 32)
        (self.folder / "text").write_bytes(b"cardionode-model-1\nheart-root\n12\n" + b"ab" * 32 + b"\n")
        (self.folder / "signature").write_bytes(base64.b64decode(signature))
        self.run_openssl("pkeyutl", "-verify", "-pubin", "-inkey", self.folder / "public.pem", "-rawin", "-in",
                         self.folder / "text", "-sigfile", self.folder / "signature")

    def test_another_round_model_or_record_does_not_verify(self):
        public = (self.folder / "public.pem").read_bytes()
        signature = signing.sign(signing.read_private_key(self.key), "m", 1, "r")
        self.assertTrue(signing.verifies(public, "m", 1, "r", signature))
        for words in (("x", 1, "r"), ("m", 2, "r"), ("m", 1, "x")):
            self.assertFalse(signing.verifies(public, *words, signature))
        self.assertFalse(signing.verifies(public, "m", 1, "r", "not base64"))

    def test_a_key_that_others_may_read_is_refused(self):
        self.key.chmod(0o644)
        with self.assertRaisesRegex(signing.KeyFault, "chmod 0600"):
            signing.read_private_key(self.key)

    def test_another_kind_of_key_is_refused(self):
        self.run_openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", self.key)
        self.key.chmod(0o600)
        with self.assertRaisesRegex(signing.KeyFault, "not an Ed25519 key"):
            signing.read_private_key(self.key)
        with self.assertRaises(signing.KeyFault):
            signing.read_private_key(self.folder / "missing")

    def test_a_line_break_cannot_be_smuggled_into_the_text(self):
        with self.assertRaises(ValueError):
            signing.signed_text("a\nb", 1, "r")
