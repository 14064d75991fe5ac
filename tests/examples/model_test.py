#!/usr/bin/env python3
"""Runs a program with trained weights: its numbers against the golden file, its figure on the held-out
inputs, its picture, and what it says to arguments that are none.

usage: model_test.py ROOT PROGRAM digits|opinion|pronounce

The golden files hold what the training scripts compute in double precision from the same weights, with 6
digits. The program computes in f32. A unit of f32 is 6e-8; sums have up to 500 terms, and a word passes
through up to 40 steps of a recurrent cell, each of which may double what came in wrong: 1e-3 of the larger of 1
and the number is far above what is met (5e-6), and far below what any wrong step makes.
"""
import pathlib
import re
import subprocess
import sys

FIGURES = {"digits": (r"\d+ of 450 right: ([\d.]+) %", lambda share: share >= 96.5),
           "opinion": (r"\d+ of 1500 right: ([\d.]+) %", lambda share: share >= 80.5),
           "pronounce": (r"3000 words: ([\d.]+) % of phonemes wrong", lambda rate: rate <= 7.5)}
PICTURES = {"digits": "shaded where the model looked", "opinion": "the movie, by", "pronounce": "thoughtful: TH"}
ALLOWED = 1e-3


def run(program, *arguments):
  return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def tables(text):
  """The tables of golden text, in order: (name, rows, columns, numbers)."""
  words = iter(text.split())
  for name in words:
    rows, columns = int(next(words)), int(next(words))
    yield name, rows, columns, [float(next(words)) for _ in range(rows * columns)]


def blocks(text):
  """A block begins with the table `input`."""
  found = []
  for table in tables(text):
    if table[0] == "input":
      found.append([])
    found[-1].append(table)
  return found


def check_golden(root, program, model):
  golden = blocks((root / f"examples/models/{model}.golden.txt").read_text())
  assert len(golden) == 3, len(golden)
  worst = 0
  for expected in golden:
    number = str(int(expected[0][3][0]))
    done = run(program, "--numbers", number)
    assert done.returncode == 0, done.stderr
    got = list(tables(done.stdout))
    assert [table[:3] for table in got] == [table[:3] for table in expected], (got, expected)
    for (name, _, _, numbers), (_, _, _, truth) in zip(got, expected):
      for number, right in zip(numbers, truth):
        worst = max(worst, abs(number - right) / max(1, abs(right)))
        assert worst <= ALLOWED, (name, number, right)
  print(f"{model}: at most {worst:.1e} from double precision")


def check_figure(program, model):
  pattern, is_good = FIGURES[model]
  done = run(program)
  assert done.returncode == 0, done.stderr
  figure = float(re.match(pattern, done.stdout).group(1))
  assert is_good(figure), done.stdout
  assert PICTURES[model] in done.stdout, done.stdout
  print(f"{model}: {figure} %")


def check_arguments(program):
  assert run(program, "--help").returncode == 0
  assert "usage:" in run(program, "--help").stdout
  for arguments, code in ((["--nothing"], 2), (["--numbers", "x"], 1), (["--numbers", "99999"], 1),
                          (["1", "2", "3"], 2)):
    done = run(program, *arguments)
    assert done.returncode == code, (arguments, done)
    assert done.stderr, arguments


def main(root, program, model):
  check_golden(pathlib.Path(root), program, model)
  check_figure(program, model)
  check_arguments(program)


if __name__ == "__main__":
  main(*sys.argv[1:])
