"""The consortium's signature of a global model: Ed25519 (RFC 8032) over the text of fedclient/privacy/inbound.h, which
every hospital checks with the key that it has pinned. Needs python3-cryptography (Debian) or cryptography >= 38."""
from __future__ import annotations

import base64
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key


class KeyFault(Exception):
    """The key file is missing, readable by others, or of another kind."""


def signed_text(model_id: str, round_number: int, record_id: str) -> bytes:
    for word in (model_id, record_id):
        if not word or "\n" in word:
            raise ValueError("a model id or a record id with a line break or without text")
    return f"cardionode-model-1\n{model_id}\n{round_number}\n{record_id}\n".encode()


def read_private_key(file: Path) -> Ed25519PrivateKey:
    try:
        mode = file.stat().st_mode
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyFault(f"{file}: no Ed25519 key that can be read: {error}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise KeyFault(f"{file}: others may read this private key; chmod 0600")
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFault(f"{file}: not an Ed25519 key; make one with: openssl genpkey -algorithm ed25519")
    return key


def sign(key: Ed25519PrivateKey, model_id: str, round_number: int, record_id: str) -> str:
    return base64.b64encode(key.sign(signed_text(model_id, round_number, record_id))).decode()


def verifies(public_key_pem: bytes, model_id: str, round_number: int, record_id: str, signature: str) -> bool:
    key = load_pem_public_key(public_key_pem)
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFault("not an Ed25519 public key")
    try:
        key.verify(base64.b64decode(signature, validate=True), signed_text(model_id, round_number, record_id))
    except (InvalidSignature, ValueError):
        return False
    return True
