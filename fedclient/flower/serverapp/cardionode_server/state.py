"""What the consortium must remember between nights and crashes: one folder, written durably.

    consortium.json        model id, architecture, last round number, the accepted weights, history
    models/round-N.safetensors   accepted weights; the newest KEPT are kept
    open/                  the round that is under way: answers that were taken from the server, which gives each once

A round number is used once: the hospitals refuse one that does not go up. A run that finds an open round before its
deadline goes on with it, under its number and with the answers that are there. One process at a time (a lock).
"""
from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

from .weights_file import WeightsFile, replace_durably, write_weights

KEPT = 10


class StateFault(Exception):
    """The folder does not fit the settings, or another run uses it."""


class State:
    def __init__(self, folder: Path, model_id: str, arch_sha256: str, initial: Path):
        self.folder = Path(folder)
        (self.folder / "models").mkdir(parents=True, exist_ok=True)
        self._lock = open(self.folder / "lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise StateFault(f"{folder}: another run uses this folder") from error
        file = self.folder / "consortium.json"
        if file.exists():
            self.data = json.loads(file.read_text())
            for key, value in (("model-id", model_id), ("arch-sha256", arch_sha256)):
                if self.data[key] != value:
                    raise StateFault(f"{file}: {key} is {self.data[key]}, the settings say {value}; "
                                     "a new model needs a new folder")
        else:
            first = self.folder / "models" / "round-0.safetensors"
            write_weights(first, WeightsFile(initial))
            self.data = {"model-id": model_id, "arch-sha256": arch_sha256, "round": 0, "accepted": first.name,
                         "open": None, "history": []}
            self._save()

    def close(self) -> None:
        self._lock.close()

    @property
    def accepted(self) -> Path:
        return self.folder / "models" / self.data["accepted"]

    def open_round(self, now: float, deadline_s: float) -> tuple[int, float]:
        """Number and deadline of the round to work on: the one that was interrupted, if it still has time."""
        pending = self.data["open"]
        if pending and now < pending["deadline"]:
            return pending["round"], pending["deadline"]
        shutil.rmtree(self.folder / "open", ignore_errors=True)
        (self.folder / "open").mkdir()
        self.data["round"] += 1
        self.data["open"] = {"round": self.data["round"], "deadline": now + deadline_s}
        self._save()
        return self.data["round"], now + deadline_s

    def keep_answer(self, hospital: str, answer: dict, weights) -> None:
        """A hospital's update, on disk before it counts. ValueError for dtypes that cannot be kept."""
        folder = self.folder / "open"
        write_weights(folder / f"{hospital}.safetensors", weights)
        replace_durably(folder / f"{hospital}.json", lambda stream: stream.write(json.dumps(answer).encode()))

    def kept_answers(self) -> dict[str, dict]:
        """Hospital -> what it sent beside the weights, of the answers that are complete."""
        return {file.stem: json.loads(file.read_text()) for file in sorted((self.folder / "open").glob("*.json"))
                if file.with_suffix(".safetensors").exists()}

    def answer_weights(self, hospital: str) -> WeightsFile:
        return WeightsFile(self.folder / "open" / f"{hospital}.safetensors")

    def candidate(self) -> Path:
        return self.folder / "open" / "candidate"

    def close_round(self, accepted: bool, note: dict) -> None:
        """@param note  for the history: what was dropped, weights, reasons; no patient data"""
        number = self.data["open"]["round"]
        if accepted:
            target = self.folder / "models" / f"round-{number}.safetensors"
            write_weights(target, WeightsFile(self.candidate()))
            self.data["accepted"] = target.name
        self.data["history"].append({"round": number, "accepted": accepted, **note})
        self.data["open"] = None
        self._save()
        shutil.rmtree(self.folder / "open", ignore_errors=True)
        files = sorted((self.folder / "models").glob("round-*.safetensors"), key=lambda f: int(f.stem.split("-")[1]))
        for file in files[:-KEPT]:
            if file != self.accepted:
                file.unlink()

    def _save(self) -> None:
        text = json.dumps(self.data, indent=1, sort_keys=True).encode()
        replace_durably(self.folder / "consortium.json", lambda stream: stream.write(text))
