#!/usr/bin/env python3
"""usage: demo_table_test.py ROOT. The table of scripts/demo passes only what is right and complete,
and the script says how long it takes."""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(sys.argv.pop(1)).resolve()
RIGHT = {"device": "cpu", "seconds": 0.0125, "compared": 64, "pass": True,
         "worst": {"C1": 0.25, "C4": 0.5}, "first_bad": None}


class DemoTable(unittest.TestCase):
  def table(self, dtypes=(), simulated=None, **reports):
    """The exit status and the rows for one input per report; None stands for a missing report."""
    with tempfile.TemporaryDirectory() as folder:
      inputs, found = pathlib.Path(folder, "inputs"), pathlib.Path(folder, "reports")
      inputs.mkdir()
      found.mkdir()
      header = json.dumps({"q": {"dtype": "F32", "shape": [2, 3, 4, 5]}}).encode()
      for name, report in reports.items():
        (inputs / f"{name}.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        if report is not None:
          (found / f"{name}.json").write_text(report if isinstance(report, str)
                                              else json.dumps(report))
        for dtype in dtypes if simulated else ():
          (found / f"{name}.simulated-{dtype}.json").write_text(json.dumps(simulated))
      done = subprocess.run([sys.executable, "-B", ROOT / "scripts/demo_table.py", inputs, found,
                             *dtypes], capture_output=True, text=True, check=False)
      return done.returncode, done.stdout.splitlines()[1:]

  def test_shows_shape_device_time_and_the_worst_criterion(self):
    status, rows = self.table(street=RIGHT)
    self.assertEqual(status, 0)
    self.assertEqual(rows[0].split("  ")[0], "street.safetensors")
    for cell in ("2 x 3 x 4 x 5", "cpu", "12.50 ms", "0.500 (C4)", "ok"):
      self.assertIn(cell, rows[0])

  def test_one_wrong_result_fails_the_demo(self):
    status, rows = self.table(a=RIGHT, b={**RIGHT, "pass": False}, c=RIGHT)
    self.assertEqual(status, 1)
    self.assertEqual([row.split()[-1] for row in rows], ["ok", "WRONG", "ok"])

  def test_a_result_that_was_compared_with_nothing_is_no_pass(self):
    self.assertEqual(self.table(a={**RIGHT, "compared": 0})[0], 1)
    self.assertEqual(self.table(a={**RIGHT, "worst": {}})[0], 1)

  def test_a_missing_or_broken_report_is_no_pass(self):
    self.assertEqual(self.table(a=None)[0], 1)
    self.assertEqual(self.table(a="")[0], 1)

  def test_simulated_rows_are_called_so_and_show_no_time(self):
    status, rows = self.table(dtypes=["f16", "bf16"], simulated={**RIGHT, "device": "cuda"}, a=RIGHT)
    self.assertEqual(status, 0)
    self.assertEqual(len(rows), 3)
    for row, dtype in zip(rows[1:], ("f16", "bf16")):
      self.assertIn(f"a.safetensors in {dtype} ", row)
      self.assertIn("cuda, simulated  -", row)
      self.assertNotIn(" ms", row)

  def test_a_simulated_result_that_is_wrong_or_missing_is_no_pass(self):
    self.assertEqual(self.table(dtypes=["f16"], a=RIGHT)[0], 1)
    self.assertEqual(self.table(dtypes=["f16"], simulated={**RIGHT, "pass": False}, a=RIGHT)[0], 1)

  def test_no_inputs_are_no_pass(self):
    self.assertEqual(self.table()[0], 1)


class Demo(unittest.TestCase):
  def test_says_how_long_it_takes_before_it_does_anything(self):
    with tempfile.TemporaryDirectory() as folder:
      scripts = pathlib.Path(folder, "scripts")
      scripts.mkdir()
      shutil.copy(ROOT / "scripts/demo", scripts)
      (scripts / "setup").write_text("#!/bin/sh\nexit 1\n")
      (scripts / "setup").chmod(0o755)
      done = subprocess.run([scripts / "demo"], capture_output=True, text=True, check=False)
      self.assertEqual(done.returncode, 1)
      self.assertRegex(done.stderr, r"^scripts/demo: some \d+ minutes on two cores")


if __name__ == "__main__":
  unittest.main()
