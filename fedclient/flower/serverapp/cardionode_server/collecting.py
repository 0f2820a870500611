"""One question to all hospitals and their answers: quorum, deadline, late comers, re-issue to silent nodes.

Flower hands a message out once; an answer that is lost on the way is lost (facts of the Fleet protocol), and hospitals
wake by timers of their own. So this waits for a quorum with a deadline of its own, sends to nodes as they come, sends
again to those that stay silent, and takes one answer from each hospital, whichever of its messages it belongs to. Knows
neither Flower nor numpy; clock and network are handed in.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

RESULT, FAILURE, LOST = "result", "failure", "lost"


@dataclass(frozen=True)
class Answer:
    """What came back for a message. LOST: the server gave the message up; the hospital may be asked again."""

    message_id: str
    kind: str
    content: Any = None
    reason: str = ""


class Post(Protocol):
    def online(self) -> Mapping[int, str]:
        """Node id -> hospital, of the nodes that may take part and are online now."""

    def send(self, node: int) -> str | None:
        """The message's id; None when the server did not take it."""

    def take(self, message_ids: Iterable[str]) -> Iterable[Answer]:
        """Answers that have come; each is given once."""


@dataclass(frozen=True)
class Patience:
    quorum: int = 2  # hospitals, before anything is sent and before the answers count
    hospitals: int = 0  # that are expected: all of them answered ends the waiting; 0: not known
    quorum_wait_s: float = 3600.0  # for the quorum to come online; also how long late comers are waited for
    deadline_s: float = 4 * 3600.0  # from the first message
    reissue_s: float = 900.0  # silence before a node is asked again
    reissues: int = 3
    poll_s: float = 3.0


@dataclass
class Collected:
    quorum_met: bool = False
    results: dict[str, Any] = field(default_factory=dict)  # hospital -> content
    failures: dict[str, str] = field(default_factory=dict)  # hospital -> reason
    silent: list[str] = field(default_factory=list)


def collect(post: Post, patience: Patience, now: Callable[[], float], sleep: Callable[[float], None],
            log: Callable[[str], None], answered: Mapping[str, Any] | None = None) -> Collected:
    """Asks every hospital once and returns when all have answered or the deadline is over.

    @param answered  results that an earlier, interrupted call has taken already; these hospitals are not asked again
    """
    outcome = Collected(results=dict(answered or {}))
    if not _wait_for_quorum(post, patience, now, sleep, log, outcome):
        return outcome
    outcome.quorum_met = True
    sent: dict[str, str] = {}  # message id -> hospital
    last: dict[str, float] = {}  # hospital -> when it was asked last
    asked: dict[str, int] = {}  # hospital -> how often
    begin = now()
    while True:
        done = set(outcome.results) | set(outcome.failures)
        for node, hospital in sorted(post.online().items(), key=lambda item: (item[1], item[0])):
            if hospital in done:
                continue
            count = asked.get(hospital, 0)
            if count and (now() - last[hospital] < patience.reissue_s or count > patience.reissues):
                continue
            message_id = post.send(node)
            last[hospital] = now()
            if message_id is None:
                log(f"{hospital}: the server did not take the message; will be tried again")
                asked.setdefault(hospital, 1)
                continue
            sent[message_id] = hospital
            asked[hospital] = count + 1
            log(f"{hospital}: asked" + (f" again, time {count + 1}" if count else ""))
        for answer in post.take(list(sent)) if sent else ():
            hospital = sent.pop(answer.message_id, None)
            if hospital is None or hospital in outcome.results or hospital in outcome.failures:
                continue
            if answer.kind == RESULT:
                outcome.results[hospital] = answer.content
                log(f"{hospital}: answered")
            elif answer.kind == FAILURE:
                outcome.failures[hospital] = answer.reason
                log(f"{hospital}: answers that it has no result: {answer.reason}")
            else:
                last[hospital] = -patience.reissue_s + now()
                log(f"{hospital}: gone before its answer was taken; will be asked again when it is back")
        if _finished(patience, now() - begin, set(asked), outcome):
            break
        sleep(patience.poll_s)
    outcome.silent = sorted(set(asked) - set(outcome.results) - set(outcome.failures))
    for hospital in outcome.silent:
        log(f"{hospital}: no answer within {now() - begin:.0f} s")
    return outcome


def _wait_for_quorum(post: Post, patience: Patience, now, sleep, log, outcome: Collected) -> bool:
    begin = now()
    while True:
        there = set(post.online().values()) | set(outcome.results)
        if len(there) >= patience.quorum:
            return True
        if now() - begin >= patience.quorum_wait_s:
            log(f"{len(there)} of {patience.quorum} hospitals came within {patience.quorum_wait_s:.0f} s: no round")
            return False
        sleep(patience.poll_s)


def _finished(patience: Patience, elapsed: float, asked: set[str], outcome: Collected) -> bool:
    if elapsed >= patience.deadline_s:
        return True
    done = set(outcome.results) | set(outcome.failures)
    if patience.hospitals and len(done) >= patience.hospitals:
        return True
    return elapsed >= patience.quorum_wait_s and asked <= done
