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


@dataclass(frozen=True)
class _Open:
    """An update whose tensors fit the base, and what it weighs by group."""

    update: Update
    weights: Mapping[str, float]


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


def fault_of(base: Weights, update: Update) -> str | None:
    """Why an update cannot be used at all, by the first fault in order of names; None when it can."""
    for head in sorted(update.labelled):
        count = update.labelled[head]
        if not math.isfinite(count) or count < 0:
            return f"n/{head} is {count:g}, not a count"
    if not math.isfinite(update.unlabelled) or update.unlabelled < 0:
        return f"n/unlabelled is {update.unlabelled:g}, not a count"
    for name in sorted(update.weights):
        if name not in base:
            return f"tensor {name} is not in the model"
        array, reference = np.asarray(update.weights[name]), base[name]
        if array.dtype != reference.dtype or array.shape != reference.shape:
            return (f"tensor {name} is {array.dtype} {list(array.shape)}, expected {reference.dtype} "
                    f"{list(reference.shape)}")
    for name in sorted(base):
        if not is_floating(base[name]):
            continue
        if name not in update.weights:
            head = head_of_tensor(name)
            if not head or update.labelled.get(head, 0) > 0:
                return f"tensor {name} is missing"
        elif not np.isfinite(_change(base, update, name)).all():
            return f"tensor {name} is not finite"
    return None


def weights_of(base: Weights, groups: Mapping[str, list[str]], update: Update, rules: Rules) -> dict[str, float]:
    """Group -> how much the site counts for it, without groups that it did not send or that weigh nothing."""
    body = rules.beta * float(update.unlabelled) + sum(float(n) for n in update.labelled.values())
    weights = {}
    for group, names in groups.items():
        own = float(update.labelled.get(group, 0)) if rules.per_head and group != BODY else body
        if own > 0 and all(name in update.weights for name in names):
            weights[group] = own
    return weights


def _groups(base: Weights) -> dict[str, list[str]]:
    """Group -> its floating tensors, in bytewise order."""
    groups: dict[str, list[str]] = {}
    for name in sorted(base):
        array = base[name]
        if is_floating(array):
            if array.dtype not in (np.float32, np.float64):
                raise ValueError(f"global model: tensor {name} is {array.dtype}; only float32 and float64 are averaged")
            if not np.isfinite(array).all():
                raise ValueError(f"global model: tensor {name} is not finite")
            groups.setdefault(group_of_tensor(name), []).append(name)
    return groups


def _change(base: Weights, update: Update, name: str) -> np.ndarray:
    """W_k - W of one tensor, flat, in float64."""
    with np.errstate(all="ignore"):  # what is not finite is asked for by the caller
        return (np.asarray(update.weights[name], np.float64) - np.asarray(base[name], np.float64)).ravel()


def _norm(base: Weights, names: Sequence[str], update: Update) -> float:
    square = 0.0
    for name in names:
        change = _change(base, update, name)
        square += float(change @ change)
    return math.sqrt(square)


def _too_long(norms: Mapping[str, Mapping[str, float]], rules: Rules) -> dict[str, str]:
    """Site -> reason, of those whose change is far longer than the others'. A site that learned nothing says nothing
    about that; fewer than three changes of a group do not say which one is wrong."""
    reasons: dict[str, str] = {}
    if rules.max_norm_ratio <= 0:
        return reasons
    for group in sorted(norms):
        changed = [norm for norm in norms[group].values() if norm > 0]
        if len(changed) < 3:
            continue
        median = float(np.median(changed))
        for site, norm in norms[group].items():
            if norm > rules.max_norm_ratio * median:
                reasons.setdefault(site, f"{group}: the change is {norm / median:.4g} times the median, more than "
                                         f"{rules.max_norm_ratio:.4g}")
    return reasons


def _worst_direction(base: Weights, groups: Mapping[str, list[str]], updates: Sequence[_Open],
                     norms_of: Mapping[str, Mapping[str, float]], rules: Rules) -> dict[str, str]:
    """Site -> reason, of the one update that points away from the others the most, if it is far enough. One at a time:
    a turned update turns the others' median round as well. The allowance of 3 / sqrt(values) is what chance does."""
    worst, worst_margin = {}, 0.0
    if rules.min_cosine <= -1:
        return worst
    for group in sorted(groups):
        norms = norms_of.get(group, {})
        members = [u.update for u in updates if norms.get(u.update.site, 0) > 0]
        if len(members) < 3:
            continue
        dots, squares, values = np.zeros(len(members)), np.zeros(len(members)), 0
        for name in groups[group]:
            directions = np.stack([_change(base, u, name) / norms[u.site] for u in members])
            values += directions.shape[1]
            for m in range(len(members)):
                median = np.median(np.delete(directions, m, axis=0), axis=0)
                dots[m] += directions[m] @ median
                squares[m] += median @ median
        lowest = rules.min_cosine - 3 / math.sqrt(values)
        for m, update in enumerate(members):
            if squares[m] <= 0:
                continue
            cosine = float(dots[m] / math.sqrt(squares[m]))
            if cosine - lowest < worst_margin:
                worst_margin = cosine - lowest
                worst = {update.site: f"{group}: the change points away from the others', cosine {cosine:.3f}, below "
                                      f"{lowest:.3f}"}
    return worst


def _mean_change(changes: Sequence[np.ndarray], weights: Sequence[float], trim: float) -> np.ndarray:
    cut = int(trim * len(changes))
    if trim > 0:
        ordered = np.sort(np.stack(changes), axis=0)
        return ordered[cut:len(changes) - cut].mean(axis=0)
    total = np.zeros_like(changes[0])
    for change, weight in zip(changes, weights):
        total += weight * change
    return total / sum(weights)


def aggregate(base: Weights, updates: Sequence[Update], rules: Rules) -> tuple[dict[str, np.ndarray], Report]:
    """The next weights, with the names, shapes and dtypes of `base`. Raises TooFewUpdates below the quorum, ValueError
    for a base that cannot be averaged. Of two updates of one site the second is dropped: none counts twice."""
    groups = _groups(base)
    report = Report()
    left: list[_Open] = []
    for update in sorted(updates, key=lambda u: u.site):
        if left and left[-1].update.site == update.site:
            report.dropped[update.site] = "a second update of one site"
            continue
        fault = fault_of(base, update)
        if fault:
            report.dropped[update.site] = fault
        else:
            left.append(_Open(update, weights_of(base, groups, update, rules)))
    for group, names in groups.items():
        report.norms[group] = {u.update.site: _norm(base, names, u.update) for u in left if group in u.weights}
    outliers = _too_long(report.norms, rules)
    outliers = outliers or _worst_direction(base, groups, left, report.norms, rules)
    while outliers:
        report.dropped |= outliers
        left = [u for u in left if u.update.site not in outliers]
        outliers = _worst_direction(base, groups, left, report.norms, rules)

    members: dict[str, list[tuple[Update, float]]] = {}
    for group in groups:
        members[group] = [(u.update, u.weights[group]) for u in left if group in u.weights]
        if group != BODY and len(members[group]) < max(1, rules.min_sites_per_head):
            report.unchanged_heads.append(group)
            members[group] = []
        total = sum(weight for _, weight in members[group])
        if members[group]:
            report.weights[group] = {u.site: weight / total for u, weight in members[group]}
    report.unchanged_heads.sort()
    usable = {u.site for group in members for u, _ in members[group]}
    if len(usable) < max(1, rules.quorum):
        raise TooFewUpdates(f"{len(usable)} of {len(updates)} updates can be used, the quorum is "
                            f"{max(1, rules.quorum)}", report)

    result = {name: np.array(base[name]) for name in base}
    for group, names in groups.items():
        if not members[group]:
            continue
        for name in names:
            change = _mean_change([_change(base, u, name) for u, _ in members[group]],
                                  [weight for _, weight in members[group]], rules.trim)
            reference = np.asarray(base[name])
            value = reference.astype(np.float64).ravel() + change
            result[name] = value.reshape(reference.shape).astype(reference.dtype)
    return result, report
