import unittest

from cardionode_server.judging import Tolerance, judge


class Judging(unittest.TestCase):
    def test_better_is_accepted(self):
        verdict = judge({"a": {"dice/heart": 0.5, "point-mm/hps": 3.0}},
                        {"a": {"dice/heart": 0.6, "point-mm/hps": 2.0}})
        self.assertTrue(verdict.accepted)
        self.assertEqual(verdict.means["dice/heart"], (0.5, 0.6))

    def test_one_metric_that_falls_keeps_the_old_model(self):
        verdict = judge({"a": {"dice/heart": 0.5, "point-mm/hps": 3.0}},
                        {"a": {"dice/heart": 0.9, "point-mm/hps": 4.0}})
        self.assertFalse(verdict.accepted)
        self.assertIn("point-mm/hps", verdict.reasons[0])

    def test_weights_are_the_held_out_studies(self):
        old = {"a": {"dice/h": 0.5}, "b": {"dice/h": 0.5}}
        new = {"a": {"dice/h": 0.6, "num-examples": 30}, "b": {"dice/h": 0.3, "num-examples": 10}}
        self.assertTrue(judge(old, new).accepted)
        new["b"]["num-examples"] = 30
        self.assertFalse(judge(old, new).accepted)

    def test_within_tolerance_is_no_fall(self):
        self.assertTrue(judge({"a": {"dice/h": 0.5}}, {"a": {"dice/h": 0.495}}, Tolerance(dice=0.01)).accepted)
        self.assertFalse(judge({"a": {"dice/h": 0.5}}, {"a": {"dice/h": 0.48}}, Tolerance(dice=0.01)).accepted)

    def test_a_nan_of_the_candidate_is_a_fall(self):
        self.assertFalse(judge({"a": {"dice/h": 0.5}}, {"a": {"dice/h": float("nan")}}).accepted)

    def test_hospitals_with_one_value_alone_say_nothing(self):
        verdict = judge({"a": {"dice/h": 0.9}}, {"b": {"dice/h": 0.1}})
        self.assertTrue(verdict.accepted)
        self.assertEqual(verdict.means, {})

    def test_other_numbers_are_not_judged(self):
        self.assertTrue(judge({"a": {"loss": 1.0}}, {"a": {"loss": 9.0}}).accepted)
