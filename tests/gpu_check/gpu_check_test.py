"""scripts/gpu-check on the software GPU: usage: gpu_check_test.py ROOT BUILD"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import unittest

ROOT, BUILD = map(pathlib.Path, sys.argv[1:3])


def check(*arguments, **environment):
  command = [ROOT / "scripts/gpu-check", "--build", BUILD, *arguments]
  return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


class GpuCheck(unittest.TestCase):
  def setUp(self):
    self.folder = tempfile.TemporaryDirectory()
    self.out = pathlib.Path(self.folder.name)

  def tearDown(self):
    self.folder.cleanup()
    pathlib.Path(f"{self.out}.tar.gz").unlink(missing_ok=True)

  def verdicts(self, done):
    """{stage: verdict} of the summary, which is what was printed last."""
    summary = (self.out / "summary.txt").read_text()
    self.assertTrue(done.stdout.endswith(summary), done.stdout + done.stderr)
    return {line[:12].strip(): line[13:21].strip() for line in summary.splitlines()[2:]}

  def test_every_stage_that_the_software_gpu_can_run_is_run(self):
    done = check("--out", self.out, "--simulated")
    self.assertEqual(done.returncode, 0, done.stdout + (self.out / "smoke.txt").read_text())
    verdicts = self.verdicts(done)
    self.assertEqual(list(verdicts),
                     ["smoke", "conformance", "bench", "peers", "tests", "sanitize"])
    for stage in ("smoke", "tests", "bench"):
      self.assertEqual(verdicts[stage], "ok", (self.out / f"{stage}.txt").read_text())
    self.assertEqual(verdicts["sanitize"], "skipped")
    self.assertEqual(verdicts["peers"], "skipped")
    self.assertIn(verdicts["conformance"], ("ok", "skipped"))
    self.assertIn("simulated", done.stdout)
    smoke = (self.out / "smoke.txt").read_text()
    rows = re.findall(r"^FV_ATTENTION_FWD_ROW\((\w+)",
                      (ROOT / "kernels/shared/attention_fwd.def").read_text(), re.MULTILINE)
    self.assertGreater(len(rows), 20)
    for row in (*rows, "fovea_kv_append", "fovea_merge"):
      self.assertIn(f"== {row}\n", smoke)
    with tarfile.open(f"{self.out}.tar.gz") as packed:
      self.assertIn(f"{self.out.name}/summary.txt", packed.getnames())
    names = [row["name"] for row in json.loads((self.out / "bench.json").read_text())["benchmarks"]]
    for kind in ("prefill", "decode", "packed", "paged", "mixed"):
      for pipeline in ("fovea", "naive"):
        self.assertTrue(any(name.startswith(f"cuda/{pipeline}/{kind}/") for name in names), names)

  def test_what_ended_well_is_not_run_again(self):
    (self.out / "conformance.done").touch()
    (self.out / "conformance.txt").write_text("seen before\n")
    done = check("--out", self.out, "--simulated", "--stage", "conformance", "--stage", "sanitize")
    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
    self.assertEqual(self.verdicts(done), {"conformance": "ok", "sanitize": "skipped"})
    self.assertEqual((self.out / "conformance.txt").read_text(), "seen before\n")
    self.assertIn("before", done.stdout)

  def test_the_bench_stage_measures_every_row_of_the_grid_once(self):
    script = (ROOT / "scripts/gpu-check").read_text().replace("\\\n", " ")
    filters = re.search(r"for filter in ([^;]*);", script).group(1).split()
    listed = subprocess.run([BUILD / "bench/fovea-bench", "list", "--device", "cuda"], capture_output=True,
                            text=True, check=True).stdout
    names = [line.split("\t")[0] for line in listed.splitlines()]
    self.assertGreater(len(names), 20)
    for name in names:
      self.assertEqual(sum(part in name for part in filters), 1, name)

  def test_without_a_device_the_kernels_stages_fail_and_say_why(self):
    done = check("--out", self.out, "--stage", "smoke", "--stage", "bench",
                 FOVEA_CUDA_DRIVER="/nonexistent/libcuda.so")
    self.assertEqual(done.returncode, 1)
    self.assertEqual(self.verdicts(done), {"smoke": "FAILED", "bench": "FAILED"})
    self.assertIn("there is no CUDA driver", (self.out / "smoke.txt").read_text())

  def test_what_it_does_not_understand_is_an_error_of_usage(self):
    for arguments in ([], ["--out"], ["--out", self.out, "--stage", "dance"],
                      ["--out", self.out, "--budget-minutes", "soon"], ["--unknown"],
                      ["--out", self.out, "--build", "/nonexistent"]):
      done = check(*arguments)
      self.assertEqual(done.returncode, 2, arguments)
      self.assertIn("scripts/gpu-check: ", done.stderr)
    self.assertEqual(check("--help").returncode, 0)


unittest.main(argv=sys.argv[:1])
