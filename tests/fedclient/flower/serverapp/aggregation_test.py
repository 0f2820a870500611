import unittest

import numpy as np

from cardionode_server.aggregation import BODY, Rules, TooFewUpdates, Update, aggregate, head_of_tensor

RULES = Rules(quorum=1, max_norm_ratio=0, min_cosine=-1)


def model(value=0.0):
    return {
        "encoder.conv.weight": np.full((20, 30), value, np.float32),
        "encoder.norm.num_batches_tracked": np.array(7, np.int64),
        "outs.hps.conv.weight": np.full(4, value, np.float32),
        "seg_layers.calc.0.bias": np.full(2, value, np.float32),
    }


def update(site, value, labelled, unlabelled=0.0, without=()):
    weights = {name: array for name, array in model(value).items() if name not in without}
    return Update(site, weights, labelled, unlabelled)


def honest(count, seed=1, spread=0.1):
    """Sites that moved in one direction, each a little differently."""
    random = np.random.default_rng(seed)
    shared = {name: random.standard_normal(array.shape) for name, array in model().items()}
    result = []
    for k in range(count):
        weights = {}
        for name, array in model().items():
            moved = shared[name] + spread * random.standard_normal(array.shape)
            weights[name] = moved.astype(np.float32) if array.dtype == np.float32 else array
        result.append(Update(f"site{k}", weights, {"hps": 10, "calc": 10}))
    return result


class Names(unittest.TestCase):
    def test_head_is_the_word_after_outs_or_seg_layers(self):
        for name, head in (("outs.hps.conv.weight", "hps"), ("seg_layers.calc.4.bias", "calc"), ("outs", ""),
                           ("outs.hps", ""), ("encoder.outs.hps.weight", ""), ("outs.hps.x", "hps")):
            self.assertEqual(head_of_tensor(name), head, name)


class Averages(unittest.TestCase):
    def test_each_head_is_weighted_by_its_own_labels(self):
        new, report = aggregate(model(), [update("a", 1.0, {"hps": 30, "calc": 0}), update("b", 2.0, {"hps": 10})],
                                RULES)
        np.testing.assert_allclose(new["outs.hps.conv.weight"], 1.25)
        np.testing.assert_allclose(new["encoder.conv.weight"], 1.25)
        self.assertEqual(report.weights["hps"], {"a": 0.75, "b": 0.25})

    def test_a_site_without_labels_of_a_head_does_not_dilute_it(self):
        new, _ = aggregate(model(), [update("a", 1.0, {"hps": 5}), update("b", 3.0, {"calc": 5})], RULES)
        np.testing.assert_allclose(new["outs.hps.conv.weight"], 1.0)
        np.testing.assert_allclose(new["seg_layers.calc.0.bias"], 3.0)
        np.testing.assert_allclose(new["encoder.conv.weight"], 2.0)

    def test_whole_model_averaging_does_dilute_it(self):
        rules = Rules(quorum=1, max_norm_ratio=0, min_cosine=-1, per_head=False)
        new, _ = aggregate(model(), [update("a", 1.0, {"hps": 5}), update("b", 3.0, {"calc": 5})], rules)
        np.testing.assert_allclose(new["outs.hps.conv.weight"], 2.0)

    def test_a_head_that_nobody_trained_stays_bit_for_bit(self):
        base = model(0.1)
        new, report = aggregate(base, [update("a", 1.0, {"hps": 5}), update("b", 3.0, {"hps": 5})], RULES)
        np.testing.assert_array_equal(new["seg_layers.calc.0.bias"], base["seg_layers.calc.0.bias"])
        self.assertEqual(report.unchanged_heads, ["calc"])

    def test_a_head_with_fewer_sites_than_asked_stays(self):
        rules = Rules(quorum=1, max_norm_ratio=0, min_cosine=-1, min_sites_per_head=2)
        new, report = aggregate(model(), [update("a", 1.0, {"hps": 5}), update("b", 3.0, {"hps": 5, "calc": 5})], rules)
        np.testing.assert_allclose(new["outs.hps.conv.weight"], 2.0)
        np.testing.assert_allclose(new["seg_layers.calc.0.bias"], 0.0)
        self.assertEqual(report.unchanged_heads, ["calc"])

    def test_integers_are_never_averaged(self):
        odd = update("a", 1.0, {"hps": 5})
        odd.weights["encoder.norm.num_batches_tracked"][...] = 99
        new, _ = aggregate(model(), [odd, update("b", 1.0, {"hps": 5})], RULES)
        self.assertEqual(new["encoder.norm.num_batches_tracked"], 7)
        self.assertEqual(new["encoder.norm.num_batches_tracked"].dtype, np.int64)

    def test_unlabelled_studies_count_for_the_body_by_beta(self):
        rules = Rules(quorum=1, max_norm_ratio=0, min_cosine=-1, beta=0.5)
        new, _ = aggregate(model(), [update("a", 1.0, {"hps": 10}), update("b", 4.0, {}, unlabelled=10)], rules)
        np.testing.assert_allclose(new["encoder.conv.weight"], (10 * 1 + 5 * 4) / 15, rtol=1e-6)
        np.testing.assert_allclose(new["outs.hps.conv.weight"], 1.0)

    def test_an_absent_head_without_labels_is_no_fault(self):
        new, report = aggregate(model(), [update("a", 1.0, {"hps": 5}, without=("seg_layers.calc.0.bias",)),
                                          update("b", 1.0, {"hps": 5})], RULES)
        self.assertEqual(report.dropped, {})
        np.testing.assert_allclose(new["encoder.conv.weight"], 1.0)

    def test_the_order_of_the_updates_changes_no_bit(self):
        updates = honest(5)
        first, _ = aggregate(model(), updates, Rules())
        second, _ = aggregate(model(), updates[::-1], Rules())
        for name in first:
            self.assertEqual(first[name].tobytes(), second[name].tobytes())

    def test_inputs_stay_as_they_were(self):
        base, updates = model(), honest(3)
        before = {name: array.copy() for name, array in base.items()}
        aggregate(base, updates, Rules())
        for name in base:
            np.testing.assert_array_equal(base[name], before[name])

    def test_trimmed_mean_ignores_the_ends(self):
        rules = Rules(quorum=1, max_norm_ratio=0, min_cosine=-1, trim=0.2)
        updates = [update(f"s{k}", value, {"hps": 1}) for k, value in enumerate((1, 2, 3, 4, 1e6))]
        new, _ = aggregate(model(), updates, rules)
        np.testing.assert_allclose(new["encoder.conv.weight"], 3.0)


class Dropping(unittest.TestCase):
    def dropped(self, bad, rules=Rules()):
        updates = honest(3) + [bad]
        clean, _ = aggregate(model(), honest(3), rules)
        new, report = aggregate(model(), updates, rules)
        self.assertEqual(list(report.dropped), [bad.site])
        for name in new:
            np.testing.assert_array_equal(new[name], clean[name])
        return report.dropped[bad.site]

    def broken(self, change):
        bad = honest(4)[3]
        weights = {name: array.copy() for name, array in bad.weights.items()}
        change(weights)
        return Update("bad", weights, bad.labelled)

    def test_nan_is_dropped_and_named(self):
        def change(weights):
            weights["outs.hps.conv.weight"][1] = np.nan
        self.assertIn("outs.hps.conv.weight is not finite", self.dropped(self.broken(change)))

    def test_hundredfold_norm_is_dropped_and_named(self):
        def change(weights):
            for name in ("encoder.conv.weight", "outs.hps.conv.weight", "seg_layers.calc.0.bias"):
                weights[name] *= 100
        self.assertIn("times the median", self.dropped(self.broken(change)))

    def test_hundredfold_norm_of_one_head_alone_is_dropped(self):
        def change(weights):
            weights["seg_layers.calc.0.bias"] *= 100
        self.assertIn("calc: the change", self.dropped(self.broken(change)))

    def test_turned_sign_is_dropped_and_named(self):
        def change(weights):
            for name in ("encoder.conv.weight", "outs.hps.conv.weight", "seg_layers.calc.0.bias"):
                weights[name] *= -1
        self.assertIn("cosine", self.dropped(self.broken(change)))

    def test_wrong_shape_missing_foreign_and_retyped_tensors_are_dropped(self):
        def shape(weights):
            weights["encoder.conv.weight"] = np.zeros((30, 20), np.float32)

        def missing(weights):
            del weights["encoder.conv.weight"]

        def missing_head(weights):
            del weights["outs.hps.conv.weight"]

        def foreign(weights):
            weights["encoder.extra"] = np.zeros(1, np.float32)

        def retyped(weights):
            weights["encoder.conv.weight"] = weights["encoder.conv.weight"].astype(np.float64)
        for change, word in ((shape, "expected float32 [20, 30]"), (missing, "missing"), (missing_head, "missing"),
                             (foreign, "not in"),
                             (retyped, "float64")):
            self.assertIn(word, self.dropped(self.broken(change)))

    def test_counts_that_are_none_are_dropped(self):
        for count in (-1.0, float("nan"), float("inf")):
            bad = honest(4)[3]
            self.assertIn("n/hps", self.dropped(Update("bad", bad.weights, {"hps": count})))

    def test_two_updates_say_nothing_about_which_is_wrong(self):
        far = honest(2)
        for name in ("encoder.conv.weight", "outs.hps.conv.weight"):
            far[1].weights[name][...] *= 50
        _, report = aggregate(model(), far, Rules())
        self.assertEqual(report.dropped, {})

    def test_below_the_quorum_nothing_is_published(self):
        bad = honest(2)
        bad[1].weights["encoder.conv.weight"][0, 0] = np.inf
        with self.assertRaises(TooFewUpdates) as refusal:
            aggregate(model(), bad, Rules(quorum=2))
        self.assertIn("site1", refusal.exception.report.dropped)
        with self.assertRaises(TooFewUpdates):
            aggregate(model(), [], Rules(quorum=0))

    def test_no_hospital_counts_twice(self):
        new, report = aggregate(model(), [update("a", 1.0, {"hps": 1}), update("a", 2.0, {"hps": 1})], RULES)
        self.assertEqual(report.dropped, {"a": "a second update of one site"})
        np.testing.assert_allclose(new["encoder.conv.weight"], 1.0)

    def test_of_three_that_learned_one_turned_head_is_found(self):
        updates = honest(3)
        updates[1].weights["outs.hps.conv.weight"][...] *= -1
        rules = Rules(min_cosine=0.9)  # four values: chance allows a lot
        _, report = aggregate(model(), updates, rules)
        self.assertEqual(list(report.dropped), ["site1"])

    def test_a_site_that_learned_nothing_is_no_measure_of_the_others(self):
        lazy = [Update(f"lazy{k}", model(), {"hps": 10, "calc": 10}) for k in range(4)]
        _, report = aggregate(model(), honest(2) + lazy, Rules())
        self.assertEqual(report.dropped, {})

    def test_a_broken_global_model_is_not_averaged(self):
        base = model()
        base["encoder.conv.weight"][0, 0] = np.nan
        with self.assertRaisesRegex(ValueError, "not finite"):
            aggregate(base, honest(2), Rules())

    def test_norms_are_those_of_the_change(self):
        _, report = aggregate(model(1.0), [update("a", 3.0, {"hps": 1})], RULES)
        self.assertAlmostEqual(report.norms[BODY]["a"], np.sqrt(600 * 4.0), places=5)
