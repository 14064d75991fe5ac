#!/usr/bin/env python3
"""Runs a program with trained weights: its numbers against the golden file, its figure on the held-out
inputs, its picture, and what it says to arguments and files that are none.

usage: model_test.py ROOT PROGRAM digits|opinion|pronounce [no-figure]

The golden files hold what the training scripts compute in double precision from the same weights, with 6
digits. The program computes in f32. A unit of f32 is 6e-8; sums have up to 500 terms, and a word passes
through up to 40 steps of a recurrent cell, each of which may double what came in wrong: 1e-3 of the larger of 1
and the number is far above what is met (5e-6), and far below what any wrong step makes.
"""
import json
import math
import pathlib
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

FIGURES = {"digits": (r"\d+ of 450 right: ([\d.]+) %", lambda share: share >= 96.5),
           "opinion": (r"\d+ of 1500 right: ([\d.]+) %", lambda share: share >= 80.5),
           "pronounce": (r"3000 words: ([\d.]+) % of phonemes wrong", lambda rate: rate <= 7.5)}
TABLES = {"digits": ("position", "16 64"), "opinion": ("words.weight", "6077 64"),
          "pronounce": ("letters.weight", "27 64")}
TEXTS = {"digits": ["test"], "opinion": ["test", "words"], "pronounce": ["test", "letters", "phonemes"]}
BAD_LINES = {"digits": ["8", "8 0 0", "8" + " 17" * 64, "8" + " 4294967297" * 64, "11" + " 0" * 64, "x"],
             "opinion": ["1", "0", "1 so so", "\t", "2\tso so"],
             "pronounce": ["word", "word\t", "word\tW ER D\t", "word\tW QQ", "w\tW", "1234\tW", "word\t" + "D " * 25,
                           "abcdefghijklmnopqrs\tW"]}
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
                          (["--numbers"], 2), (["1", "2", "3"], 2), (["--map", "--numbers", "0"], 2), (["-1"], 2)):
    done = run(program, *arguments)
    assert done.returncode == code, (arguments, done)
    assert done.stderr, arguments


def read_map(path):
  """The weights of a file for fovea map, [heads, rows, keys] as one list, and its header."""
  data = path.read_bytes()
  length = int.from_bytes(data[:8], "little")
  header = json.loads(data[8:8 + length])
  weights = header["weights"]
  count = math.prod(weights["shape"])
  assert weights["dtype"] == "F32" and weights["data_offsets"] == [0, 4 * count], weights
  assert len(data) == 8 + length + 4 * count
  return list(struct.unpack(f"<{count}f", data[8 + length:])), header


def shade(regions):
  """What falls on each of the 64 pixels from the 16 windows of 4 x 4 that begin 2 apart, one row and column
  outside the image."""
  return [sum(regions[region] for region in range(16) if 0 <= y + 1 - region // 4 * 2 < 4
              and 0 <= x + 1 - region % 4 * 2 < 4) for y in range(8) for x in range(8)]


def expected_map(root, model, numbers):
  """From what --numbers prints: the weights, and the metadata but for the title and axes."""
  found = {name: values for name, _, _, values in numbers}
  line = (root / f"examples/models/{model}.test.txt").read_text().splitlines()[int(found["input"][0])]
  weights = found["weights"]
  if model == "digits":
    heads = [weights[16 * head:16 * head + 16] for head in range(4)]
    panels = [[int(pixel) / 16 for pixel in line.split()[1:]], shade([sum(column) / 4 for column in zip(*heads)])]
    panels += [shade(head) for head in heads]
    names = {"head_names": ["the image", "all heads", *(f"head {head}" for head in range(4))]}
    return sum(panels, []), [6, 8, 8], names
  if model == "opinion":
    tokens = re.findall(r"[a-z]+(?:'[a-z]+)*|[!?.,]", line[2:].lower())
    return weights, [1, 1, len(tokens)], {"tokens": [tokens], "query_tokens": [["learned query"]]}
  word = line.split("\t")[0]
  symbols = (root / "examples/models/pronounce.phonemes.txt").read_text().splitlines()
  phonemes = [symbols[int(number)] for number in found["phonemes"] if number]
  shape = [1, len(phonemes), len(word)]
  return weights[:math.prod(shape)], shape, {"tokens": [list(word)], "query_tokens": [phonemes]}


def forbid_files():
  """Files may not grow beyond 100 bytes, and that is an error, not a signal."""
  signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


def check_map(root, program, model):
  """What --map writes is what --numbers prints, with the names of rows and keys."""
  numbers = list(tables(run(program, "--numbers", "1").stdout))
  weights, shape, names = expected_map(root, model, numbers)
  what = "".join(names["tokens"][0]) if model == "pronounce" else "1"
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "map.safetensors")
    done = run(program, "--map", str(path), what)
    assert done.returncode == 0 and done.stdout, done
    got, header = read_map(path)
    assert header["weights"]["shape"] == shape, header
    assert max(abs(a - b) for a, b in zip(got, weights, strict=True)) < 1e-5, (got, weights)
    said = header["__metadata__"]
    for name, listed in names.items():
      assert json.loads(said[name]) == listed, said
    assert said["title"] and said["query_axis"] and said["key_axis"], said
    for arguments, code, word in ((["--map"], 2, "usage:"), (["--map", folder], 1, folder),
                                  (["--map", f"{folder}/none/map.safetensors"], 1, "none/map.safetensors")):
      done = run(program, *arguments)
      assert done.returncode == code and word in done.stderr, (arguments, done)
    path.write_text("important")
    done = subprocess.run([program, "--map", str(path)], preexec_fn=forbid_files, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 1 and str(path) in done.stderr, done
    assert path.read_text() == "important" and list(path.parent.iterdir()) == [path]
  weights = root / f"examples/models/{model}.weights"
  before = weights.read_bytes()
  done = run(program, "--map", str(weights))
  assert done.returncode == 1 and "is a file that the program reads" in done.stderr, done
  assert weights.read_bytes() == before


class Rubbish:
  """A copy of the model's files, of which one at a time is spoilt. The program must say on one line which file
  it refuses, or which tensor of it, and exit with 1: never by a signal, never with a figure."""

  def __init__(self, root, program, model, folder):
    self.program, self.model, self.folder = str(pathlib.Path(program).resolve()), model, pathlib.Path(folder)
    self.models = self.folder / "examples/models"
    self.models.mkdir(parents=True)
    for path in (root / "examples/models").glob(f"{model}.*"):
      shutil.copy(path, self.models)
    self.weights = (self.models / f"{model}.weights").read_bytes()
    self.count = 0

  def test_line(self):
    """The first line of the tests, with its line feed."""
    return (self.models / f"{self.model}.test.txt").read_bytes().split(b"\n", 1)[0] + b"\n"

  def run(self):
    return subprocess.run([self.program], input=b"", cwd=self.folder, capture_output=True, check=False)

  def expect(self, part, *said):
    """The program refuses what lies in place of MODEL.part, and says so in one line with these words."""
    done = self.run()
    message = done.stderr.decode(errors="replace")
    assert done.returncode == 1 and not done.stdout, (self.model, part, said, done)
    assert len(message.splitlines()) == 1, (self.model, part, said, message)
    for words in (f"{self.model}.{part}", *said):
      assert words in message, (words, message)
    self.count += 1

  def refuse(self, part, contents, *said):
    """As `expect`, with these contents; the file is whole again afterwards."""
    path = self.models / f"{self.model}.{part}"
    whole = path.read_bytes()
    path.write_bytes(contents)
    self.expect(part, *said)
    path.write_bytes(whole)

  def refuse_header(self, before, after, *said):
    """One line of the header is another; the elements are the same, from the next multiple of 64."""
    header, elements = self.weights.split(b"\n\n", 1)
    assert header.count(before.encode()) == 1, before
    elements = elements[-(len(header) + 2) % 64:]
    header = header.replace(before.encode(), after.encode()) + b"\n\n"
    self.refuse("weights", header + bytes(-len(header) % 64) + elements, *said)

  def check_sizes(self):
    """Files that end before, in and behind the header, or go on after the last tensor."""
    header = self.weights.index(b"\n\n")
    whole = len(self.weights)
    for length in (0, 1, 15, 16, 17, header, header + 1):
      self.refuse("weights", self.weights[:length], "is no weights file")
    for length in (header + 2, header + 3, whole // 2, whole - 1):
      self.refuse("weights", self.weights[:length], "ends before its last tensor")
    self.refuse("weights", self.weights + b"\0", "goes on")
    self.refuse("weights", b"fovea-weights 1\n\n", "has no tensor")
    self.refuse("weights", b"fovea-weights 2" + self.weights[15:], "is no weights file")
    self.refuse("weights", b"7 " * 4096, "is no weights file")
    self.refuse("weights", b"fovea-weights 1\n" + b"a f32 1\n" * 1000 + b"\n" + bytes(65536), "too many")

  def check_header(self):
    name, shape = TABLES[self.model]
    line = f"\n{name} f32 {shape}"
    rows, columns = shape.split()
    for dims in ("", "0", f"-{shape}", f"{shape} 1", f"{shape} x", f"99999999 {columns}", "9" * 18, "9" * 40,
                 f"{rows} 99999999999999999999"):
      self.refuse_header(line, f"\n{name} f32 {dims}", name)
    for dtype in ("f64", "F32", "f32f32f32", "bf16", "", "%s"):
      self.refuse_header(line, f"\n{name} {dtype} {shape}", name)
    self.refuse_header(line, f"\nanother f32 {shape}", f"has no tensor {name}")
    self.refuse_header(line, f"\n{'n' * 70} f32 {shape}", "n" * 70)
    self.refuse_header(line, "\n" + line, "weights")
    self.refuse_header(line, f"\n\0{line[1:]}", "weights")

  def check_shapes(self):
    """Each extent of each tensor four times as large, in files that are whole, of zeros."""
    lines = [line.split(" ") for line in self.weights.split(b"\n\n", 1)[0].decode().split("\n")]
    for changed in range(1, len(lines)):
      for axis in range(2, len(lines[changed])):
        spoilt = [*map(list, lines)]
        spoilt[changed][axis] = str(int(spoilt[changed][axis]) * 4)
        contents = bytearray(("\n".join(map(" ".join, spoilt)) + "\n\n").encode())
        for _, _, *dims in spoilt[1:]:
          contents.extend(bytes(-len(contents) % 64 + 4 * math.prod(map(int, dims))))
        self.refuse("weights", contents, f"{spoilt[changed][0]} is ", "must be")

  def check_texts(self):
    for part in TEXTS[self.model]:
      part = f"{part}.txt"
      whole = (self.models / f"{self.model}.{part}").read_bytes()
      first, rest = whole.split(b"\n", 1)
      self.refuse(part, b"", "has no lines")
      self.refuse(part, b"\n", "line 1 is empty")
      self.refuse(part, whole + b"\n", "is empty")
      for spoilt in (b"\0", b"\0" + whole, first + b"\0\n" + rest, whole[:-1] + b"\0", whole + b"\0"):
        self.refuse(part, spoilt, "NUL")
      if part == "phonemes.txt":
        self.refuse(part, whole + whole, "too many")
    for line in BAD_LINES[self.model]:
      self.refuse("test.txt", line.encode() + b"\n" + self.test_line(), "line 1 ")
      self.refuse("test.txt", line.encode(), "line 1 ")

  def check_absent(self):
    """No file; in its place a directory, and a pipe."""
    for part in ("weights", *(f"{text}.txt" for text in TEXTS[self.model])):
      path = self.models / f"{self.model}.{part}"
      aside = path.rename(path.with_suffix(".aside"))
      self.expect(part, "cannot be opened")
      path.mkdir()
      self.expect(part)
      path.rmdir()
      path.symlink_to("/dev/stdin")
      self.expect(part, "is no file")
      path.unlink()
      aside.rename(path)

  def check_last_line(self):
    """A last line without its line feed is a line like others."""
    path = self.models / f"{self.model}.test.txt"
    path.write_bytes(self.test_line()[:-1])
    done = self.run()
    assert done.returncode == 0 and not done.stderr and done.stdout[:2] in (b"1 ", b"0 "), done


def check_rubbish(root, program, model):
  with tempfile.TemporaryDirectory() as folder:
    rubbish = Rubbish(root, program, model, folder)
    rubbish.check_sizes()
    rubbish.check_header()
    rubbish.check_shapes()
    rubbish.check_texts()
    rubbish.check_absent()
    rubbish.check_last_line()
    print(f"{model}: {rubbish.count} spoilt files refused")


def main(root, program, model, figure="figure"):
  check_golden(pathlib.Path(root), program, model)
  check_arguments(program)
  check_map(pathlib.Path(root), program, model)
  check_rubbish(pathlib.Path(root), program, model)
  if figure != "no-figure":  # thousands of inputs, which a sanitizer makes slow
    check_figure(program, model)


if __name__ == "__main__":
  main(*sys.argv[1:])
