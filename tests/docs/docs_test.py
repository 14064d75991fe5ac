#!/usr/bin/env python3
"""usage: docs_test.py ROOT FOVEA README_EXAMPLE. Proves what the documents say. Their code is that
of the examples, or compiles. Their commands and options exist, and cheap commands print what is
shown. Their links lead somewhere, and their names are in the header. The other examples lie beside
the README's."""
import base64
import importlib.machinery
import importlib.util
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest
import zlib

ROOT, FOVEA, EXAMPLE = (pathlib.Path(name).resolve() for name in sys.argv[1:4])
del sys.argv[1:4]
CXX_EXAMPLE = EXAMPLE.with_name("example_cxx")

README = (ROOT / "README.md").read_text()
HEADER = (ROOT / "include/fovea.h").read_text()
LAYERS = (ROOT / "layers/fovea_layers.h").read_text()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Programs that a newcomer has or that scripts/setup installs.
ELSEWHERE = {"c++", "cc", "cmake", "ctest", "git", "python3"}
# Commands that take long, of which only the options are checked.
EXPENSIVE = {"validate"}
# Folders that builds, tools and the demo make.
MADE = re.compile(r"(build.*|demo|\.git|\.venv.*|\.cuda|Testing)$")


def documents():
  """Every Markdown file of the tree."""
  for path in sorted(ROOT.rglob("*.md")):
    if not MADE.match(path.relative_to(ROOT).parts[0]):
      yield path


def blocks(text, *languages):
  return [body for language, body in FENCE.findall(text) if language in languages]


def prose(text):
  return FENCE.sub("", text)


def anchors(text):
  """The fragments that GitHub gives the headings."""
  found = set()
  for heading in re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE):
    found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
  return found


def run(*command):
  return subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True,
                        check=False)


def commands(text):
  """Command lines of the shell blocks, with lines that a backslash continues joined."""
  for body in blocks(text, "sh"):
    for line in body.replace("\\\n", " ").splitlines():
      if line.strip() and not line.startswith("#"):
        yield shlex.split(line, comments=True)
  for body in blocks(text, "console"):
    for line in body.splitlines():
      if line.startswith("$ "):
        yield shlex.split(line[2:], comments=True)


def sessions(text):
  """The commands of the console blocks, each with the lines shown below it."""
  for body in blocks(text, "console"):
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
      line, _, shown = part.partition("\n")
      yield shlex.split(line), shown.splitlines()


def labels(lines):
  """The parts of the lines that depend on neither the machine nor the build, which may lack a CUDA
  compiler: every verdict, and the first word of other lines, except lines of CUDA kernels."""
  found = []
  for line in lines:
    words = line.split()
    if words and not re.match(r"fovea_\w+_sm\d", words[0]):
      found.append(line if words[0] == "verdict" else words[0])
  return found


class Readme(unittest.TestCase):
  def test_its_code_is_the_example(self):
    self.assertEqual(blocks(README, "c"), [(ROOT / "examples/readme.c").read_text()])

  def test_the_example_prints_what_it_shows(self):
    done = run(EXAMPLE)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(blocks(README, "text")[0], done.stdout)

  def test_the_example_is_short(self):
    self.assertLessEqual(len((ROOT / "examples/readme.c").read_text().splitlines()), 30)

  def test_its_picture_is_drawn_by_the_command_it_names(self):
    named = re.search(r"`fovea map ([^`]*) --output attention\.png`", README)
    self.assertTrue(named)
    with tempfile.TemporaryDirectory() as folder:
      picture = pathlib.Path(folder, "attention.png")
      done = run(FOVEA, "map", *shlex.split(named.group(1)), "--output", picture)
      self.assertEqual(done.returncode, 0, done.stderr)
      # Fonts differ from machine to machine, so only the format of the pictures is the same.
      committed = (ROOT / "docs/images/attention.png").read_bytes()
      self.assertEqual(picture.read_bytes()[:8], committed[:8])

  def test_its_numbers_are_the_captured_ones(self):
    """The weights of "it": the animal has 68 %, the street 5 %."""
    done = run(sys.executable, "-B", "-c", READ_WEIGHTS, "examples/data/street-layer3.safetensors")
    self.assertEqual(done.returncode, 0, done.stderr)
    animal, street = (round(100 * float(word)) for word in done.stdout.split())
    self.assertIn(f"the animal gets {animal} % of its attention, the street {street} %",
                  README.replace("\n", " "))

  def test_its_map_of_arguments_names_fields_of_the_header(self):
    table = (ROOT / "docs/guide/elsewhere.md").read_text()
    rows = [row.split("|")[-2] for row in table.splitlines() if row.startswith("| ")][1:]
    self.assertGreater(len(rows), 20)
    for row in rows:
      for word in re.findall(r"[a-zA-Z_]\w*", " ".join(re.findall(r"`([^`]*)`", row))):
        self.assertTrue(re.search(rf"\b{word}\b", HEADER), f"'{word}' in '{row.strip()}'")


def pixels(png):
  """A PNG's size and its filtered rows, whatever they were packed with."""
  at, rows = 8, b""
  while at < len(png):
    length, kind = int.from_bytes(png[at:at + 4], "big"), png[at + 4:at + 8]
    rows += png[at + 8:at + 8 + length] if kind == b"IDAT" else b""
    at += 12 + length
  return png[16:24], zlib.decompress(rows)


class Figures(unittest.TestCase):
  """docs/images are what scripts/draw-figures draws: the same names, and in the SVG files the same words
  and colours of cells. Sizes depend on the fonts of a machine, and so does which numbers of a scale have room."""

  def test_are_drawn_by_the_script(self):
    with tempfile.TemporaryDirectory() as folder:
      done = run(ROOT / "scripts/draw-figures", "--build", FOVEA.parents[1], "--output", folder)
      self.assertEqual(done.returncode, 0, done.stderr)
      committed = sorted((ROOT / "docs/images").iterdir())
      self.assertEqual(sorted(path.name for path in pathlib.Path(folder).iterdir()), [path.name for path in committed])
      for path in committed:
        texts = [[text for text in re.findall(r">([^<>\n]+)</text>", (where / path.name).read_text("utf-8"))
                  if not re.fullmatch(r"[0-9.]+", text)]
                 for where in (path.parent, pathlib.Path(folder)) if path.suffix == ".svg"]
        self.assertTrue(not texts or texts[0] == texts[1] and len(texts[0]) >= 8, path.name)
        cells = [[pixels(base64.b64decode(data)) for data in
                  re.findall(r'base64,([^"]+)', (where / path.name).read_text("utf-8"))]
                 for where in (path.parent, pathlib.Path(folder)) if path.suffix == ".svg"]
        self.assertTrue(not cells or cells[0] == cells[1] and cells[0], path.name)

  def test_are_all_shown(self):
    shown = "".join(path.read_text() for path in documents())
    for path in (ROOT / "docs/images").iterdir():
      self.assertIn(f"images/{path.name})", shown)


class Guide(unittest.TestCase):
  def test_its_cxx_program_is_the_example(self):
    text = (ROOT / "docs/guide/cxx.md").read_text()
    self.assertEqual(blocks(text, "cpp"), [(ROOT / "examples/cxx.cc").read_text()])

  def test_the_cxx_program_prints_what_it_shows(self):
    done = run(CXX_EXAMPLE)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertEqual(blocks((ROOT / "docs/guide/cxx.md").read_text(), "text"), [done.stdout])

  def test_asks_cmake_for_this_version(self):
    """A minor version before 1.0 may break programs, so find_package refuses any other."""
    version = ".".join(re.search(rf"FOVEA_VERSION_{part} (\d+)", HEADER).group(1)
                       for part in ("MAJOR", "MINOR"))
    for name in ("docs/guide/cxx.md", "tests/package/consumer/CMakeLists.txt"):
      self.assertIn(f"find_package(fovea {version} REQUIRED)", (ROOT / name).read_text())

  def test_its_fragments_compile(self):
    """Each C block of the guide is the body of a function with the parameters of FRAGMENT."""
    seen = 0
    for path in sorted((ROOT / "docs/guide").glob("*.md")):
      for body in blocks(path.read_text(), "c"):
        seen += 1
        with self.subTest(document=path.name, fragment=body):
          done = subprocess.run(["cc", "-std=c11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
                                 "-Wno-unused", "-I", str(ROOT / "include"), "-I", str(ROOT / "layers"), "-x", "c",
                                 "-"],
                                input=FRAGMENT % body, capture_output=True, text=True, check=False)
          self.assertEqual(done.returncode, 0, done.stderr)
    self.assertGreater(seen, 10)


FRAGMENT = """
#include <fovea_layers.h>
#include <stdio.h>
#include <string.h>
void fragment(fovea_handle *handle, fovea_stream stream, fovea_attention_args args,
              fovea_kv_append_args append, fovea_limits limits);
void fragment(fovea_handle *handle, fovea_stream stream, fovea_attention_args args,
              fovea_kv_append_args append, fovea_limits limits) {
%s
}
"""

READ_WEIGHTS = """
import json, struct, sys
data = open(sys.argv[1], "rb").read()
begin = 8 + int.from_bytes(data[:8], "little")
header = json.loads(data[8:begin])
tokens = json.loads(header["__metadata__"]["tokens"])[0]
weights, (first, last) = header["weights"], header["weights"]["data_offsets"]
values = struct.unpack(f"<{(last - first) // 4}f", data[begin + first:begin + last])
row = (1 * weights["shape"][2] + tokens.index("it")) * weights["shape"][3]  # of head 1
print(values[row + tokens.index("animal")], values[row + tokens.index("street")])
"""


def every_session():
  for path in documents():
    yield from sessions(path.read_text())


class EveryDocument(unittest.TestCase):
  def test_sessions_show_what_the_program_prints(self):
    seen = 0
    for (program, command, *arguments), shown in every_session():
      self.assertEqual(program, "fovea")
      seen += 1
      if command not in EXPENSIVE:
        done = run(FOVEA, command, *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(labels(shown), labels(done.stdout.splitlines()))
    self.assertGreaterEqual(seen, 5)

  def test_is_found(self):
    names = {path.relative_to(ROOT).as_posix() for path in documents()}
    self.assertLessEqual({"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/README.md"}, names)

  def test_links_to_files_that_exist(self):
    for path in documents():
      for target in LINK.findall(prose(path.read_text())):
        if target.startswith(("http://", "https://", "mailto:")):
          continue
        file, _, fragment = target.partition("#")
        aim = (path.parent / file).resolve() if file else path
        with self.subTest(document=path.relative_to(ROOT).as_posix(), link=target):
          self.assertTrue(aim.exists())
          self.assertTrue(aim.is_relative_to(ROOT))
          if fragment:
            self.assertIn(fragment, anchors(aim.read_text()))

  def test_names_paths_that_exist(self):
    folders = "include|csrc|layers|cli|kernels|simgpu|bench|examples|scripts|tests|docs|cmake"
    named = re.compile(rf"(?<![\w/.-])((?:{folders})/[\w./-]*\w/?)")
    for path in documents():
      for name in named.findall(path.read_text()):
        with self.subTest(document=path.relative_to(ROOT).as_posix(), path=name):
          self.assertTrue((ROOT / name).exists())

  def test_names_of_the_library_are_in_the_header(self):
    sources = [ROOT / name for name in ("CMakeLists.txt", "csrc/CMakeLists.txt", "simgpu/CMakeLists.txt",
                                        "cmake/FoveaCuda.cmake",
                                        "tests/plan_test.cc",  # FOVEA_UPDATE_GOLDEN
                                        "tests/attention/long_row_test.cc",  # and those of long runs
                                        "tests/cuda/range_kernel_test.cc",
                                        "tests/cuda/attention_graph_test.cc")]
    for folder, pattern in (("csrc", "*.[ch]"), ("csrc", "*.def"), ("kernels/shared", "*.def"),
                            ("simgpu", "*.c")):
      sources += (ROOT / folder).rglob(pattern)
    others = "".join(path.read_text() for path in sources)
    for path in documents():
      if path.name == "CHANGELOG.md":  # it also has names that are gone
        continue
      # A name followed by a star or a colon stands for several.
      for name in re.findall(r"\b(?:fovea_[a-z_0-9]+|FOVEA_[A-Z_0-9]+)\b(?![*:])", path.read_text()):
        with self.subTest(document=path.relative_to(ROOT).as_posix(), name=name):
          self.assertTrue(re.search(rf"\b{name}\b", HEADER + LAYERS + others))

  def test_commands_exist_and_know_their_options(self):
    for path in documents():
      for words in commands(path.read_text()):
        with self.subTest(document=path.relative_to(ROOT).as_posix(), command=" ".join(words)):
          self.check_command(words)

  def check_command(self, words):
    program, *arguments = words
    if program in ELSEWHERE:
      return
    built = FOVEA.parents[1] / program.removeprefix("build/")
    asked = [FOVEA, arguments[0]] if program == "fovea" else [built if program.startswith("build/") else ROOT / program]
    self.assertTrue(pathlib.Path(asked[0]).exists(), asked[0])
    done = run(*asked, "--help")
    self.assertEqual(done.returncode, 0, done.stderr)
    for option in (word.partition("=")[0] for word in arguments if word.startswith("--")):
      self.assertRegex(done.stdout, rf"{option}\b")


class Changelog(unittest.TestCase):
  def test_begins_with_the_version_of_the_header(self):
    version = ".".join(re.search(rf"FOVEA_VERSION_{part} (\d+)", HEADER).group(1)
                       for part in ("MAJOR", "MINOR", "PATCH"))
    first = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1)
    self.assertTrue(first.startswith(version), first)


class Decisions(unittest.TestCase):
  def records(self):
    return sorted((ROOT / "docs/decisions").glob("*.md"))

  def test_are_numbered_without_a_gap_and_listed(self):
    index = (ROOT / "docs/README.md").read_text()
    self.assertTrue(self.records())
    for number, path in enumerate(self.records(), 1):
      self.assertTrue(path.name.startswith(f"{number:04d}-"), path.name)
      self.assertIn(f"(decisions/{path.name})", index)

  def test_state_context_choice_and_price_on_one_page(self):
    for path in self.records():
      with self.subTest(path.name):
        text = path.read_text()
        self.assertEqual(re.findall(r"^## (.*)$", text, re.MULTILINE), ["Context", "Choice", "Price"])
        self.assertLessEqual(len(text.splitlines()), 60)


class Header(unittest.TestCase):
  def test_says_of_each_function_what_it_returns(self):
    # A function without a comment shares that of the function before it.
    found = re.findall(r"(?:(/\*(?:[^*]|\*(?!/))*\*/)\n)?FOVEA_API ([\w ]+[ *])(fovea_\w+)\(", HEADER)
    self.assertGreater(len(found), 15)
    comment = ""
    for own, returns, name in found:
      comment = own or comment
      with self.subTest(name):
        self.assertRegex(comment, r"\bReturns?\b")
        if returns.strip() == "fovea_status":
          self.assertRegex(comment, r"FOVEA_BAD_ARGUMENT|the same statuses")


def load_support_table():
  path = ROOT / "scripts/support-table"
  loader = importlib.machinery.SourceFileLoader("support_table", str(path))
  module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
  sys.dont_write_bytecode = True
  loader.exec_module(module)
  return module


class SupportTable(unittest.TestCase):
  """The script ticks only what was compared and right. Another test compares the table itself."""

  def setUp(self):
    self.script = load_support_table()
    features = [name for _, names in self.script.ROWS for name in names]
    self.records = {column.head: {"pass": True, "coverage": dict.fromkeys(features, self.script.LEAST)}
                    for column in self.script.COLUMNS}

  def row(self, label):
    lines = self.script.table(self.records, "").splitlines()
    return next(line for line in lines if line.startswith(f"| {label} "))

  def test_ticks_what_was_met_often_enough(self):
    self.assertEqual(self.row("ALiBi").count("✓"), len(self.script.COLUMNS))

  def test_names_the_features_that_were_met_where_some_were_not(self):
    self.records["cpu, AVX2"]["coverage"]["k=i8"] = self.script.LEAST - 1
    self.assertIn("| ✓ | k=f32, k=f16, k=bf16, k=e4m3, k=e5m2 | ✓ |",
                  self.row("k: f32, f16, bf16, e4m3, e5m2, i8"))

  def test_a_row_of_which_nothing_was_met_has_a_dash(self):
    self.records["cpu, portable"]["coverage"]["sinks"] = self.script.LEAST - 1
    self.assertIn("| ✓ | – | ✓ |", self.row("sinks"))

  def test_a_failed_run_ticks_nothing(self):
    self.records["cpu, portable"]["pass"] = False
    self.assertIn("| ✓ | failed | ✓ |", self.row("sinks"))

  def test_a_feature_without_a_row_is_noticed(self):
    self.assertEqual(self.script.homeless(self.records), [])
    self.records["cpu, AVX2"]["coverage"]["dropout"] = 99
    self.assertEqual(self.script.homeless(self.records), ["dropout"])

  def test_a_column_counts_what_its_own_kernels_computed(self):
    report = {"pass": True, "coverage": {"gqa": 9, "mask": 1},
              "kernels": {"fovea_x_f16": {"cases": 4, "coverage": {"gqa": 3, "mask": 0}},
                          "fovea_x_bf16": {"cases": 2, "coverage": {"gqa": 2, "mask": 1}},
                          "fovea_y_f16": {"cases": 4, "coverage": {"gqa": 4, "mask": 0}}}}
    self.assertEqual(self.script.record(report, "fovea_x_"), {"pass": True, "coverage": {"gqa": 5, "mask": 1}})
    self.assertIsNone(self.script.record(report, "fovea_z_"))

  def test_a_column_that_the_machine_lacks_stays_as_it_is(self):
    before = self.script.table(self.records, "")
    del self.records["cpu, AVX-512"]
    self.records["reference"]["coverage"]["sinks"] = 0
    after = self.script.table(self.records, before)
    changed = [(a, b) for a, b in zip(before.splitlines(), after.splitlines()) if a != b]
    self.assertEqual([b for _, b in changed], ["| sinks | ✓ | ✓ | ✓ | ✓ | – |"])

  def test_replaces_what_stands_between_the_markers_only(self):
    text = f"before\n{self.script.BEGIN}\nold\n{self.script.END}\nafter\n"
    self.assertEqual(self.script.replaced(text, "new"), text.replace("old", "new"))
    self.assertRaises(SystemExit, self.script.replaced, "before", "new")


if __name__ == "__main__":
  unittest.main()
