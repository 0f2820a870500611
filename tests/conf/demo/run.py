#!/usr/bin/python3
"""Runs one test module of this folder: run.py NAME_test. Exit code 77 when all of it was skipped."""
import importlib
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2] / "conf/demo")]

if __name__ == "__main__":
    try:
        module = importlib.import_module(sys.argv[1])
    except unittest.SkipTest as reason:
        print(f"skipped: {reason}")
        sys.exit(77)
    result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromModule(module))
    if result.wasSuccessful() and result.testsRun == len(result.skipped):
        sys.exit(77)
    sys.exit(0 if result.wasSuccessful() else 1)
