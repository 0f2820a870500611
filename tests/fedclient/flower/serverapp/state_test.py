import shutil
import tempfile
import unittest
from pathlib import Path

import numpy as np

from cardionode_server.state import KEPT, State, StateFault
from cardionode_server.weights_file import WeightsFile, write_weights

WEIGHTS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b.count": np.array(3, np.int64),
           "c.half": np.zeros(0, np.float16)}


class StateFolder(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.initial = self.folder / "initial.safetensors"
        write_weights(self.initial, WEIGHTS)

    def open(self, model="m"):
        state = State(self.folder / "state", model, "0" * 64, self.initial)
        self.addCleanup(state.close)
        return state

    def test_an_accepted_round_becomes_the_base_of_the_next(self):
        state = self.open()
        self.assertEqual(state.open_round(0, 100)[0], 1)
        write_weights(state.candidate(), {name: array + 1 for name, array in WEIGHTS.items()})
        state.close_round(True, {})
        state.close()
        again = self.open()
        np.testing.assert_array_equal(WeightsFile(again.accepted)["a.weight"], WEIGHTS["a.weight"] + 1)
        self.assertEqual(again.open_round(0, 100)[0], 2)

    def test_a_refused_round_keeps_the_model_and_uses_up_its_number(self):
        state = self.open()
        state.open_round(0, 100)
        state.close_round(False, {"reasons": ["dice fell"]})
        np.testing.assert_array_equal(WeightsFile(state.accepted)["a.weight"], WEIGHTS["a.weight"])
        self.assertEqual(state.open_round(0, 100)[0], 2)

    def test_an_interrupted_round_goes_on_with_its_answers(self):
        state = self.open()
        state.open_round(0, 100)
        state.keep_answer("a", {"n/h": 5}, WEIGHTS)
        state.close()
        again = self.open()
        self.assertEqual(again.open_round(99, 100), (1, 100))
        self.assertEqual(again.kept_answers(), {"a": {"n/h": 5}})
        np.testing.assert_array_equal(again.answer_weights("a")["a.weight"], WEIGHTS["a.weight"])

    def test_an_interrupted_round_that_is_over_is_not_gone_on_with(self):
        state = self.open()
        state.open_round(0, 100)
        state.keep_answer("a", {"n/h": 5}, WEIGHTS)
        state.close()
        again = self.open()
        self.assertEqual(again.open_round(100, 100)[0], 2)
        self.assertEqual(again.kept_answers(), {})

    def test_one_process_at_a_time(self):
        self.open()
        with self.assertRaisesRegex(StateFault, "another run"):
            self.open()

    def test_another_model_is_refused(self):
        self.open().close()
        with self.assertRaisesRegex(StateFault, "model-id"):
            self.open("other")

    def test_the_newest_models_are_kept(self):
        state = self.open()
        for _ in range(KEPT + 3):
            state.open_round(0, 100)
            write_weights(state.candidate(), WEIGHTS)
            state.close_round(True, {})
        files = sorted(int(f.stem.split("-")[1]) for f in (self.folder / "state/models").iterdir())
        self.assertEqual(files, list(range(4, KEPT + 4)))


class Files(unittest.TestCase):
    def setUp(self):
        self.file = Path(tempfile.mkdtemp()) / "w.safetensors"
        self.addCleanup(shutil.rmtree, self.file.parent)

    def test_weights_come_back_as_they_were(self):
        write_weights(self.file, WEIGHTS)
        read = WeightsFile(self.file)
        self.assertEqual(set(read), set(WEIGHTS))
        for name, array in WEIGHTS.items():
            np.testing.assert_array_equal(read[name], array)
            self.assertEqual((read[name].dtype, read[name].shape), (array.dtype, array.shape))

    def test_what_safetensors_does_not_know_is_refused(self):
        for array in (np.array(["text"]), np.zeros(2, complex)):
            with self.assertRaises(ValueError):
                write_weights(self.file, {"x": array})
        self.assertFalse(self.file.exists())

    def test_cut_and_damaged_files_are_refused(self):
        write_weights(self.file, WEIGHTS)
        whole = self.file.read_bytes()
        for damaged in (whole[:4], whole[:-8], b"\xff" * 8 + whole[8:], whole[:8] + b"x" + whole[9:], b""):
            self.file.write_bytes(damaged)
            with self.assertRaises(ValueError, msg=str(len(damaged))):
                WeightsFile(self.file)
