#!/usr/bin/python3
"""Runs one test module of this folder: run.py NAME_test. Exit code 77, skipped, when a Debian package is missing."""
import importlib
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[3] / "fedclient/flower/serverapp")]

for package, debian in (("numpy", "python3-numpy"), ("cryptography", "python3-cryptography")):
    try:
        importlib.import_module(package)
    except ImportError:
        print(f"skipped: {debian} is not installed")
        sys.exit(77)

if __name__ == "__main__":
    module = importlib.import_module(sys.argv[1])
    result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromModule(module))
    if result.wasSuccessful() and result.testsRun == len(result.skipped):
        sys.exit(77)
    sys.exit(0 if result.wasSuccessful() else 1)
