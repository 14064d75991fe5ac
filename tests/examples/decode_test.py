#!/usr/bin/env python3
"""usage: decode_test.py PROGRAM. Tests examples/decode.c on the CPU, and what it says without a GPU."""
import os
import re
import subprocess
import sys
import unittest

PROGRAM = sys.argv.pop(1)


def run(*arguments, **environment):
  return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False,
                        env={**os.environ, **environment})


class Decode(unittest.TestCase):
  def rows_of(self, *arguments):
    """Of all requests: how many rows have the bits of one call, and how many there are."""
    done = run(*arguments)
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    self.assertTrue(done.stdout.endswith("every row right\n"), done.stdout)
    counts = re.findall(r"request \d+: (\d+) of (\d+) rows have the bits", done.stdout)
    self.assertEqual(len(counts), 5)
    return [sum(map(int, column)) for column in zip(*counts)]

  def test_every_row_is_right_and_has_the_bits_of_one_call(self):
    same, rows = self.rows_of()
    self.assertEqual(same, rows)

  def test_levels_that_promise_less_are_right_within_bounds(self):
    for level in ("run", "batch"):
      same, rows = self.rows_of("--device", "cpu", "--reproducible", level)
      self.assertLessEqual(same, rows)

  def test_prompts_and_decoded_tokens_share_steps_and_requests_wait(self):
    said = run().stdout
    self.assertRegex(said, r"step +5: +76 new tokens")  # a prompt of 70, one of 5, and a token
    self.assertIn("request 2 waits", said)

  def test_help_teaches(self):
    done = run("--help")
    self.assertEqual(done.returncode, 0)
    for word in ("--device", "--reproducible", "FOVEA_SIMGPU=1", "CUDA graph", "Exit status"):
      self.assertIn(word, done.stdout)

  def test_wrong_arguments_are_refused(self):
    for arguments in (["--device"], ["--device", "tpu"], ["--reproducible", "always"], ["more"], ["--help", "more"]):
      done = run(*arguments)
      self.assertEqual(done.returncode, 2, arguments)
      self.assertIn("usage: decode", done.stderr)

  def test_a_missing_gpu_is_named(self):
    done = run("--device", "cuda", FOVEA_CUDA_DRIVER="/nowhere/libcuda.so")
    self.assertEqual(done.returncode, 1)
    self.assertRegex(done.stderr, "^decode: .*(there is no CUDA driver: .*nowhere|this build has no CUDA)")


if __name__ == "__main__":
  unittest.main()
