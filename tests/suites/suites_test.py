#!/usr/bin/env python3
"""usage: suites_test.py ROOT. Tests what the suites' scripts say before they run, without their packages."""
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(sys.argv.pop(1)).resolve()
SUITES = {"onnx_nodes": "onnx"}


def run_suite(name, *arguments):
  """Without any package that is installed."""
  return subprocess.run([sys.executable, "-S", "-B", ROOT / "tests/suites" / name, *arguments], capture_output=True,
                        text=True, check=False)


class Suites(unittest.TestCase):
  def test_help_teaches(self):
    for name in SUITES:
      done = run_suite(name, "--help")
      self.assertEqual(done.returncode, 0, name)
      for word in ("--device", "--library", "--only", "--break", "pip install", "FOVEA_SIMGPU=1", "Exit status"):
        self.assertIn(word, done.stdout, name)

  def test_wrong_arguments_are_refused(self):
    for name in SUITES:
      for arguments in (["--device", "tpu"], ["--break", "nothing"], ["more"]):
        self.assertEqual(run_suite(name, *arguments).returncode, 2, [name, *arguments])

  def test_missing_packages_are_named_with_the_command_that_installs_them(self):
    for name, package in SUITES.items():
      done = run_suite(name)
      self.assertEqual(done.returncode, 3, name)
      self.assertIn("No module named", done.stderr, name)
      self.assertRegex(done.stderr, "pip install '?" + package, name)


if __name__ == "__main__":
  unittest.main()
