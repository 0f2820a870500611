"""The ServerApp: the only file that knows Flower, by its public interface (flwr.app, flwr.serverapp).

`flwr run` (a nightly timer) starts it beside the SuperLink. It does not use Strategy.start: that waits for nodes
without an end, never asks again, and averages whole models. Written from Flower's documentation of the version that
pyproject.toml pins, and not yet run against it: DEPLOY.md says what to try first.
"""
from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp

from . import signing
from .aggregation import TooFewUpdates, Update, aggregate
from .collecting import FAILURE, LOST, RESULT, Answer, collect
from .contract import counts_of, round_config, teacher_id, validation_before, validation_of
from .judging import judge
from .settings import Settings, read_settings
from .state import State
from .weights_file import WeightsFile, write_weights

app = ServerApp()
logger = logging.getLogger("cardionode")

# Codes by which the SuperLink itself answers when a message or node is gone (flwr's ErrorCode, 3 to 5).
SERVER_GAVE_UP = {3, 4, 5}


def to_record(weights: Mapping[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord(OrderedDict((name, Array(np.ascontiguousarray(weights[name]))) for name in sorted(weights)))


class GridPost:
    """One question on the Grid, as collecting.Post."""

    def __init__(self, grid: Grid, hospitals: Mapping[int, str], kind: str, content: RecordDict, group: str,
                 deadline: float):
        self._grid, self._hospitals, self._kind = grid, hospitals, kind
        self._content, self._group, self._deadline = content, group, deadline

    def online(self) -> Mapping[int, str]:
        return {node: self._hospitals[node] for node in self._grid.get_node_ids() if node in self._hospitals}

    def send(self, node: int) -> str | None:
        ttl = self._deadline - time.time()
        if ttl <= 0:
            return None
        message = Message(content=self._content, dst_node_id=node, message_type=self._kind, ttl=ttl,
                          group_id=self._group)
        return next(iter(self._grid.push_messages([message])), None) or None

    def take(self, message_ids: Iterable[str]) -> Iterable[Answer]:
        for reply in self._grid.pull_messages(list(message_ids)):
            yield self._answer(reply)

    @staticmethod
    def _answer(reply: Message) -> Answer:
        message_id = reply.metadata.reply_to_message_id
        if reply.has_error():
            kind = LOST if reply.error.code in SERVER_GAVE_UP else FAILURE
            return Answer(message_id, kind, reason=printable(reply.error.reason))
        return Answer(message_id, RESULT, content=reply.content)


def printable(text: str | None) -> str:
    """What a hospital wrote, fit for a log line."""
    return "".join(c if c.isprintable() else " " for c in (text or "no reason given"))[:200]


def numbers_of(content: RecordDict) -> dict[str, float]:
    records = list(content.metric_records.values())
    if len(records) != 1:
        raise ValueError("not exactly one MetricRecord")
    return {key: value for key, value in records[0].items() if not isinstance(value, list)}


class KeepingPost(GridPost):
    """Trained weights go to disk before they count; what cannot be read is the hospital's failure."""

    def __init__(self, state: State, sent: dict[str, str], *words):
        super().__init__(*words)
        self._state, self._sent = state, sent

    def send(self, node: int) -> str | None:
        message_id = super().send(node)
        if message_id:
            self._sent[message_id] = self._hospitals[node]
        return message_id

    def take(self, message_ids: Iterable[str]) -> Iterable[Answer]:
        kept = set(self._state.kept_answers())
        for answer in super().take(message_ids):
            hospital = self._sent.get(answer.message_id)
            if answer.kind == RESULT and hospital and hospital not in kept:
                try:
                    kept_answer = self._keep(hospital, answer.content)
                    kept.add(hospital)
                    answer = Answer(answer.message_id, RESULT, content=kept_answer)
                except Exception as error:  # whatever a hospital sent must not end the round
                    reason = f"its answer cannot be read: {printable(str(error))}"
                    answer = Answer(answer.message_id, FAILURE, reason=reason)
            yield answer

    def _keep(self, hospital: str, content: RecordDict) -> dict:
        metrics = numbers_of(content)
        counts_of(metrics)
        records = list(content.array_records.values())
        if len(records) != 1:
            raise ValueError("not exactly one ArrayRecord")
        facts = content.config_records.get("facts", {})
        answer = {"metrics": metrics, "before": validation_before(facts)}
        self._state.keep_answer(hospital, answer, {name: array.numpy() for name, array in records[0].items()})
        return answer


def signed_content(settings: Settings, key, weights, round_number: int, deadline: float,
                   teachers: Mapping[str, Path] | None = None) -> RecordDict:
    arrays = to_record(weights)
    content = {"arrays": arrays}
    signed = {}
    for head, file in (teachers or {}).items():
        record = to_record(WeightsFile(file))
        content[f"teacher/{head}"] = record  # a hospital that has these objects does not fetch them again
        name = teacher_id(settings.plan.model_id, head)
        signed[head] = record.object_id, signing.sign(key, name, round_number, record.object_id)
    signature = signing.sign(key, settings.plan.model_id, round_number, arrays.object_id)
    content["config"] = ConfigRecord(
        round_config(settings.plan, round_number, arrays.object_id, signature, deadline, signed))
    return RecordDict(content)


def evaluate(grid: Grid, settings: Settings, key, weights, round_number: int) -> dict[str, dict[str, float]]:
    """Hospital -> its metrics of these weights."""
    deadline = time.time() + settings.evaluation.deadline_s
    content = signed_content(settings, key, weights, round_number, deadline)
    post = GridPost(grid, settings.hospitals, "evaluate", content, str(round_number), deadline)
    collected = collect(post, settings.evaluation, time.time, time.sleep, logger.info)
    metrics = {}
    for hospital, answer in collected.results.items():
        try:
            metrics[hospital] = validation_of(numbers_of(answer))
        except ValueError as error:
            logger.warning("%s: its validation cannot be read: %s", hospital, error)
    return metrics


def one_round(grid: Grid, settings: Settings, key, state: State) -> None:
    number, deadline = state.open_round(time.time(), settings.patience.deadline_s)
    base = WeightsFile(state.accepted)
    logger.info("round %d: starts from %s", number, state.accepted.name)
    content = signed_content(settings, key, base, number, deadline, settings.teachers)
    post = KeepingPost(state, {}, grid, settings.hospitals, "train", content, str(number), deadline)
    collected = collect(post, settings.patience, time.time, time.sleep, logger.info, answered=state.kept_answers())
    note = {"failures": collected.failures, "silent": collected.silent}
    if not collected.quorum_met:
        state.close_round(False, {**note, "reasons": ["no quorum"]})
        return
    updates = []
    for hospital, answer in collected.results.items():
        labelled, unlabelled = counts_of(answer["metrics"])
        updates.append(Update(hospital, state.answer_weights(hospital), labelled, unlabelled))
    try:
        candidate, report = aggregate(base, updates, settings.rules)
    except TooFewUpdates as refusal:
        for hospital, reason in refusal.report.dropped.items():
            logger.warning("%s: update dropped: %s", hospital, reason)
        logger.warning("round %d: %s; the old model stays", number, refusal)
        state.close_round(False, {**note, "dropped": refusal.report.dropped, "reasons": [str(refusal)]})
        return
    for hospital, reason in report.dropped.items():
        logger.warning("%s: update dropped: %s", hospital, reason)
    for head in report.unchanged_heads:
        logger.info("head %s: fewer than %d hospitals trained it; stays as it was", head,
                    settings.rules.min_sites_per_head)
    note |= {"dropped": report.dropped, "weights": report.weights, "unchanged-heads": report.unchanged_heads}
    write_weights(state.candidate(), candidate)
    measured = evaluate(grid, settings, key, candidate, number)
    before = {hospital: answer["before"] for hospital, answer in collected.results.items()}
    verdict = judge(before, measured, settings.tolerance)
    for metric, (old, new) in verdict.means.items():
        logger.info("round %d: %s %.3f -> %.3f", number, metric, old, new)
    if not verdict.means:
        logger.warning("round %d: no hospital can compare the new model with the old one; it is taken", number)
    state.close_round(verdict.accepted, {**note, "reasons": verdict.reasons, "means": verdict.means})
    logger.info("round %d: %s", number,
                "new model accepted" if verdict.accepted else "old model stays: " + "; ".join(verdict.reasons))


@app.main()
def main(grid: Grid, context: Context) -> None:
    settings = read_settings(context.run_config)
    key = signing.read_private_key(settings.signing_key)
    state = State(settings.state, settings.plan.model_id, settings.plan.arch_sha256, settings.initial_model)
    try:
        for _ in range(settings.rounds):
            one_round(grid, settings, key, state)
    finally:
        state.close()
