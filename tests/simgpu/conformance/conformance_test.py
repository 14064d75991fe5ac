#!/usr/bin/env python3
"""The conformance program on the software GPU: recordings can be repeated and agree with the definitions,
and a changed word is named.

usage: conformance_test.py PROGRAM SIMGPU_LIBRARY
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

PROGRAM, LIBRARY = sys.argv[1:3]


def run(*arguments, seed=0, device="sm_90", mma=""):
  environment = dict(os.environ, FOVEA_SIMGPU="1", FOVEA_CUDA_DRIVER=LIBRARY,
                     FOVEA_SIMGPU_SEED=str(seed), FOVEA_SIMGPU_DEVICE=device, FOVEA_SIMGPU_MMA=mma)
  return subprocess.run([PROGRAM, *map(str, arguments)], env=environment, text=True,
                        capture_output=True, check=False)


def change_word(path, kernel, index, change):
  """Changes one word of a kernel's recording; returns it before and after."""
  lines = path.read_text().split("\n")
  start = next(i for i, line in enumerate(lines) if re.fullmatch(kernel + r" \d+", line))
  line = start + 1 + index // 8
  words = lines[line].split()
  before = int(words[index % 8], 16)
  words[index % 8] = f"{change(before):08x}"
  lines[line] = " ".join(words)
  path.write_text("\n".join(lines))
  return before, change(before)


class Conformance(unittest.TestCase):
  @classmethod
  def setUpClass(cls):
    cls.folder = tempfile.TemporaryDirectory()
    cls.recording = pathlib.Path(cls.folder.name) / "recording"
    cls.recorded = run("--out", cls.recording, "--order", 1, seed=1)

  @classmethod
  def tearDownClass(cls):
    cls.folder.cleanup()

  def compare_changed(self, kernel, index, change, *more):
    path = next(path for path in sorted(self.recording.iterdir())
                if re.search(rf"^{kernel} \d+$", path.read_text(), re.MULTILINE))
    text = path.read_text()
    before, after = change_word(path, kernel, index, change)
    try:
      return run("--compare", self.recording, *more), before, after
    finally:
      path.write_text(text)

  def test_all_kernels_run(self):
    self.assertEqual((0, ""), (self.recorded.returncode, self.recorded.stderr))
    count = int(re.search(r"(\d+) run, 0 left out, 0 differ", self.recorded.stdout)[1])
    self.assertGreaterEqual(count, 200)

  def test_other_orders_and_schedules_give_the_same_bits(self):
    for order in (2, 7):
      result = run("--compare", self.recording, "--exactly", "--order", order, seed=order)
      self.assertEqual((0, ""), (result.returncode, result.stderr), result.stdout)

  def test_outputs_are_what_the_definitions_say(self):
    for device in ("sm_80", "sm_90"):
      result = run("--define", device=device)
      self.assertEqual((0, ""), (result.returncode, result.stderr), result.stdout)

  def test_older_devices_leave_out_what_they_lack(self):
    result = run("--compare", self.recording, "--exactly", device="sm_80", mma="sm_90")
    self.assertEqual(0, result.returncode, result.stdout)
    self.assertRegex(result.stdout, r"[1-9]\d* run, [1-9]\d* left out, 0 differ")

  def test_devices_differ_in_the_sums_of_16_bit_products_alone(self):
    result = run("--compare", self.recording, "--exactly", device="sm_80")
    self.assertEqual({"mma_k16_bf16_unit", "mma_k8_bf16_unit", "mma_k16_f16_unit", "mma_k8_f16_unit"},
                     set(re.findall(r"^(\w+): \d+ of \d+ words differ", result.stdout, re.MULTILINE)))
    for mma in ("sm_80", "round"):
      result = run("--compare", self.recording, mma=mma)
      self.assertEqual(0, result.returncode, "within the bounds of fractions: " + result.stdout)

  def test_a_changed_word_is_named_with_both_values(self):
    # Word 2 * 96 + 37 of a kernel of three outputs: CTA 2, output 1, lane 5.
    result, before, after = self.compare_changed("add_with_carry", 2 * 96 + 37, lambda word: word ^ 1)
    self.assertEqual(1, result.returncode)
    self.assertIn(f"add_with_carry: CTA 2, lane 5, output 1 is 0x{before:08x}, "
                  f"recorded as 0x{after:08x}", result.stdout)
    self.assertIn("1 of 768 words differ", result.stdout)

  def test_bounds_are_for_approximate_kernels_only(self):
    for kernel in ("ex2_approx_f32", "lg2_approx_f32", "rcp_approx_f32", "sin_approx_f32"):
      near, _, _ = self.compare_changed(kernel, 40, lambda word: word ^ 1)
      self.assertEqual(0, near.returncode, near.stdout)
      exactly, _, _ = self.compare_changed(kernel, 40, lambda word: word ^ 1, "--exactly")
      self.assertEqual(1, exactly.returncode, kernel)
      far, _, _ = self.compare_changed(kernel, 40, lambda word: word ^ 0x1000)
      self.assertEqual(1, far.returncode, kernel)
    product, _, _ = self.compare_changed("mma_k16_bf16_unit", 40, lambda word: word ^ 0x10000)
    self.assertEqual(1, product.returncode)
    fused, _, _ = self.compare_changed("fma_rn_f32", 40, lambda word: word ^ 1)
    self.assertEqual(1, fused.returncode)

  def test_a_kernel_that_was_not_recorded_is_named(self):
    path = self.recording / "sm_80.txt"
    text = path.read_text()
    path.write_text(text.replace("prmt_b32 1\n", "something_else 1\n"))
    try:
      result = run("--compare", self.recording)
    finally:
      path.write_text(text)
    self.assertEqual(1, result.returncode)
    self.assertIn("prmt_b32: not in the recording", result.stdout)

  def test_what_cannot_be_done_is_said(self):
    for arguments in ((), ("--out",), ("--define", "--out", "x"), ("--frobnicate", "1")):
      result = run(*arguments)
      self.assertEqual(2, result.returncode)
      self.assertIn("usage:", result.stderr)
    result = run("--compare", "/nonexistent")
    self.assertEqual(2, result.returncode)
    self.assertIn("there is no recording in /nonexistent", result.stderr)


if __name__ == "__main__":
  unittest.main(argv=sys.argv[:1])
