"""The keys of [tool.flwr.app.config] in pyproject.toml, checked before anything is sent; faults are named at once."""
from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .aggregation import Rules
from .collecting import Patience
from .contract import METHODS, Plan
from .judging import Tolerance

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
SHA256 = re.compile(r"[0-9a-f]{64}")


class SettingsFault(Exception):
    pass


@dataclass(frozen=True)
class Settings:
    state: Path
    initial_model: Path
    signing_key: Path
    hospitals: Mapping[int, str]  # node id -> name; only these take part
    teachers: Mapping[str, Path]  # head -> safetensors
    plan: Plan
    rules: Rules
    patience: Patience
    evaluation: Patience
    tolerance: Tolerance
    rounds: int


def read_hospitals(file: Path) -> dict[int, str]:
    """hospitals.toml:  [hospitals]  then  name = node id as `flwr supernode list` prints it (a string)."""
    with open(file, "rb") as data:
        table = tomllib.load(data).get("hospitals", {})
    nodes: dict[int, str] = {}
    for name, node in table.items():
        if not NAME.fullmatch(name):
            raise ValueError(f"{name}: a hospital's name is of a-z, 0-9 and -")
        number = int(node)
        if number in nodes:
            raise ValueError(f"{name} and {nodes[number]} have one node id")
        nodes[number] = name
    if not nodes:
        raise ValueError("no [hospitals] in it")
    return nodes


def read_settings(config: Mapping) -> Settings:
    faults: list[str] = []

    def take(key, kind, default, good=lambda value: True, rule=""):
        value = config.get(key, default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)) or not good(value):
            faults.append(f"{key}: {rule or kind.__name__} expected, not {value!r}")
            return default
        return value

    def existing(key):
        path = Path(take(key, str, "", bool, "a file's path"))
        if not faults and not path.is_file():
            faults.append(f"{key}: no file {path}")
        return path

    def seconds(key, default):
        return take(key, float, default, lambda s: 1 <= s <= 7 * 24 * 3600, "1 to 604800 seconds")

    state = Path(take("state", str, "", bool, "a folder's path"))
    initial, signing_key, list_file = existing("initial-model"), existing("signing-key"), existing("hospitals")
    nodes: dict[int, str] = {}
    if list_file.is_file():
        try:
            nodes = read_hospitals(list_file)
        except (OSError, ValueError, TypeError) as error:
            faults.append(f"hospitals: {list_file}: {error}")
    teachers = {}
    for word in filter(None, take("teachers", str, "").split(",")):
        head, _, file = word.strip().partition("=")
        if not head or not Path(file).is_file():
            faults.append(f"teachers: head=file expected, not {word!r}, or there is no such file")
        teachers[head] = Path(file)
    plan = Plan(
        model_id=take("model-id", str, "", lambda s: NAME.fullmatch(s), "a name of a-z, 0-9 and -"),
        arch_sha256=take("arch-sha256", str, "", lambda s: SHA256.fullmatch(s), "64 hexadecimal digits"),
        method=take("method", str, "fedavg", lambda s: s in METHODS, " | ".join(METHODS)),
        heads=tuple(filter(None, (h.strip() for h in take("heads", str, "").split(",")))),
        steps=take("steps", int, 100, lambda n: 1 <= n <= 1_000_000, "1 to 1000000"),
        learning_rate=take("learning-rate", float, 0.0, lambda x: 0 <= x < 1, "0 to 1"),
        proximal_mu=take("proximal-mu", float, 0.0, lambda x: 0 <= x <= 100, "0 to 100"),
        seed=take("seed", int, 1, lambda n: n >= 0, "0 or more"))
    rules = Rules(
        per_head=take("per-head", bool, True),
        beta=take("beta", float, 0.0, lambda x: 0 <= x <= 1, "0 to 1"),
        quorum=take("quorum", int, 2, lambda n: n >= 1, "1 or more"),
        min_sites_per_head=take("min-sites-per-head", int, 2, lambda n: n >= 1, "1 or more"),
        max_norm_ratio=take("max-norm-ratio", float, 3.0, lambda x: x == 0 or x > 1, "0, or more than 1"),
        min_cosine=take("min-cosine", float, -0.2, lambda x: -1 <= x < 1, "-1 to 1"),
        trim=take("trim", float, 0.0, lambda x: 0 <= x < 0.5, "0 to 0.5"))
    patience = Patience(
        quorum=rules.quorum, hospitals=len(nodes), quorum_wait_s=seconds("quorum-wait-seconds", 3600.0),
        deadline_s=seconds("deadline-seconds", 4 * 3600.0), reissue_s=seconds("reissue-seconds", 900.0),
        reissues=take("reissues", int, 3, lambda n: 0 <= n <= 20, "0 to 20"), poll_s=seconds("poll-seconds", 3.0))
    evaluate_s = seconds("evaluate-seconds", 1200.0)
    evaluation = Patience(quorum=1, hospitals=0, quorum_wait_s=min(evaluate_s, 60.0), deadline_s=evaluate_s,
                          reissue_s=patience.reissue_s, reissues=patience.reissues, poll_s=patience.poll_s)
    tolerance = Tolerance(dice=take("tolerance-dice", float, 0.01, lambda x: 0 <= x <= 1, "0 to 1"),
                          mm=take("tolerance-mm", float, 0.2, lambda x: 0 <= x <= 100, "0 to 100"))
    rounds = take("rounds", int, 1, lambda n: 1 <= n <= 1000, "1 to 1000")
    if nodes and rules.quorum > len(nodes):
        faults.append(f"quorum: {rules.quorum} is more than the {len(nodes)} hospitals")
    if plan.method == "fedkd_student" and not teachers:
        faults.append("teachers: fedkd_student needs at least one")
    if faults:
        raise SettingsFault("; ".join(faults))
    return Settings(state, initial, signing_key, nodes, teachers, plan, rules, patience, evaluation, tolerance, rounds)
