import logging
import shutil
import subprocess
import tempfile
import types
import unittest
from collections import OrderedDict
from pathlib import Path
from unittest import mock

import numpy as np

import stand_in_flwr as flwr

flwr.install()

from cardionode_server import server_app, signing  # noqa: E402
from cardionode_server.weights_file import WeightsFile, write_weights  # noqa: E402

BASE = {"body.weight": np.zeros(4, np.float32), "outs.hps.weight": np.zeros(2, np.float32)}


class Grid:
    """A consortium in a process: every hospital answers at once, by a function of the message."""

    def __init__(self, hospitals):
        self.hospitals, self.sent, self.replies, self.seen = hospitals, 0, {}, []

    def get_node_ids(self):
        return list(self.hospitals)

    def push_messages(self, messages):
        ids = []
        for message in messages:
            self.sent += 1
            message_id = f"id{self.sent}"
            self.seen.append(message)
            answer = self.hospitals[message.metadata.dst_node_id](message)
            if answer is not None:
                answer.metadata.reply_to_message_id = message_id
                self.replies[message_id] = answer
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids):
        return [self.replies.pop(i) for i in list(message_ids) if i in self.replies]


def hospital(step, dice, labelled=10):
    """Adds `step` to every weight; its Dice is a function of the body's weight."""
    def answer(message):
        arrays = message.content["arrays"]
        reached = dice(float(arrays["body.weight"].numpy()[0]))
        if message.metadata.message_type == "evaluate":
            metrics = flwr.MetricRecord({"dice/hps": reached, "num-examples": 5})
            return flwr.Message(flwr.RecordDict({"metrics": metrics}))
        trained = flwr.ArrayRecord(OrderedDict(
            (name, flwr.Array((array.numpy() + step).astype(np.float32))) for name, array in arrays.items()))
        metrics = flwr.MetricRecord({"n/hps": labelled, "n/unlabelled": 3, "num-examples": 13})
        facts = flwr.ConfigRecord({"fed-schema": 1, "dice-before/hps": reached, "dice-after/hps": 1.0})
        return flwr.Message(flwr.RecordDict({"arrays": trained, "metrics": metrics, "facts": facts}))
    return answer


class Rounds(unittest.TestCase):
    def setUp(self):
        if not shutil.which("openssl"):
            self.skipTest("openssl is not installed")
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        write_weights(self.folder / "initial.safetensors", BASE)
        key = self.folder / "consortium.key"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
        key.chmod(0o600)
        self.public = subprocess.run(["openssl", "pkey", "-in", key, "-pubout"], check=True, capture_output=True).stdout
        (self.folder / "hospitals.toml").write_text('[hospitals]\na = "1"\nb = "2"\nc = "3"\nd = "4"\n')
        self.config = {"state": str(self.folder / "state"), "initial-model": str(self.folder / "initial.safetensors"),
                       "signing-key": str(key), "hospitals": str(self.folder / "hospitals.toml"), "model-id": "m",
                       "arch-sha256": "0" * 64, "poll-seconds": 1, "deadline-seconds": 60, "quorum-wait-seconds": 10,
                       "evaluate-seconds": 20}
        clock = mock.Mock(wraps=server_app.time)
        self.time = 1.7e9
        clock.time = lambda: self.time
        clock.sleep = lambda seconds: setattr(self, "time", self.time + seconds)
        patch = mock.patch.object(server_app, "time", clock)
        patch.start()
        self.addCleanup(patch.stop)

    def run_round(self, grid, **changes):
        with self.assertLogs("cardionode", logging.INFO) as logs:
            server_app.main(grid, types.SimpleNamespace(run_config=self.config | changes))
        return "\n".join(logs.output)

    def accepted(self):
        files = sorted((self.folder / "state/models").iterdir(), key=lambda f: int(f.stem.split("-")[1]))
        return WeightsFile(files[-1])["body.weight"][0], len(files)

    def good(self, step=1.0):
        return hospital(step, lambda value: 0.5 + value / 10)

    def test_two_rounds_make_the_model_better_step_by_step(self):
        grid = Grid({n: self.good() for n in (1, 2, 3, 4)})
        text = self.run_round(grid, rounds=2)
        self.assertEqual(self.accepted(), (2.0, 3))
        self.assertIn("dice/hps 0.600 -> 0.700", text)

    def test_every_message_is_signed_for_its_round_and_record(self):
        grid = Grid({n: self.good() for n in (1, 2, 3, 4)})
        self.run_round(grid)
        self.assertEqual({m.metadata.message_type for m in grid.seen}, {"train", "evaluate"})
        for message in grid.seen:
            config, arrays = message.content["config"], message.content["arrays"]
            self.assertEqual((config["fed-schema"], config["round"], config["base-model"]), (1, 1, arrays.object_id))
            self.assertTrue(signing.verifies(self.public, "m", 1, arrays.object_id, config["signature"]))
            self.assertGreater(message.metadata.ttl, 0)

    def test_a_poisoned_update_is_dropped_and_named(self):
        grid = Grid({1: self.good(), 2: self.good(), 3: self.good(), 4: self.good(100.0)})
        self.assertIn("d: update dropped: body: the change is 100 times the median", self.run_round(grid))
        self.assertEqual(self.accepted(), (1.0, 2))

    def test_a_model_that_validates_worse_is_not_published(self):
        grid = Grid({n: self.good() for n in (1, 2, 3, 4)})
        self.run_round(grid)
        worse = Grid({n: self.good(-1.0) for n in (1, 2, 3, 4)})
        self.assertIn("old model stays: dice/hps: 0.600 -> 0.500", self.run_round(worse))
        self.assertEqual(self.accepted(), (1.0, 2))

    def test_nodes_that_are_not_on_the_list_are_not_asked(self):
        grid = Grid({n: self.good() for n in (1, 2, 3, 4, 5)})
        self.run_round(grid)
        self.assertNotIn(5, {m.metadata.dst_node_id for m in grid.seen})

    def test_below_the_quorum_the_old_model_stays(self):
        self.assertIn("no round", self.run_round(Grid({1: self.good()})))
        self.assertEqual(self.accepted(), (0.0, 1))

    def test_strange_answers_are_failures_of_their_hospital_alone(self):
        no_metrics = flwr.RecordDict({"arrays": flwr.ArrayRecord(OrderedDict())})
        strange = flwr.RecordDict({"arrays": flwr.ArrayRecord(OrderedDict(x=flwr.Array(np.array(["text"])))),
                                   "metrics": flwr.MetricRecord({"n/hps": 1})})
        error = types.SimpleNamespace(code=2, reason="fedclient:validation_drop\nforged line")
        grid = Grid({1: self.good(), 2: self.good(), 3: lambda m: flwr.Message(no_metrics),
                     4: lambda m: flwr.Message(strange) if m.metadata.message_type == "train" else
                     flwr.Message(error=error)})
        text = self.run_round(grid)
        self.assertIn("c: answers that it has no result", text)
        self.assertNotIn("\nforged", text)
        self.assertEqual(self.accepted(), (1.0, 2))

    def test_a_round_that_was_killed_goes_on_with_the_answers_it_had(self):
        class Killed(Exception):
            pass

        def kill(_message):
            raise Killed
        with self.assertRaises(Killed), self.assertLogs("cardionode"):
            first = Grid({1: self.good(), 2: self.good(), 3: self.good(), 4: lambda message: None})
            pull = first.pull_messages
            first.pull_messages = lambda ids: pull(ids) if first.replies else kill(ids)
            server_app.main(first, types.SimpleNamespace(run_config=self.config))
        second = Grid({4: self.good()})
        self.run_round(second)
        self.assertEqual([m.metadata.dst_node_id for m in second.seen if m.metadata.message_type == "train"], [4])
        self.assertEqual({m.content["config"]["round"] for m in second.seen}, {1})
        self.assertEqual(self.accepted(), (1.0, 2))

    def test_teachers_travel_signed(self):
        write_weights(self.folder / "teacher.safetensors", BASE)
        grid = Grid({n: self.good() for n in (1, 2, 3, 4)})
        self.run_round(grid, method="fedkd_student", teachers=f"hps={self.folder / 'teacher.safetensors'}")
        content = grid.seen[0].content
        self.assertEqual(content["config"]["teacher/hps"], content["teacher/hps"].object_id)
        self.assertNotIn("teacher/hps", grid.seen[-1].content, "an evaluation needs none")
        self.assertTrue(signing.verifies(self.public, "m/teacher/hps", 1, content["teacher/hps"].object_id,
                                         content["config"]["signature/hps"]))

    def test_a_python_supernode_is_refused(self):
        from cardionode_server import client_app
        with self.assertRaises(RuntimeError):
            client_app.app.functions["train"](None, None)
