import tempfile
import unittest
import zlib
from pathlib import Path

import fed_report
import plot


class Plot(unittest.TestCase):
    def test_it_is_a_png_with_dots_of_its_lines(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "p.png"
            plot.write(file, [("Dice", [("heart, north", [0.1, None, 0.6])]), ("mm", [("hps", [40, 12, 6])])],
                       ["before", "round 1", "round 2"])
            data = file.read_bytes()
        self.assertTrue(data.startswith(b"\x89PNG\r\n\x1a\n"))
        at = data.index(b"IDAT")
        rows = zlib.decompress(data[at + 4:at + 4 + int.from_bytes(data[at - 4:at], "big")])
        self.assertEqual(len(rows), 400 * (1 + 960 * 3))
        self.assertGreater(rows.count(bytes(plot.COLOURS[0])), 100)

    def test_ticks_reach_the_top_and_are_round(self):
        for top in (1e-6, 0.07, 0.63, 1, 7.3, 40, 999):
            ticks = plot.ticks_of(top)
            self.assertGreaterEqual(ticks[-1], top)
            self.assertLess(ticks[-1], 3 * top + 1e-5)


class Rounds(unittest.TestCase):
    def test_what_was_reached_is_put_to_its_round(self):
        history = [{"round": 2, "type": "evaluate", "before": {"dice": {"heart": 0.6}, "point_mm": {}}},
                   {"round": 1, "type": "evaluate", "before": {"dice": {"heart": 0.4}, "point_mm": {"hps": None}}},
                   {"round": 1, "type": "train", "before": {"dice": {"heart": 0.1}, "point_mm": {}}},
                   {"round": 2, "type": "train"}]
        values = fed_report.reached(history, 2)
        self.assertEqual(values[("dice", "heart")], [0.1, 0.4, 0.6])
        self.assertEqual(fed_report.number("point_mm", values[("point_mm", "hps")][1]), "not found")
