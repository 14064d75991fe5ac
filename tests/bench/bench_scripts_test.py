#!/usr/bin/env python3
"""usage: bench_scripts_test.py ROOT INSTRUCTION_CASE. Tests the scripts around fovea-bench:
arguments, names, the newest report, the comparison of instruction counts. Nothing is timed, and no
PyTorch is needed."""
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types
import unittest

ROOT, CASE = (pathlib.Path(name).resolve() for name in sys.argv[1:3])
del sys.argv[1:3]


def load(name):
  """A script as a module."""
  loader = importlib.machinery.SourceFileLoader(name.replace("-", "_").replace(".py", ""), str(ROOT / "scripts" / name))
  module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
  loader.exec_module(module)
  return module


def run(*command):
  return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)


class Bench(unittest.TestCase):
  def test_help_teaches(self):
    done = run(ROOT / "scripts/bench", "--help")
    self.assertEqual(done.returncode, 0)
    for word in ("--quick", "--full", "--peers", "--keep", "--output", "compare.py"):
      self.assertIn(word, done.stdout)

  def test_wrong_arguments_are_refused_before_anything_is_done(self):
    for arguments in (["--quick", "--full"], ["--fast"], ["--output"], ["--keep", "--output", "x"],
                      ["--keep", "--filter", "decode"]):
      done = run(ROOT / "scripts/bench", *arguments)
      self.assertEqual(done.returncode, 2, arguments)
      self.assertIn("scripts/bench: ", done.stderr)


class Peers(unittest.TestCase):
  """A module of the same name with the types stands in for PyTorch."""

  def setUp(self):
    sys.modules["torch"] = types.SimpleNamespace(float32=4, float16=2, bfloat16=2)
    self.script = load("bench_peers.py")

  def tearDown(self):
    del sys.modules["torch"]

  def test_take_no_part_in_unequal_sequences_or_additive_scores_and_a_line_says_so(self):
    shapes = {"prefill": "4/heads:8:2/len:64:64", "decode": "4/heads:8:2/len:1:64",
              "packed": "4/heads:8:2/len:64:64", "paged": "4/heads:8:2/len:1:64/page:16",
              "mixed": "4/heads:8:2/len:8:64/page:16", "additive": "4/heads:8:8/len:64:64",
              "layer": "4/heads:8:8/len:64:64"}
    listed = "".join(f"cpu/fovea/{kind}/batch:{shape}/dim:128/f32/causal/cold\t1\t2\t3\t4\n"
                     for kind, shape in shapes.items())
    problems, left_out = self.script.problems_of(listed)
    self.assertEqual([problem.kind for problem in problems], ["prefill", "decode", "layer"])
    self.assertEqual([problem.decode for problem in problems], [False, True, False])
    self.assertEqual([problem.settle for problem in problems], [0.005, 0.005, 0.05])
    self.assertIn(" 4 problems that are packed, paged, mixed or additive", left_out)
    self.assertIsNone(self.script.problems_of(listed.splitlines()[0])[1])


class PerformancePage(unittest.TestCase):
  def setUp(self):
    self.script = load("performance-page")

  def test_names_folders_after_machine_and_threads(self):
    for machine, name in (("Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", "intel-xeon-gold-6338-2-threads"),
                          ("AMD EPYC 9B14 96-Core Processor", "amd-epyc-9b14-96-core-processor-2-threads"),
                          ("Intel(R) Xeon(R) Processor", "intel-xeon-processor-2-threads")):
      self.assertEqual(self.script.folder_name({"machine": machine, "threads": "2"}), name)

  def test_takes_the_newest_summary(self):
    with tempfile.TemporaryDirectory() as folder:
      self.assertIsNone(self.script.newest(pathlib.Path(folder)))
      for name, date in (("a", "2026-02-01"), ("b", "2026-03-01"), ("c", "2026-01-01")):
        path = pathlib.Path(folder, name)
        path.mkdir()
        (path / "summary.json").write_text(json.dumps({"context": {"date": date}}))
      self.assertEqual(self.script.newest(pathlib.Path(folder)).parent.name, "b")

  def test_what_is_committed_is_small(self):
    files = [path for path in (ROOT / "bench/results").rglob("*") if path.is_file()]
    self.assertLessEqual(sum(path.stat().st_size for path in files), 1 << 20)
    for path in files:
      self.assertIn(path.name if path.suffix != ".svg" else ".svg",
                    ("README.md", "machine-code.md", "summary.json", "build.json", ".svg"))

  def test_pictures_are_those_that_the_page_shows(self):
    with tempfile.TemporaryDirectory() as folder:
      report = pathlib.Path(folder, "summary.json")
      self.script.PAGE = pathlib.Path(folder, "page.md")
      text = "![A: b](../x/shown.svg)\n\n[a link](../x/other.svg)\n"
      self.script.PAGE.write_text(text)
      self.assertEqual(list(self.script.complaints(text, report)), ["shown.svg: not drawn\n"])
      program = pathlib.Path(folder, "program")
      program.write_text('#!/bin/sh\ntouch "$3/shown.svg" "$3/shown.png" "$3/other.svg"\n')
      program.chmod(0o755)
      (report.parent / "left.png").touch()
      self.script.draw(report, program, self.script.shown(text))
      self.assertEqual(sorted(path.name for path in report.parent.glob("*.*g")), ["shown.svg"])
      self.assertEqual(list(self.script.complaints(text, report)), [])
      (report.parent / "left.svg").touch()
      self.assertEqual(list(self.script.complaints(text, report)), ["left.svg: not shown\n"])

  def test_check_fails_on_another_page(self):
    with tempfile.TemporaryDirectory() as folder:
      self.script.PAGE = pathlib.Path(folder, "page.md")
      for text, status in ((self.script.NOTHING, 0), (self.script.NOTHING + "more\n", 1)):
        self.script.PAGE.write_text(text)
        self.assertEqual(self.status_of_check(folder), status)

  def status_of_check(self, folder):
    sys.argv[1:] = ["--check", "--results", folder]
    try:
      with open(os.devnull, "w") as sys.stdout:
        self.script.main()
    except SystemExit as end:
      return end.code
    finally:
      sys.stdout = sys.__stdout__
      del sys.argv[1:]
    return 0


FACTS = {"compiler": "cc 12.2", "nvcc": "13.0.88", "jobs": 2,
         "seconds": {"configure": 3.2, "library": 41.6, "all": 99.4},
         "library_bytes": 1500000, "kernel_bytes": 600000,
         "rows": [{"name": "fovea_a", "bytes": 600000, "seconds": 12.34, "registers": "128/168",
                   "shared_bytes": 20480}],
         "host": [{"call": "prefill", "microseconds": 0.512, "spread_percent": 1.5, "allocations": 0,
                   "calls": 510000}]}


class MeasuredBuild(unittest.TestCase):
  def setUp(self):
    self.script = load("measure-build")

  def test_reads_what_the_build_prints_of_its_rows(self):
    # The text that CompileRow.cmake prints, with its variables replaced.
    text = (ROOT / "cmake/CompileRow.cmake").read_text()
    line = text[text.rindex("message(STATUS"):].split('"')[1]
    for name, value in (("ROW", "fovea_x_d64"), ("bytes", "1234"), ("seconds", "5"), ("fraction", "06"),
                        ("registers", "255 (-O3) / 168 (-O1)"), ("SHARED", "81920")):
      line = line.replace("${%s}" % name, value)
    self.assertEqual(self.script.read_rows(f"[ 3%] Building\n-- {line}\n[ 4%] Linking\n"),
                     [{"name": "fovea_x_d64", "bytes": 1234, "seconds": 5.06, "registers": "255/168",
                       "shared_bytes": 81920}])

  def test_reads_what_a_call_takes_on_the_host(self):
    text = ("call      us per call   spread      allocations\n"
            "prefill         1.457   18.2 %     0 in 510000\ndecode         11.481    6.5 %    12 in 510000\n")
    self.assertEqual([(c["call"], c["microseconds"], c["allocations"]) for c in self.script.read_calls(text)],
                     [("prefill", 1.457, 0), ("decode", 11.481, 12)])

  def test_stripping_leaves_the_library_as_it_was(self):
    with tempfile.TemporaryDirectory() as folder:
      before = CASE.read_bytes()
      self.assertLess(0, self.script.stripped_bytes(CASE, folder))
      self.assertEqual(CASE.read_bytes(), before)

  def test_the_page_says_sizes_seconds_and_microseconds(self):
    page = load("performance-page")
    text = "\n".join(page.build_section(FACTS) + page.host_section(FACTS["host"]))
    for words in ("1.50 MB", "0.90 MB of code for the host", "0.60 MB", "2 compilers", "42 s for the library",
                  "99 s until", "nvcc 13.0.88", "| fovea_a | 600000 | 12.3 | 128/168 | 20480 |",
                  "| prefill | 0.512 | 1.5 % | 0 in 510000 calls |"):
      self.assertIn(words, text)

  def test_a_build_without_kernels_has_neither_rows_nor_calls(self):
    page = load("performance-page")
    text = "\n".join(page.build_section({**FACTS, "rows": [], "kernel_bytes": 0}) + page.host_section([]))
    self.assertNotIn("| kernel |", text)
    self.assertNotIn("host (", text)
    self.assertNotIn("A call", text)

  def test_the_page_takes_the_build_beside_the_report(self):
    page = load("performance-page")
    with tempfile.TemporaryDirectory() as folder:
      page.ROOT = pathlib.Path(folder)
      report = page.ROOT / "machine/summary.json"
      report.parent.mkdir()
      report.write_text('{"context": {"date": "2000-01-01"}}')
      self.assertEqual(page.page(page.ROOT, "echo"), run("echo", "page", report, "../machine").stdout)
      report.with_name("build.json").write_text(json.dumps(FACTS))
      self.assertIn("## Size and build", page.page(page.ROOT, "echo"))

  def test_the_page_of_no_report_still_says_what_a_build_is(self):
    page = load("performance-page")
    with tempfile.TemporaryDirectory() as folder:
      page.ROOT = pathlib.Path(folder)
      self.assertEqual(page.page(page.ROOT, "echo"), page.NOTHING)
      (page.ROOT / "machine").mkdir()
      (page.ROOT / "machine/build.json").write_text(json.dumps(FACTS))
      text = page.page(page.ROOT, "echo")
      self.assertTrue(text.startswith(page.NOTHING))
      self.assertIn("## Size and build", text)


class CountInstructions(unittest.TestCase):
  def setUp(self):
    self.script = load("count-instructions")

  def complaints(self, expected, counted):
    return list(self.script.compare(expected, counted))

  def test_three_per_cent_are_allowed_on_both_sides(self):
    self.assertEqual(self.complaints({"a": 1000}, {"a": 1029}), [])
    self.assertEqual(self.complaints({"a": 1000}, {"a": 971}), [])
    self.assertEqual(self.complaints({"a": 1000}, {"a": 1031}), ["a: 1031 instructions, +3.1% against 1000"])
    self.assertEqual(self.complaints({"a": 1000}, {"a": 969}), ["a: 969 instructions, -3.1% against 1000"])

  def test_a_case_without_a_figure_is_noticed_and_the_reverse(self):
    self.assertEqual(self.complaints({"a": 1}, {"b": 1}), ["a: not counted", "b: has no committed figure"])

  def test_figures_are_read_back_as_written(self):
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder, "figures.txt")
      self.script.write_figures(path, "GNU 12: x", {"a/b": 12, "c": 123456789})
      self.assertEqual(self.script.read_figures(path), ("GNU 12: x", {"a/b": 12, "c": 123456789}))

  def test_the_committed_figures_are_those_of_its_cases(self):
    _, figures = self.script.read_figures(ROOT / "tests/bench/instructions.txt")
    self.assertEqual(list(figures), self.script.PREFILL + self.script.DECODE)

  def test_another_compiler_is_a_skip(self):
    with tempfile.TemporaryDirectory() as folder:
      figures = pathlib.Path(folder, "figures.txt")
      self.script.write_figures(figures, "another compiler", {})
      done = run(ROOT / "scripts/count-instructions", "--program", CASE, "--figures", figures)
    self.assertEqual(done.returncode, 77)
    self.assertIn("skipped: ", done.stdout)


if __name__ == "__main__":
  unittest.main()
