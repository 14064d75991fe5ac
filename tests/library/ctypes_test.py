#!/usr/bin/env python3
"""usage: ctypes_test.py ROOT LIBFOVEA.so LIBFOVEA-LAYERS.so. Tests scripts/fovea_ctypes.py, by which
scripts compare fovea with other libraries, and what these scripts say before they compare. Needs no
package: arrays of ctypes stand in for numpy's."""
import ctypes
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import types
import unittest

ROOT, LIBRARY, LAYERS = (pathlib.Path(name).resolve() for name in sys.argv[1:4])
del sys.argv[1:4]
sys.path.insert(0, str(ROOT / "scripts"))

import fovea_ctypes  # noqa: E402


class Floats:
  """What the module asks of an array of numpy: f32, of this shape, and of these strides in elements."""

  def __init__(self, shape, values=(), strides=None):
    self.shape, self.itemsize, self.dtype = shape, 4, types.SimpleNamespace(name="float32")
    self.data = (ctypes.c_float * max(1, math.prod(shape)))(*values)
    self.ctypes = types.SimpleNamespace(data=ctypes.addressof(self.data))
    self.flags = types.SimpleNamespace(c_contiguous=strides is None)
    strides = strides or [math.prod(shape[n + 1:]) for n in range(len(shape))]
    self.strides = tuple(4 * stride for stride in strides)


class Binding(unittest.TestCase):
  def setUp(self):
    self.library = fovea_ctypes.Library(LIBRARY)

  def arguments(self, out):
    """One query, and two keys whose additive scores are 0 and log 2."""
    score = math.atanh(math.log(2))
    self.kept = [Floats((1, 1, 1, 1), [0]), Floats((1, 2, 1, 1), [0, score]), Floats((1, 2, 1, 1), [3, 6]),
                 Floats((1,), [1])]
    q, k, v = (self.library.view(one) for one in self.kept[:3])
    args = self.library.new("fovea_attention_args", q=q, k=k, v=v, out=self.library.view(out))
    args.logits.additive.vector = fovea_ctypes.address(self.kept[3])
    return args

  def test_attention_is_computed(self):
    out = Floats((1, 1, 1, 1))
    with self.library.open("CPU", threads=1) as handle:
      handle.attention(self.arguments(out))
    self.assertAlmostEqual(out.data[0], 5, places=5)

  def test_the_workspace_lies_where_the_caller_allocates_it(self):
    room = ctypes.create_string_buffer(1 << 24)
    sizes, args = [], self.arguments(Floats((1, 1, 1, 1)))
    allocate = lambda size: sizes.append(size) or ctypes.addressof(room)
    with self.library.open("CPU", threads=1, allocate=allocate) as handle:
      handle.attention(args)
      handle.attention(args)
    begin = args.workspace - ctypes.addressof(room)
    self.assertEqual(len(sizes), 1)
    self.assertTrue(0 <= begin and begin + args.workspace_bytes <= sizes[0] and args.workspace % 256 == 0)

  def test_failures_name_the_status_and_the_field(self):
    args = self.arguments(Floats((1, 1, 1, 1)))
    args.logits.softcap = -1
    with self.library.open("CPU", threads=1) as handle, self.assertRaises(fovea_ctypes.FoveaError) as raised:
      handle.attention(args)
    self.assertEqual(raised.exception.status, "FOVEA_BAD_ARGUMENT")
    self.assertIn("softcap", raised.exception.detail)

  def test_views_count_strides_in_elements_and_take_names_of_dtypes(self):
    view = self.library.view(Floats((2, 3, 4, 5), strides=(60, 5, 15, 1)), "BF16")
    self.assertEqual((tuple(view.shape), tuple(view.stride)), ((2, 3, 4, 5), (60, 5, 15, 1)))
    self.assertEqual(view.dtype, self.library.constants["FOVEA_BF16"])
    with self.assertRaises(ValueError):
      self.library.view(Floats((2, 3, 4)))

  def test_arrays_that_are_no_tensors_must_be_contiguous(self):
    with self.assertRaises(ValueError):
      fovea_ctypes.address(Floats((2, 2), strides=(1, 2)))

  def refuses(self, change, words):
    description = json.loads(fovea_ctypes.DESCRIPTION.read_text())
    change(description)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as changed:
      json.dump(description, changed)
      changed.flush()
      with self.assertRaisesRegex(ValueError, words):
        fovea_ctypes.Library(LIBRARY, changed.name)

  def test_libraries_and_layouts_of_other_versions_are_refused(self):
    self.refuses(lambda all: all.update(version="9.9.9"), "9.9.9")
    self.refuses(lambda all: all["functions"].update(fovea_new=all["functions"]["fovea_version"]), "fovea_new")
    self.refuses(lambda all: all["structs"]["fovea_pages"].update(bytes=9), "fovea_pages")
    self.refuses(lambda all: all["structs"]["fovea_pages"]["fields"][1].update(offset=9), "fovea_pages")


class Layers(unittest.TestCase):
  def setUp(self):
    self.library = fovea_ctypes.Library(LIBRARY)
    self.library.load_layers(LAYERS)

  def test_a_layer_is_computed_in_the_workspace_that_it_asks_for(self):
    """Two keys of equal score, whose values, the tokens 3 and 6, are projected by 2."""
    x, weight, memory, out = (Floats(shape, values) for shape, values in (
      ((1, 1, 1, 1), [0]), ((1, 1, 1, 1), [2]), ((1, 2, 1, 1), [3, 6]), ((1, 1, 1, 1), [])))
    view = self.library.view
    source = self.library.new("fovea_source", x_k=view(memory))
    source.v_proj.weight = view(weight)
    args = self.library.new("fovea_multihead_args", heads_q=1, heads_kv=1, dim=1, dim_v=1, source_count=1,
                            sources=ctypes.addressof(source), x=view(x), out=view(out))
    with self.library.open("CPU", threads=1) as handle:
      handle.layer("fovea_multihead", args)
    self.assertAlmostEqual(out.data[0], 9, places=5)
    self.assertGreater(args.workspace_bytes, 0)

  def test_layers_whose_workspace_has_another_name_or_that_need_none_are_called(self):
    x, weight, out = Floats((1, 1, 1, 2), [3, 4]), Floats((1, 2, 1, 2), [1, 0, 0, 2]), Floats((1, 1, 1, 2))
    linear = self.library.new("fovea_linear_args", x=self.library.view(x), out=self.library.view(out))
    linear.linear.weight = self.library.view(weight)
    norm = self.library.new("fovea_normalise_args", x=self.library.view(x), out=self.library.view(out))
    with self.library.open("CPU", threads=1) as handle:
      handle.layer("fovea_linear_apply", linear)
      self.assertEqual(list(out.data), [3, 8])
      handle.layer("fovea_normalise", norm)
      self.assertEqual(list(out.data), [-1, 1])

  def test_failures_have_the_words_of_the_layers(self):
    args = self.library.new("fovea_normalise_args", eps=-1)
    with self.library.open("CPU", threads=1) as handle, self.assertRaises(fovea_ctypes.FoveaError) as raised:
      handle.layer("fovea_normalise", args)
    self.assertEqual(raised.exception.status, "FOVEA_BAD_ARGUMENT")
    self.assertNotEqual(raised.exception.detail, "")
    self.assertEqual(raised.exception.detail, self.library.call("fovea_layers_error_detail").decode())

  def test_the_layers_have_a_version_and_numbers_of_their_own(self):
    self.assertEqual(self.library.version("fovea_layers"), self.library.version())
    self.assertEqual(self.library.constants["FOVEA_CELL_LSTM"], 2)
    self.assertEqual(self.library.constants["FOVEA_F32"], 1)

  def test_a_library_without_layers_is_refused(self):
    with self.assertRaisesRegex(ValueError, "fovea_layers_version"):
      fovea_ctypes.Library(LIBRARY).load_layers(LIBRARY)


class Comparisons(unittest.TestCase):
  SCRIPTS = {"compare-attn-lstm": "numpy onnx onnxruntime",
             "compare-layers": "numpy torch keras transformers onnx onnxruntime"}

  @staticmethod
  def run_it(script, *arguments):
    """Runs a script without any package that is installed."""
    return subprocess.run([sys.executable, "-S", "-B", ROOT / "scripts" / script, *arguments],
                          capture_output=True, text=True, check=False)

  def test_help_teaches_without_the_packages(self):
    for script in self.SCRIPTS:
      done = self.run_it(script, "--help")
      self.assertEqual(done.returncode, 0, script)
      for word in ("--library", "--cases", "--seed", "--only", "--break", "pip install", "Exit status"):
        self.assertIn(word, done.stdout, script)

  def test_wrong_arguments_are_refused(self):
    for script in self.SCRIPTS:
      for arguments in (["--cases", "0"], ["--seed", "-1"], ["--break", "nothing"], ["more"]):
        self.assertEqual(self.run_it(script, *arguments).returncode, 2, [script, *arguments])

  def test_missing_packages_are_named_with_the_command_that_installs_them(self):
    for script, packages in self.SCRIPTS.items():
      done = self.run_it(script)
      self.assertEqual(done.returncode, 3, script)
      self.assertIn("No module named", done.stderr, script)
      self.assertIn("pip install " + packages, done.stderr, script)


if __name__ == "__main__":
  unittest.main()
