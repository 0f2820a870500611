"""Flower wants a ClientApp in every app. The hospitals of this consortium run cardionode-fedclient, which downloads and
runs no code; a Python SuperNode that joins by mistake gets an error, never data."""
from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    raise RuntimeError("this consortium's hospitals run cardionode-fedclient, not a Python SuperNode")
