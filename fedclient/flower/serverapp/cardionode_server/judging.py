"""Whether a new global model replaces the old one: the hospitals' validation, weighted by their held-out studies.

Metrics of a hospital: "dice/<head>" (higher is better), "point-mm/<head>" (lower is better), and "num-examples", its
held-out studies. Pure functions.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Tolerance:
    dice: float = 0.01
    mm: float = 0.2


@dataclass
class Verdict:
    accepted: bool = True
    reasons: list[str] = field(default_factory=list)  # why not
    means: dict[str, tuple[float, float]] = field(default_factory=dict)  # metric -> old, new


def better_is_higher(metric: str) -> bool | None:
    """None: not a metric that models are judged by."""
    if metric.startswith("dice/"):
        return True
    if metric.startswith("point-mm/"):
        return False
    return None


def judge(old: Mapping[str, Metrics], new: Mapping[str, Metrics], tolerance: Tolerance = Tolerance()) -> Verdict:
    """@param old, new  hospital -> its metrics of the model in use and of the candidate. A metric counts over the
    hospitals that have both values. A value of the candidate that is not finite, where the old one was, is a fall."""
    verdict = Verdict()
    names = {m for site in new.values() for m in site} | {m for site in old.values() for m in site}
    for metric in sorted(names):
        higher = better_is_higher(metric)
        if higher is None:
            continue
        sums, total = [0.0, 0.0], 0.0
        for site in sorted(set(old) & set(new)):
            before, after = old[site].get(metric), new[site].get(metric)
            if before is None or after is None or not math.isfinite(before):
                continue
            if not math.isfinite(after):
                verdict.reasons.append(f"{metric} of {site} is not finite")
                continue
            weight = max(1.0, float(new[site].get("num-examples", 1.0)))
            sums[0] += weight * before
            sums[1] += weight * after
            total += weight
        if total == 0:
            continue
        before, after = sums[0] / total, sums[1] / total
        verdict.means[metric] = (before, after)
        fall = before - after if higher else after - before
        if fall > (tolerance.dice if higher else tolerance.mm):
            verdict.reasons.append(f"{metric}: {before:.3f} -> {after:.3f}")
    verdict.accepted = not verdict.reasons
    return verdict
