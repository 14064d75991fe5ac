#!/usr/bin/env python3
"""Each rule of tree_rules.py, broken once in a small tree made for it."""
import pathlib
import tempfile
import unittest

import tree_rules

GOOD = {
  "include/fovea.h": "#include <stdint.h>\n",
  "csrc/api.c": '#include <fovea.h>\n#include "csrc/check/check.h"\n',
  "csrc/plan.h": "#include <fovea.h>\n",
  "csrc/check/check.h": '#include "csrc/plan.h"\n',
  "csrc/host/pool.c": '#include "csrc/plan.h"\n#include "kernels/shared/shape.h"\n',
  "csrc/host/pool.h": "",
  "csrc/cpu/plan.c": '#include "csrc/plan.h"\n#include "csrc/host/pool.h"\n#include "csrc/cpu/rows.def"\n',
  "csrc/cpu/rows.def": "",
  "csrc/cuda/plan.c": '#include "kernels/shared/rows.def"\n',
  "csrc/cuda/plan.h": "",
  "kernels/shared/shape.h": "",
  "kernels/shared/rows.def": "",
  "kernels/attention_sm80.cuh": '#include "kernels/parts/softmax.cuh"\n',
  "kernels/parts/softmax.cuh": '#include "kernels/arch/mma.cuh"\n#include "kernels/shared/shape.h"\n',
  "kernels/arch/mma.cuh": "",
  "cli/main.c": '#include <jansson.h>\n#include <fovea.h>\n#include "cli/command/command.h"\n',
  "cli/command/command.h": '#include "csrc/cuda/plan.h"\n',
  "tests/plan_test.cc": '#include <gtest/gtest.h>\n#include "csrc/plan.h"\n',
  "examples/decode.c": "#include <fovea.h>\n",
  "CMakeLists.txt": "target_link_libraries(fovea PRIVATE m)\n",
}


def guarded(name, text):
  """The text of a header, inside the guard of its path. Other files are returned unchanged."""
  if not name.endswith((".h", ".cuh")) or name.endswith(".inc.h") or "#ifndef" in text:
    return text
  guard = "FOVEA_" + name.upper().replace("/", "_").replace(".", "_")
  return f"{text}#ifndef {guard}\n#define {guard}\n#endif /* {guard} */\n"


class TreeRules(unittest.TestCase):
  def complaints(self, files):
    """The complaints about the good tree with files added or replaced. Headers get guards first."""
    with tempfile.TemporaryDirectory() as folder:
      for name, text in {**GOOD, **files}.items():
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(guarded(name, text))
      return tree_rules.broken_rules(folder)

  def assert_refused(self, name, text, *words):
    said = self.complaints(files={name: text})
    self.assertEqual(len(said), 1, said)
    for word in (name, *words):
      self.assertIn(word, said[0])

  def test_accepts_the_good_tree(self):
    self.assertEqual(self.complaints(files={}), [])

  def test_header_includes_nothing_of_ours(self):
    self.assert_refused("include/fovea.h", '#include "csrc/plan.h"\n', "csrc/plan.h")

  def test_an_include_is_a_path_from_the_root(self):
    for written in ("plan.h", "../plan.h", "csrc/absent.h"):
      self.assert_refused("csrc/cpu/tile.c", f'#include "{written}"\n', "no path from the root", written)
    self.assert_refused("csrc/cpu/tile.c", '#include "fovea.h"\n', "no path from the root")

  def test_backends_do_not_know_each_other(self):
    for name, other in (("csrc/cpu/tile.c", "csrc/cuda/plan.h"), ("csrc/cuda/tile.c", "csrc/host/pool.h"),
                        ("csrc/host/tile.c", "csrc/cuda/plan.h"), ("csrc/reference/tile.c", "csrc/cuda/plan.h")):
      self.assert_refused(name, f'#include "{other}"\n', other)

  def test_what_backends_share_does_not_look_at_them(self):
    self.assert_refused("csrc/handle.c", '#include "csrc/cuda/plan.h"\n', "csrc/cuda/plan.h")
    self.assert_refused("csrc/check/rule.c", '#include "csrc/host/pool.h"\n', "csrc/host/pool.h")
    self.assert_refused("csrc/cpu/tile.c", '#include "csrc/check/check.h"\n', "csrc/check/check.h")

  def test_library_does_not_look_at_the_program(self):
    self.assert_refused("csrc/cpu/tile.c", '#include "cli/command/command.h"\n',
                        "csrc/cpu/ may not look there")

  def test_everybody_sees_only_the_shared_part_of_kernels(self):
    for name in ("csrc/cuda/launch.c", "cli/command/run.c", "tests/cuda/launch_test.cc"):
      self.assert_refused(name, '#include "kernels/attention_sm80.cuh"\n', "kernels/attention_sm80.cuh")

  def test_library_does_not_look_at_tests(self):
    said = self.complaints(files={"tests/support/oracle.h": "",
                                  "csrc/launch.c": "#  include \"tests/support/oracle.h\"\n"})
    self.assertEqual(len(said), 1, said)

  def test_only_the_tests_of_the_bench_look_at_the_bench(self):
    bench = {"bench/problem/grid.h": "",
             "tests/bench/bench_test.cc": '#include "bench/problem/grid.h"\n'}
    self.assertEqual(self.complaints(files=bench), [])
    said = self.complaints(files={**bench, "tests/other_test.cc": '#include "bench/problem/grid.h"\n'})
    self.assertEqual(len(said), 1, said)

  def test_kernel_parts_and_arch_go_one_way(self):
    self.assert_refused("kernels/parts/mask.cuh", '#include "kernels/attention_sm80.cuh"\n',
                        "kernels/attention_sm80.cuh")
    self.assert_refused("kernels/arch/tma.cuh", '#include "kernels/parts/softmax.cuh"\n',
                        "kernels/parts/softmax.cuh")
    self.assert_refused("kernels/arch/tma.cuh", '#include "kernels/shared/shape.h"\n',
                        "kernels/shared/shape.h")

  def test_examples_have_only_the_public_header(self):
    self.assert_refused("examples/decode.c", '#include "csrc/plan.h"\n', "csrc/plan.h")
    said = self.complaints(files={"tests/package/consumer.c": '#include "csrc/plan.h"\n'})
    self.assertEqual(len(said), 1, said)

  def test_readers_of_files_know_nothing_of_attention(self):
    self.assert_refused("cli/files/npy.c", '#include "csrc/plan.h"\n', "csrc/plan.h")

  def test_software_gpu_depends_on_nothing_of_the_library(self):
    self.assert_refused("simgpu/driver/calls.c", "#include <fovea.h>\n", "include/fovea.h")

  def test_a_name_is_used_once_in_a_folder_but_for_a_source_and_its_header(self):
    self.assert_refused("csrc/cuda/plan.cc", "", "csrc/cuda/plan.c", "csrc/cuda/plan.h")
    self.assertEqual(self.complaints(files={"cli/plan.c": ""}), [])

  def test_a_name_means_one_thing(self):
    kinds = {"function": "static int fv_thing(int a) {\n  return a;\n}\n", "type": "struct fv_thing { int a; };\n",
             "enumerator": "enum { FV_OTHER = 1, fv_x, FV_THING };\n", "macro": "#define FV_THING(x) x\n"}
    for kind, text in kinds.items():
      with self.subTest(kind=kind):
        said = self.complaints(files={"csrc/cpu/a.h": text, "kernels/parts/b.cuh": text.replace("OTHER", "ONE")})
        self.assertEqual(len(said), 1, said)
        self.assertIn("csrc/cpu/a.h, kernels/parts/b.cuh", said[0])
    shared = '#define FV_ROW(x) x\n#undef FV_ROW\n/* struct fv_thing { */\nint fv_thing(int a);\nfv_call(fv_thing(1));\n'
    self.assertEqual(self.complaints(files={"csrc/cpu/a.h": shared, "csrc/cuda/a.h": shared}), [])
    table = '#include "csrc/cpu/loops.inc.h"\n#define FV_LANES 8\n'
    self.assertEqual(self.complaints(files={"csrc/cpu/loops.inc.h": "", "csrc/cpu/avx2.c": table,
                                            "csrc/cpu/avx512.c": table}), [])

  def test_a_guard_is_its_path(self):
    guard = "FOVEA_CSRC_CPU_TILE_H"
    good = f"#ifndef {guard}\n#define {guard}\nint a;\n#endif /* {guard} */\n"
    self.assertEqual(self.complaints(files={"csrc/cpu/tile.h": good}), [])
    self.assertEqual(self.complaints(files={"csrc/cpu/tile.h": good.replace("/* ", "// ").replace(" */", "")
                                            .replace("#endif ", "#endif  ")}), [])
    for text in (good.replace(guard, "FV_TILE_H"), good.replace("#define " + guard, "#define FV_TILE_H"),
                 good.replace(f"/* {guard} */", ""), good.replace("#endif /* " + guard, "#endif /* FV_TILE_H")):
      self.assert_refused("csrc/cpu/tile.h", text, guard)

  def test_a_line_has_100_columns(self):
    self.assert_refused("csrc/cpu/tile.c", "int a;" + " " * 94 + "b\n", ":1: 101 columns")
    self.assertEqual(self.complaints(files={"csrc/cpu/tile.c": "int a;" + " " * 93 + "b\n"}), [])

  def test_software_gpu_is_linked_into_nothing(self):
    self.assert_refused("CMakeLists.txt", "target_link_libraries(tests\n  PRIVATE simgpu)\n",
                        "links tests to simgpu")


if __name__ == "__main__":
  unittest.main()
