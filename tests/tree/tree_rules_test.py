#!/usr/bin/env python3
"""Each rule of tree_rules.py, broken once in a small tree made for it."""
import pathlib
import tempfile
import unittest

import tree_rules

GOOD = {
  "include/fovea.h": "#include <stdint.h>\n",
  "csrc/fovea.c": '#include "fovea.h"\n#include "plan.h"\n#include "../kernels/shape.h"\n',
  "csrc/plan.h": '#include "../include/fovea.h"\n',
  "csrc/plan.c": '#include "plan.h"\n#include "kernel_rows.def"\n',
  "csrc/cpu/pool.c": '#include "../plan.h"\n',
  "kernels/shape.h": "",
  "kernels/kernel_rows.def": "",
  "kernels/attention_sm80.cuh": '#include "parts/softmax.cuh"\n',
  "kernels/parts/softmax.cuh": '#include "../arch/mma.cuh"\n',
  "kernels/arch/mma.cuh": "",
  "cli/main.c": '#include <jansson.h>\n#include "fovea.h"\n',
  "tests/plan_test.cc": '#include <gtest/gtest.h>\n#include "plan.h"\n',
  "examples/decode.c": "#include <fovea.h>\n",
  "CMakeLists.txt": "target_link_libraries(fovea PRIVATE m)\n",
}


class TreeRules(unittest.TestCase):
  def complaints(self, files):
    """What is said about the good tree with files added or replaced."""
    with tempfile.TemporaryDirectory() as folder:
      for name, text in {**GOOD, **files}.items():
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
      return tree_rules.broken_rules(folder)

  def assert_refused(self, name, text, *words):
    said = self.complaints(files={name: text})
    self.assertEqual(len(said), 1, said)
    for word in (name, *words):
      self.assertIn(word, said[0])

  def test_accepts_the_good_tree(self):
    self.assertEqual(self.complaints(files={}), [])

  def test_header_includes_nothing_of_ours(self):
    self.assert_refused("include/fovea.h", '#include "../csrc/plan.h"\n', "csrc/plan.h")

  def test_library_does_not_look_at_the_program(self):
    self.assert_refused("csrc/cpu/tile.c", '#include "../../cli/map.h"\n#include "plan.h"\n',
                        "not in the tree")
    said = self.complaints(files={"cli/map.h": "", "csrc/cpu/tile.c": '#include "map.h"\n'})
    self.assertEqual(said, ["csrc/cpu/tile.c includes cli/map.h: csrc/ may not look there"])

  def test_library_sees_only_the_shared_kernel_files(self):
    self.assert_refused("csrc/launch.c", '#include "../kernels/attention_sm80.cuh"\n',
                        "kernels/attention_sm80.cuh")

  def test_library_does_not_look_at_tests(self):
    said = self.complaints(files={"tests/support/oracle.h": "",
                                  "csrc/launch.c": "#  include \"../tests/support/oracle.h\"\n"})
    self.assertEqual(len(said), 1, said)

  def test_only_the_tests_of_the_bench_look_at_the_bench(self):
    bench = {"bench/bench_grid.h": "", "tests/bench/bench_test.cc": '#include "bench_grid.h"\n'}
    self.assertEqual(self.complaints(files=bench), [])
    said = self.complaints(files={**bench, "tests/other_test.cc": '#include "bench_grid.h"\n'})
    self.assertEqual(len(said), 1, said)

  def test_kernel_parts_and_arch_go_one_way(self):
    self.assert_refused("kernels/parts/mask.cuh", '#include "../attention_sm80.cuh"\n',
                        "kernels/attention_sm80.cuh")
    self.assert_refused("kernels/arch/tma.cuh", '#include "../parts/softmax.cuh"\n',
                        "kernels/parts/softmax.cuh")
    self.assert_refused("kernels/arch/tma.cuh", '#include "../shape.h"\n', "kernels/shape.h")

  def test_examples_have_only_the_public_header(self):
    self.assert_refused("examples/decode.c", '#include "../csrc/plan.h"\n', "csrc/plan.h")
    said = self.complaints(files={"tests/package/consumer.c": '#include "plan.h"\n'})
    self.assertEqual(len(said), 1, said)

  def test_software_gpu_depends_on_nothing_of_the_library(self):
    self.assert_refused("simgpu/driver_calls.c", '#include "../include/fovea.h"\n',
                        "include/fovea.h")

  def test_names_are_unique_but_for_a_source_and_its_header(self):
    self.assert_refused("cli/plan.cc", "", "csrc/plan.c", "csrc/plan.h")
    self.assert_refused("cli/pool.c", "", "csrc/cpu/pool.c")

  def test_software_gpu_is_linked_into_nothing(self):
    self.assert_refused("CMakeLists.txt", "target_link_libraries(tests\n  PRIVATE simgpu)\n",
                        "links tests to simgpu")


if __name__ == "__main__":
  unittest.main()
