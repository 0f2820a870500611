#!/usr/bin/python3
"""One aggregation as agreement_test.cpp describes it: aggregate_case.py FOLDER with case.json, base.safetensors and
SITE.safetensors; writes out.safetensors and report.json. Exit code 77: numpy is not installed."""
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "fedclient/flower/serverapp"))
try:
    from cardionode_server.aggregation import Rules, TooFewUpdates, Update, aggregate
    from cardionode_server.weights_file import WeightsFile, write_weights
except ImportError:
    sys.exit(77)

folder = Path(sys.argv[1])
case = json.loads((folder / "case.json").read_text())
updates = [Update(u["site"], WeightsFile(folder / u["file"]), u["labelled"], u["unlabelled"]) for u in case["updates"]]
try:
    weights, report = aggregate(WeightsFile(folder / "base.safetensors"), updates, Rules(**case["rules"]))
    write_weights(folder / "out.safetensors", weights)
    refused = False
except TooFewUpdates as refusal:
    report, refused = refusal.report, True
(folder / "report.json").write_text(json.dumps({
    "refused": refused, "dropped": sorted(report.dropped), "weights": report.weights, "norms": report.norms,
    "unchanged_heads": report.unchanged_heads}))
