"""The keys in which server and hospitals agree (fedclient/round/contract.h), as plain dictionaries; server_app.py puts
them into Flower's records.

A hospital refuses an unknown schema, another architecture, a round that does not go up, and a signature that the pinned
key did not make. What it may learn by (method, steps, heads) stays within the bounds of its own settings.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

SCHEMA = 1
METHODS = ("fedavg", "fedkd_teacher", "fedkd_student")


@dataclass(frozen=True)
class Plan:
    """What is asked of a round; the same for all hospitals."""

    model_id: str
    arch_sha256: str
    method: str = "fedavg"
    heads: tuple[str, ...] = ()  # empty: all of the model
    steps: int = 100
    learning_rate: float = 0.0  # 0: the recipe's
    proximal_mu: float = 0.0
    seed: int = 1


def round_config(plan: Plan, round_number: int, base_model: str, signature: str, deadline: float,
                 teachers: Mapping[str, tuple[str, str]] | None = None) -> dict:
    """The ConfigRecord of a train or evaluate message.

    @param base_model  object id of the ArrayRecord
    @param deadline    seconds since 1970 by the server's clock
    @param teachers    head -> object id of the ArrayRecord "teacher/<head>", its signature
    """
    config = {
        "fed-schema": SCHEMA,
        "model-id": plan.model_id,
        "arch-sha256": plan.arch_sha256,
        "base-model": base_model,
        "round": round_number,
        "server-round": round_number,
        "signature": signature,
        "deadline": float(deadline),
        "method": plan.method,
        "steps": plan.steps,
        "learning-rate": float(plan.learning_rate),
        "proximal-mu": float(plan.proximal_mu),
        "seed": plan.seed,
    }
    if plan.heads:
        config["heads"] = list(plan.heads)
    for head, (record_id, text) in (teachers or {}).items():
        config[f"teacher/{head}"] = record_id
        config[f"signature/{head}"] = text
    return config


def teacher_id(model_id: str, head: str) -> str:
    """What stands for the model id in the signature of a head's teacher."""
    return f"{model_id}/teacher/{head}"


def counts_of(metrics: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """n/<head> of each head, and n/unlabelled. Raises ValueError for what is not a count."""
    labelled, unlabelled = {}, 0.0
    for key, value in metrics.items():
        if not key.startswith("n/"):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{key} is not a count")
        if key == "n/unlabelled":
            unlabelled = float(value)
        else:
            labelled[key[2:]] = float(value)
    return labelled, unlabelled


def validation_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """The numbers that judging.py knows, of an evaluate reply's MetricRecord."""
    return {key: float(value) for key, value in metrics.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
            and (key.startswith(("dice/", "point-mm/")) or key == "num-examples")}


def validation_before(facts: Mapping) -> dict[str, float]:
    """The same of the model that a hospital pulled, out of a train reply's ConfigRecord "facts"."""
    return validation_of({f"{metric}/{key[len(prefix):]}": value for key, value in facts.items()
                          for metric, prefix in (("dice", "dice-before/"), ("point-mm", "point-mm-before/"))
                          if key.startswith(prefix)})
