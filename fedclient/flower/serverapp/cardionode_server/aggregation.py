"""From the updates of several hospitals to the next global weights: the rules of fedclient/coordinator/aggregate.h.

W' = W + sum_k w_k (W_k - W) / sum_k w_k for every floating tensor, over the sites whose update counts for the tensor's
group: a head with w_k = n/<head> of site k, the body with w_k = sum of n/<head> + beta * n/unlabelled. A head that
nobody trained, or fewer than min_sites_per_head, stays as it was. Integer tensors are never averaged. The same inputs
through the C++ coordinator give the same numbers; a test compares them.

Knows numpy, not Flower. Weights are mappings from tensor names to arrays; they are asked for one tensor at a time, so
that a mapping may make its arrays when it is asked. No function changes its inputs.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

BODY = "body"
Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Update:
    """What one hospital sent. `labelled` holds n/<head>; a head may be absent from `weights` where its n is 0."""

    site: str
    weights: Weights
    labelled: Mapping[str, float]
    unlabelled: float = 0.0


@dataclass(frozen=True)
class Rules:
    per_head: bool = True  # False: every tensor with the weight of the body, as FedAvg does
    beta: float = 0.0  # weight of an unlabelled study for the body
    quorum: int = 2  # updates that must be left
    min_sites_per_head: int = 1  # before a head changes
    max_norm_ratio: float = 3.0  # times the median norm; 0: no check. Needs three updates
    min_cosine: float = -0.2  # to the median of the others' directions; -1: no check. Needs three updates
    trim: float = 0.0  # share of sites cut off at each end, value by value, unweighted; 0: weighted mean


@dataclass
class Report:
    dropped: dict[str, str] = field(default_factory=dict)  # site -> reason
    weights: dict[str, dict[str, float]] = field(default_factory=dict)  # group -> site -> share
    norms: dict[str, dict[str, float]] = field(default_factory=dict)  # group -> site -> |W_k - W|
    unchanged_heads: list[str] = field(default_factory=list)


class TooFewUpdates(Exception):
    """Fewer than the quorum are left; `report` says why the others are not."""

    def __init__(self, message: str, report: Report):
        super().__init__(message)
        self.report = report


def head_of_tensor(name: str) -> str:
    """"hps" of "outs.hps.conv.conv.weight" and of "seg_layers.hps.4.bias"; "" for the body that all heads share."""
    for prefix in ("outs.", "seg_layers."):
        if name.startswith(prefix):
            head, dot, _ = name[len(prefix):].partition(".")
            if dot:
                return head
    return ""


def group_of_tensor(name: str) -> str:
    return head_of_tensor(name) or BODY


def is_floating(array: np.ndarray) -> bool:
    return np.issubdtype(array.dtype, np.floating)


def weight_in(update: Update, group: str, rules: Rules) -> float:
    """How much a site counts for a group."""
    if group != BODY and rules.per_head:
        return max(0.0, float(update.labelled.get(group, 0.0)))
    labelled = sum(max(0.0, float(n)) for n in update.labelled.values())
    return labelled + rules.beta * max(0.0, float(update.unlabelled))


def _groups(base: Weights) -> dict[str, list[str]]:
    """Group -> its floating tensors, in bytewise order."""
    groups: dict[str, list[str]] = {}
    for name in sorted(base):
        if is_floating(base[name]):
            groups.setdefault(group_of_tensor(name), []).append(name)
    return groups


def fault_of(base: Weights, update: Update) -> str | None:
    """Why an update cannot be used at all, by the first fault in order of names; None when it can."""
    for head, count in update.labelled.items():
        if not math.isfinite(count) or count < 0:
            return f"n/{head} is not a count"
    if not math.isfinite(update.unlabelled) or update.unlabelled < 0:
        return "n/unlabelled is not a count"
    for name in sorted(base):
        reference = base[name]
        if not is_floating(reference):
            continue
        head = head_of_tensor(name)
        if name not in update.weights:
            if head and not update.labelled.get(head, 0):
                continue
            return f"tensor {name} is missing"
        array = np.asarray(update.weights[name])
        if array.shape != reference.shape:
            return f"tensor {name} has shape {list(array.shape)}, not {list(reference.shape)}"
        if array.dtype != reference.dtype:
            return f"tensor {name} is {array.dtype}, not {reference.dtype}"
        if not np.isfinite(array).all():
            return f"tensor {name} is not finite"
    for name in sorted(update.weights):
        if name not in base:
            return f"tensor {name} is not in the model"
    return None


def _change(base: Weights, update: Update, name: str) -> np.ndarray:
    """W_k - W of one tensor, flat, in float64; zeros where the site did not send it."""
    if name not in update.weights:
        return np.zeros(base[name].size)
    return (np.asarray(update.weights[name], np.float64) - np.asarray(base[name], np.float64)).ravel()


def _norms(base: Weights, names: Sequence[str], updates: Sequence[Update]) -> dict[str, float]:
    squares = {update.site: 0.0 for update in updates}
    for name in names:
        for update in updates:
            change = _change(base, update, name)
            squares[update.site] += float(change @ change)
    return {site: math.sqrt(square) for site, square in squares.items()}


def _cosines(base: Weights, names: Sequence[str], updates: Sequence[Update],
             norms: Mapping[str, float]) -> dict[str, float]:
    """Cosine of each site's change to the value-wise median of the others' changes, each at length 1."""
    count = len(updates)
    dots, lengths = np.zeros(count), np.zeros(count)
    for name in names:
        directions = np.stack([_change(base, u, name) / (norms[u.site] or 1.0) for u in updates])
        for k in range(count):
            median = np.median(np.delete(directions, k, axis=0), axis=0)
            dots[k] += directions[k] @ median
            lengths[k] += median @ median
    return {update.site: float(dots[k] / math.sqrt(lengths[k])) if lengths[k] > 0 else 1.0
            for k, update in enumerate(updates)}


def _drop_outliers(base: Weights, groups: Mapping[str, list[str]], updates: list[Update], rules: Rules,
                   report: Report) -> list[Update]:
    """Those whose change is neither far longer than the others' nor against their direction. Fewer than three changes
    of a group say nothing about which one is wrong."""
    for group, names in groups.items():
        counting = [u for u in updates if weight_in(u, group, rules) > 0]
        norms = _norms(base, names, counting)
        report.norms[group] = norms
        if rules.max_norm_ratio <= 0 or len(counting) < 3:
            continue
        median = float(np.median(list(norms.values())))
        for site, norm in norms.items():
            if median > 0 and norm > rules.max_norm_ratio * median:
                report.dropped.setdefault(
                    site, f"change of {group} has norm {norm:.3g}, more than {rules.max_norm_ratio:g} times the median "
                          f"{median:.3g}")
    left = [u for u in updates if u.site not in report.dropped]
    for group, names in groups.items():
        counting = [u for u in left if weight_in(u, group, rules) > 0]
        if rules.min_cosine <= -1 or len(counting) < 3:
            continue
        for site, cosine in _cosines(base, names, counting, report.norms[group]).items():
            if cosine < rules.min_cosine:
                report.dropped.setdefault(
                    site, f"change of {group} points away from the others' (cosine {cosine:.2f}, least "
                          f"{rules.min_cosine:g})")
    return [u for u in left if u.site not in report.dropped]


def _mean_change(changes: Sequence[np.ndarray], weights: Sequence[float], trim: float) -> np.ndarray:
    cut = int(trim * len(changes))
    if trim > 0 and len(changes) > 2 * cut:
        ordered = np.sort(np.stack(changes), axis=0)
        return ordered[cut:len(changes) - cut].mean(axis=0)
    total = np.zeros_like(changes[0])
    for change, weight in zip(changes, weights):
        total += weight * change
    return total / sum(weights)


def aggregate(base: Weights, updates: Sequence[Update], rules: Rules) -> tuple[dict[str, np.ndarray], Report]:
    """The next weights, with the names, shapes and dtypes of `base`. Raises TooFewUpdates below the quorum, and
    ValueError for two updates of one site: no hospital counts twice."""
    ordered = sorted(updates, key=lambda u: u.site)
    if len({u.site for u in ordered}) != len(ordered):
        raise ValueError("two updates of one site")
    report = Report()
    usable = []
    for update in ordered:
        fault = fault_of(base, update)
        if fault:
            report.dropped[update.site] = fault
        else:
            usable.append(update)
    groups = _groups(base)
    left = _drop_outliers(base, groups, usable, rules, report)
    if len(left) < max(1, rules.quorum):
        raise TooFewUpdates(f"{len(left)} of {len(ordered)} updates can be used, {rules.quorum} are needed", report)

    result = {name: np.array(base[name]) for name in base}
    for group, names in groups.items():
        counting = [(u, weight_in(u, group, rules)) for u in left]
        counting = [(u, weight) for u, weight in counting if weight > 0]
        least = rules.min_sites_per_head if group != BODY else 1
        if len(counting) < max(1, least):
            if group != BODY:
                report.unchanged_heads.append(group)
            continue
        total = sum(weight for _, weight in counting)
        report.weights[group] = {u.site: weight / total for u, weight in counting}
        for name in names:
            change = _mean_change([_change(base, u, name) for u, _ in counting], [w for _, w in counting], rules.trim)
            reference = np.asarray(base[name])
            value = np.asarray(reference, np.float64).ravel() + change
            result[name] = value.reshape(reference.shape).astype(reference.dtype)
    return result, report
