import unittest

from cardionode_server.collecting import FAILURE, LOST, RESULT, Answer, Patience, collect


class Town:
    """Hospitals by a script: when each node is online, and how it answers which of its messages."""

    def __init__(self, hospitals):
        self.time, self.hospitals, self.count, self.waiting, self.sends = 0.0, hospitals, 0, {}, []
        self.log = []

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds

    def online(self):
        return {node: h["name"] for node, h in self.hospitals.items()
                if any(begin <= self.time < end for begin, end in h.get("online", [(0, 1e9)]))}

    def send(self, node):
        self.count += 1
        message_id = f"m{self.count}"
        self.sends.append((self.time, self.hospitals[node]["name"]))
        answers = self.hospitals[node].get("answers", [])
        number = sum(1 for _, name in self.sends if name == self.hospitals[node]["name"]) - 1
        if number < len(answers) and answers[number]:
            delay, kind, content = answers[number]
            self.waiting[message_id] = (self.time + delay, Answer(message_id, kind, content, "reason"))
        return message_id

    def take(self, message_ids):
        ready = [m for m in message_ids if m in self.waiting and self.waiting[m][0] <= self.time]
        return [self.waiting.pop(m)[1] for m in ready]

    def collect(self, patience, **words):
        return collect(self, patience, self.now, self.sleep, self.log.append, **words)


PATIENCE = Patience(quorum=2, hospitals=2, quorum_wait_s=100, deadline_s=1000, reissue_s=200, reissues=2, poll_s=1)


class Collecting(unittest.TestCase):
    def test_all_answer_and_the_waiting_ends(self):
        town = Town({1: {"name": "a", "answers": [(5, RESULT, "A")]}, 2: {"name": "b", "answers": [(9, RESULT, "B")]}})
        outcome = town.collect(PATIENCE)
        self.assertEqual(outcome.results, {"a": "A", "b": "B"})
        self.assertLess(town.time, 12)

    def test_without_quorum_nothing_is_sent(self):
        town = Town({1: {"name": "a"}})
        outcome = town.collect(PATIENCE)
        self.assertFalse(outcome.quorum_met)
        self.assertEqual(town.sends, [])
        self.assertGreaterEqual(town.time, 100)

    def test_two_nodes_of_one_hospital_are_no_quorum(self):
        town = Town({1: {"name": "a"}, 2: {"name": "a"}})
        self.assertFalse(town.collect(PATIENCE).quorum_met)

    def test_a_late_comer_is_asked_too(self):
        town = Town({1: {"name": "a", "answers": [(5, RESULT, 1)]}, 2: {"name": "b", "answers": [(5, RESULT, 2)]},
                     3: {"name": "c", "online": [(60, 1e9)], "answers": [(5, RESULT, 3)]}})
        outcome = town.collect(Patience(**{**PATIENCE.__dict__, "hospitals": 3}))
        self.assertEqual(sorted(outcome.results), ["a", "b", "c"])
        self.assertLess(town.time, 70)

    def test_a_silent_node_is_asked_again_and_then_counts_once(self):
        town = Town({1: {"name": "a", "answers": [(5, RESULT, 1)]},
                     2: {"name": "b", "answers": [None, (5, RESULT, 2)]}})
        outcome = town.collect(PATIENCE)
        self.assertEqual(outcome.results, {"a": 1, "b": 2})
        self.assertEqual([t for t, name in town.sends if name == "b"], [0, 200])

    def test_answers_to_both_messages_count_once_and_the_first_one(self):
        town = Town({1: {"name": "a", "answers": [(900, RESULT, "late")]},
                     2: {"name": "b", "answers": [(205, RESULT, "first"), (5, RESULT, "second")]}})
        outcome = town.collect(PATIENCE)
        self.assertEqual(outcome.results["b"], "first")

    def test_the_deadline_ends_it_and_the_silent_are_named(self):
        town = Town({1: {"name": "a", "answers": [(5, RESULT, 1)]}, 2: {"name": "b"}})
        outcome = town.collect(PATIENCE)
        self.assertEqual((outcome.silent, sorted(outcome.results)), (["b"], ["a"]))
        self.assertAlmostEqual(town.time, 1000, delta=2)
        self.assertEqual(sum(1 for _, name in town.sends if name == "b"), 3, "asked once and re-issued twice, no more")

    def test_an_honest_failure_is_an_answer(self):
        town = Town({1: {"name": "a", "answers": [(5, RESULT, 1)]}, 2: {"name": "b", "answers": [(5, FAILURE, None)]}})
        outcome = town.collect(PATIENCE)
        self.assertEqual(outcome.failures, {"b": "reason"})
        self.assertLess(town.time, 10)

    def test_a_node_that_went_away_is_asked_when_it_is_back(self):
        town = Town({1: {"name": "a", "answers": [(5, RESULT, 1)]},
                     2: {"name": "b", "online": [(0, 20), (50, 1e9)], "answers": [(20, LOST, None), (5, RESULT, 2)]}})
        outcome = town.collect(PATIENCE)
        self.assertEqual(outcome.results, {"a": 1, "b": 2})
        self.assertLess(town.time, 70)

    def test_an_interrupted_call_goes_on_with_what_was_taken(self):
        town = Town({2: {"name": "b", "answers": [(5, RESULT, 2)]}})
        outcome = town.collect(PATIENCE, answered={"a": "kept"})
        self.assertEqual(outcome.results, {"a": "kept", "b": 2})
        self.assertEqual([name for _, name in town.sends], ["b"])

    def test_a_server_that_takes_no_message_is_tried_again(self):
        town = Town({1: {"name": "a", "answers": [(5, RESULT, 1)]}, 2: {"name": "b", "answers": [(5, RESULT, 2)]}})
        send, refused = town.send, []
        town.send = lambda node: None if node == 2 and not refused and not refused.append(1) else send(node)
        self.assertEqual(town.collect(PATIENCE).results, {"a": 1, "b": 2})
