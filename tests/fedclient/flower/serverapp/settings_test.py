import shutil
import tempfile
import tomllib
import unittest
from pathlib import Path

import cardionode_server
from cardionode_server.settings import SettingsFault, read_settings

APP = Path(cardionode_server.__file__).parents[1]


class SettingsFile(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        for name in ("initial.safetensors", "consortium.key"):
            (self.folder / name).touch()
        (self.folder / "hospitals.toml").write_text(
            '[hospitals]\nnorth = "16019329408659850374"\nsouth = "8392976743692794070"\n')
        project = tomllib.loads((APP / "pyproject.toml").read_text())
        self.project = project
        self.config = dict(project["tool"]["flwr"]["app"]["config"])
        self.config |= {"state": str(self.folder), "arch-sha256": "0" * 64,
                        "initial-model": str(self.folder / "initial.safetensors"),
                        "signing-key": str(self.folder / "consortium.key"),
                        "hospitals": str(self.folder / "hospitals.toml")}

    def test_the_shipped_defaults_are_good(self):
        settings = read_settings(self.config)
        self.assertEqual(settings.hospitals, {16019329408659850374: "north", 8392976743692794070: "south"})
        self.assertEqual((settings.rules.quorum, settings.patience.hospitals), (2, 2))

    def test_every_key_of_pyproject_is_read(self):
        asked = set()

        class Watched(dict):
            def get(self, key, default=None):
                asked.add(key)
                return super().get(key, default)
        read_settings(Watched(self.config))
        self.assertEqual(asked, set(self.project["tool"]["flwr"]["app"]["config"]))

    def test_all_faults_are_named_at_once(self):
        self.config |= {"quorum": 3, "trim": 0.7, "arch-sha256": "short", "steps": "many", "signing-key": "/nowhere"}
        with self.assertRaises(SettingsFault) as fault:
            read_settings(self.config)
        for key in ("quorum", "trim", "arch-sha256", "steps", "signing-key"):
            self.assertIn(key, str(fault.exception))

    def test_a_student_needs_teachers(self):
        with self.assertRaisesRegex(SettingsFault, "teachers"):
            read_settings(self.config | {"method": "fedkd_student"})

    def test_hospitals_are_names_with_one_node_each(self):
        for text in ('[hospitals]\n"../up" = "1"\n', '[hospitals]\na = "1"\nb = "1"\n', "[hospitals]\n", "broken",
                     '[hospitals]\na = "x"\n'):
            (self.folder / "hospitals.toml").write_text(text)
            with self.assertRaises(SettingsFault, msg=text):
                read_settings(self.config)

    def test_the_minor_version_of_flower_is_pinned(self):
        self.assertIn("flwr>=1.43,<1.44", self.project["project"]["dependencies"])
