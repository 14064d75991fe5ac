#!/usr/bin/env python3
"""scripts/machine-code on listings made by hand, whose counts can be seen. It needs no CUDA.

A listing here has labels in place of addresses: list_kernel writes what cuobjdump would.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import machine_bars  # noqa: E402
from machine_listing import (Unreadable, Wanted, cut_fatbins, read_kernels, read_listing,  # noqa: E402
                             read_registers)
from machine_loops import KINDS, count, count_bytes, find_loops, name_loops  # noqa: E402

SCRIPT = ROOT / "scripts/machine-code"
CONTROL = " " * 98 + "/* 0x000fe400078e00ff */"  # the second half of each instruction, in numbers

# 15 instructions a turn, 2 of them products.
PLAIN = """
        MOV R1, c[0x0][0x28]
        ISETP.GE.AND P0, PT, R2, R3, PT
turn:   LDSM.16.M88.4 R4, [R8]
        LDGSTS.E.BYPASS.LTC128B.128 [R9], [R10.64]
        HMMA.16816.F32 R12, R4, R6, R12
        HMMA.16816.F32 R16, R4, R6, R16
        FFMA R20, R12, R21, R22
        IMAD.MOV.U32 R23, RZ, RZ, R24
        IADD3 R2, R2, 0x1, RZ
        MUFU.EX2 R25, R20
        FMNMX R26, R12, R26, !PT
        F2FP.PACK_AB R27, R25, R26
        LDS.64 R28, [R30]
        SHFL.BFLY PT, R31, R26, 0x1, 0x1f
        BAR.SYNC 0x0
        ISETP.GE.AND P0, PT, R2, R3, PT
        @!P0 BRA turn
        EXIT
"""


def list_kernel(source, name="kernel", architecture="sm_80"):
  """The listing of a source with labels: 16 bytes an instruction, a label is its address."""
  lines, places = [], {}
  for line in filter(str.strip, source.splitlines()):
    label, instruction = re.fullmatch(r"(?:(\w+):)?\s*(.*)", line.strip()).groups()
    if label:
      places[label] = 16 * len(lines)
    lines.append(instruction)
  text = [f"\tcode for {architecture}", f"\t\tFunction : {name}", '\t.headerflags\t@"EF_CUDA_SM80"']
  for number, instruction in enumerate(lines):
    last = instruction.split()[-1]
    if last in places:
      instruction = instruction[:-len(last)] + f"{places[last]:#x}"
    text += [f"        /*{16 * number:04x}*/ {'':18}{instruction} ;   /* 0x00000a00ff017624 */", CONTROL]
  return "\n".join([*text, "\t\t..........", "", ""])


def analyse(source):
  kernel, = read_listing(list_kernel(source).splitlines())
  return find_loops(kernel)


def only_loop(source):
  loop, = analyse(source).loops
  return loop


class HotPath(unittest.TestCase):
  def assert_counts(self, loop, instructions, off, **kinds):
    self.assertEqual((len(loop.path), loop.size - len(loop.path)), (instructions, off))
    self.assertEqual({kind: count(loop)[kind] for kind in kinds}, kinds)

  def test_of_a_plain_loop_is_the_loop(self):
    loop = only_loop(PLAIN)
    self.assert_counts(loop, 15, 0, products=2, ldmatrix=1, copies=1, fp32=1, imad=1, integer=2, exp=1, max=1,
                       pack=1, shared=1, shuffles=1, sync=1, branch=1)
    self.assertEqual((loop.header, loop.latch, loop.depth), (0x20, 0x100, 0))

  def test_counts_each_instruction_once(self):
    loop = only_loop(PLAIN)
    self.assertEqual(sum(count(loop)[kind] for kind in KINDS), len(loop.path))

  def test_leaves_out_a_rare_branch_behind_the_end(self):
    loop = only_loop("""
turn:   HMMA.16816.F32 R12, R4, R6, R12
        @P1 BRA rare
back:   IADD3 R2, R2, 0x1, RZ
        @!P0 BRA turn
        EXIT
rare:   MOV R1, R2
        MOV R3, R4
        BRA back
""")
    self.assert_counts(loop, 4, 3, products=1, integer=1, branch=2)

  def test_leaves_out_a_rescale_that_can_be_skipped(self):
    loop = only_loop("""
turn:   HMMA.16816.F32 R12, R4, R6, R12
        @P1 BRA skip
        FMUL R12, R12, R20
        FMUL R13, R13, R20
        FMUL R14, R14, R20
skip:   @!P0 BRA turn
        EXIT
""")
    self.assert_counts(loop, 3, 3, products=1, fp32=0)

  def test_takes_copies_before_a_shorter_way(self):
    loop = only_loop("""
turn:   HMMA.16816.F32 R12, R4, R6, R12
        @P1 BRA skip
        IADD3 R2, R2, 0x1, RZ
        LDGSTS.E.128 [R9], [R10.64]
skip:   @!P0 BRA turn
        EXIT
""")
    self.assert_counts(loop, 5, 0, copies=1)

  def test_takes_products_before_copies(self):
    loop = only_loop("""
turn:   @P1 BRA other
        HMMA.16816.F32 R12, R4, R6, R12
        HMMA.16816.F32 R12, R4, R6, R12
        BRA end
other:  HMMA.16816.F32 R12, R4, R6, R12
        LDGSTS.E.128 [R9], [R10.64]
end:    @!P0 BRA turn
        EXIT
""")
    self.assert_counts(loop, 5, 2, products=2, copies=0)

  def test_takes_the_better_of_two_ways_back(self):
    loop = only_loop("""
turn:   HMMA.16816.F32 R12, R4, R6, R12
        @P1 BRA turn
        HMMA.16816.F32 R12, R4, R6, R12
        @!P0 BRA turn
        EXIT
""")
    self.assert_counts(loop, 4, 0, products=2)
    self.assertEqual(loop.latch, 0x30)

  def test_passes_an_inner_loop_in_one_turn(self):
    loop = only_loop("""
turn:   HMMA.16816.F32 R12, R4, R6, R12
copy:   LDGSTS.E.128 [R9], [R10.64]
        IADD3 R9, R9, 0x10, RZ
        @P1 BRA copy
        @!P0 BRA turn
        EXIT
""")
    self.assert_counts(loop, 5, 0, copies=1)
    self.assertEqual((loop.inner, loop.innermost), (1, True))

  def test_passes_an_inner_loop_that_asks_first_in_one_turn(self):
    """Of the way through the inner loop's header alone, no copy would be counted."""
    loop = only_loop("""
turn:   HMMA.16816.F32 R12, R4, R6, R12
copy:   ISETP.GE.AND P1, PT, R2, R3, PT
        @P1 BRA end
        LDGSTS.E.128 [R9], [R10.64]
        BRA copy
end:    @!P0 BRA turn
        EXIT
""")
    self.assert_counts(loop, 6, 0, copies=1)

  def test_of_an_inner_loop_is_its_own(self):
    """Three deep: the innermost has a detour, and all loops round it leave that out."""
    found = analyse("""
out:    IADD3 R1, R1, 0x1, RZ
turn:   IADD3 R2, R2, 0x1, RZ
in:     HMMA.16816.F32 R12, R4, R6, R12
        @P2 BRA skip
        FMUL R12, R12, R20
skip:   @P3 BRA in
        @P1 BRA turn
        @!P0 BRA out
        EXIT
""")
    self.assertEqual([(len(loop.path), loop.size, loop.depth) for loop in found.loops],
                     [(3, 4, 2), (5, 6, 1), (7, 8, 0)])
    self.assertEqual(name_loops(found.loops), ["plain", "outer", "outer"])

  def test_passes_no_loop_twice_where_the_innermost_leaves_all(self):
    outer, = (loop for loop in analyse("""
out:    IADD3 R1, R1, 0x1, RZ
turn:   IADD3 R2, R2, 0x1, RZ
in:     HMMA.16816.F32 R12, R4, R6, R12
        @P2 BRA end
        @P3 BRA in
        @P1 BRA turn
end:    @!P0 BRA out
        EXIT
""").loops if loop.depth == 0)
    self.assert_counts(outer, 7, 0, products=1)

  def test_leaves_out_a_wait_that_repeats(self):
    loop = only_loop("""
turn:   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24
        SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R2], R3
        @P0 BRA past
wait:   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R2], R3
        @!P0 BRA wait
past:   UTMALDG.4D [UR8], [UR4]
        @P1 BRA turn
        EXIT
""")
    self.assert_counts(loop, 5, 2, products=1, copies=1, sync=1)

  def test_leaves_out_what_divergent_warps_do(self):
    """BRA.DIV and BRA.CONV ask without a predicate in front."""
    loop = only_loop("""
turn:   HMMA.16816.F32 R12, R4, R6, R12
        BRA.DIV ~URZ, apart
        VOTE.ALL P1, P1
back:   BRA.CONV ~URZ, past
        WARPSYNC 0xffffffff
past:   @!P0 BRA turn
        EXIT
apart:  MOV R55, 0x70
        SEL R52, RZ, 0x1, !P1
        BRA back
""")
    self.assert_counts(loop, 5, 4, products=1)


class Loops(unittest.TestCase):
  def test_a_kernel_without_a_loop_has_none(self):
    self.assertEqual(analyse("HMMA.16816.F32 R12, R4, R6, R12\nEXIT").loops, [])

  def test_a_loop_without_products_is_not_shown(self):
    self.assertEqual(analyse("turn: IADD3 R2, R2, 0x1, RZ\n@P0 BRA turn\nEXIT").loops, [])

  def test_code_that_cannot_be_reached_is_no_loop(self):
    self.assertEqual(analyse("""
        EXIT
turn:   HMMA.16816.F32 R12, R4, R6, R12
        @P0 BRA turn
end:    BRA end
""").loops, [])

  def test_a_jump_back_that_repeats_nothing_is_no_loop(self):
    self.assertEqual(analyse("""
        BRA late
early:  HMMA.16816.F32 R12, R4, R6, R12
        EXIT
late:   MOV R1, R2
        BRA early
""").loops, [])

  def test_a_loop_may_go_back_by_a_jump_forward(self):
    """The header lies behind the rest of its loop, and the edge that closes it leads to higher addresses."""
    loop = only_loop("""
        BRA turn
rest:   IADD3 R2, R2, 0x1, RZ
        BRA turn
turn:   HMMA.16816.F32 R12, R4, R6, R12
        @P0 BRA rest
        EXIT
""")
    self.assertEqual((loop.header, loop.latch, len(loop.path)), (0x30, 0x20, 4))

  def test_every_kind_of_condition_lets_the_way_on(self):
    for jump in ("@P0 BRA", "@!P6 BRA", "@UP0 BRA", "BRA P1,", "@!P2 BRA !P1,", "BRA.U UP0,"):
      self.assertEqual(len(analyse(f"turn: HMMA.16816.F32 R1, R2, R3, R4\n{jump} turn\n"
                                   "next: HMMA.16816.F32 R1, R2, R3, R4\n@P0 BRA next\nEXIT").loops), 2, jump)

  def test_a_jump_without_condition_does_not(self):
    for jump in ("BRA", "@PT BRA"):
      self.assertEqual(len(analyse(f"turn: HMMA.16816.F32 R1, R2, R3, R4\n{jump} turn\n"
                                   "next: HMMA.16816.F32 R1, R2, R3, R4\n@P0 BRA next\nEXIT").loops), 1, jump)

  def test_a_jump_that_is_never_taken_closes_nothing(self):
    self.assertEqual(analyse("turn: HMMA.16816.F32 R1, R2, R3, R4\n@!PT BRA turn\nEXIT").loops, [])

  def test_an_exit_with_a_condition_lets_the_way_on(self):
    self.assertEqual(len(analyse("turn: HMMA.16816.F32 R1, R2, R3, R4\n@P0 EXIT\nBRA turn").loops), 1)

  def test_a_call_returns_or_is_a_jump(self):
    """ptxas leaves a loop by a call of what follows it; a function that returns is passed."""
    found = analyse("""
turn:   HMMA.16816.F32 R12, R4, R6, R12
        CALL.REL.NOINC divide
        @P0 CALL.REL.NOINC after
        BRA turn
after:  IADD3 R2, R2, 0x1, RZ
next:   HMMA.16816.F32 R12, R4, R6, R12
        @P0 BRA next
        EXIT
divide: MUFU.RCP R1, R2
        RET.REL.NODEC R20 0x0
""")
    self.assertEqual([(loop.header, len(loop.path)) for loop in found.loops], [(0x50, 2), (0x00, 4)])

  def test_two_entries_and_jumps_by_register_are_told(self):
    found = analyse("""
        @P0 BRA second
first:  HMMA.16816.F32 R12, R4, R6, R12
second: HMMA.16816.F32 R12, R4, R6, R12
        @P1 BRA first
        BRX R2 -0x40
""")
    self.assertEqual((found.loops, found.strange, found.indirect), ([], 1, 1))

  def test_two_entries_within_a_loop_do_not_hide_it(self):
    """What they repeat, the first product, is not counted."""
    found = analyse("""
turn:   @P0 BRA second
first:  HMMA.16816.F32 R12, R4, R6, R12
second: HMMA.16816.F32 R12, R4, R6, R12
        @P1 BRA first
        @P2 BRA turn
        EXIT
""")
    self.assertEqual([count(loop)["products"] for loop in found.loops], [1])
    self.assertEqual(found.strange, 1)

  def test_are_named_by_products_and_then_by_instructions(self):
    product = "HMMA.16816.F32 R12, R4, R6, R12\n"
    found = analyse(f"narrow: {product}@P0 BRA narrow\n"
                    f"masked: {product}{product}SEL R1, R2, R3, P0\nSEL R1, R2, R3, P0\n@P0 BRA masked\n"
                    f"plain: {product}{product}@P0 BRA plain\nEXIT")
    self.assertEqual(list(zip(name_loops(found.loops), (len(loop.path) for loop in found.loops))),
                     [("plain", 3), ("masked", 5), ("narrow", 2)])

  def test_with_most_products_may_be_round_the_plain_one(self):
    found = analyse("""
out:    HMMA.16816.F32 R12, R4, R6, R12
turn:   HMMA.16816.F32 R12, R4, R6, R12
        @P1 BRA turn
        @P0 BRA out
        EXIT
""")
    self.assertEqual(name_loops(found.loops), ["outer", "plain"])


class Bytes(unittest.TestCase):
  def bytes_of(self, *loads):
    lines = "\n".join(f"{load} R1, [R2.64]" for load in loads)
    return count_bytes(only_loop(f"turn: HMMA.16816.F32 R1, R2, R3, R4\n{lines}\n@P0 BRA turn\nEXIT"))

  def test_are_those_of_the_width_and_not_of_the_hint(self):
    self.assertEqual(self.bytes_of("LDGSTS.E.BYPASS.128", "LDGSTS.E.LTC128B.64", "@P1 LDGSTS.E.LTC128B"),
                     (16 + 8 + 4, 0))

  def test_loaded_to_registers_are_counted_apart(self):
    self.assertEqual(self.bytes_of("LDG.E.128.CONSTANT", "LDG.E.U16", "LDG.E.S8", "LD.E.64", "LDG.E"),
                     (0, 16 + 2 + 1 + 8 + 4))

  def test_of_bulk_copies_are_not_known(self):
    self.assertEqual(self.bytes_of("UBLKCP.S.G", "LDG.E.128"), (None, 16))


class Listing(unittest.TestCase):
  def refused(self, text, *words):
    with self.assertRaises(Unreadable) as caught:
      for kernel in read_listing(text.splitlines()):
        find_loops(kernel)
    for word in words:
      self.assertIn(word, str(caught.exception))

  def test_that_is_cut_anywhere_is_refused(self):
    lines = list_kernel(PLAIN).splitlines()
    for length in range(2, len(lines) - 2):
      self.refused("\n".join(lines[:length]), "kernel", "ends early")

  def test_that_is_cut_before_another_kernel_is_refused(self):
    lines = list_kernel(PLAIN).splitlines()
    self.refused("\n".join(lines[:9] + list_kernel(PLAIN, "other").splitlines()),
                 "kernel", "ends early", "line 11")

  def test_with_a_line_missing_is_refused(self):
    self.refused(re.sub(r".*/\*0040\*/.*\n", "", list_kernel(PLAIN)), "after 0x30 comes 0x50")

  def test_with_half_an_instruction_is_refused(self):
    self.refused(re.sub(r"(/\*0040\*/ +HMMA).*", r"\1", list_kernel(PLAIN)), "line 12", "HMMA")

  def test_without_instructions_is_refused(self):
    self.refused("\t\tFunction : empty\n\t\t.....\n\t\t..........\n", "empty", "no instructions")

  def test_that_jumps_out_of_itself_is_refused(self):
    self.refused(list_kernel("HMMA.16816.F32 R1, R2, R3, R4\n@P0 BRA 0x7770\nEXIT"), "0x7770", "not listed")

  def test_is_searched_by_name_and_architecture(self):
    lines = [line for kernel in (("one",), ("two",), ("one", "sm_90"))
             for line in list_kernel(PLAIN, *kernel).splitlines()]
    found = lambda *wanted: [(k.name, k.architecture) for k in read_listing(lines, Wanted(*wanted))]
    self.assertEqual(found(), [("one", "sm_80"), ("two", "sm_80"), ("one", "sm_90")])
    self.assertEqual(found("on"), [("one", "sm_80"), ("one", "sm_90")])
    self.assertEqual(found("", ("sm_90",)), [("one", "sm_90")])

  def test_registers_are_read_by_kernel_and_architecture(self):
    text = "".join(f"arch = {architecture}\nResource usage:\n Function kernel:\n  REG:{number} STACK:0 SHARED:0\n"
                   for architecture, number in (("sm_80", 168), ("sm_90", 255)))
    self.assertEqual(read_registers(text), {("kernel", "sm_80"): 168, ("kernel", "sm_90"): 255})

  def test_fatbins_are_cut_from_data_whole(self):
    magic = b"\x50\xed\x55\xba"
    image = magic + b"\x01\x00" + b"\x10\x00" + (5).to_bytes(8, "little") + b"abcde"
    data = b"xy" + image + magic + b"z" * 30 + image + image[:-1]
    self.assertEqual(list(cut_fatbins(data)), [image, image])


class Bars(unittest.TestCase):
  ROW = {"dim": "128", "dim_v": "128", "tile_q": "64", "tile_kv": "64", "warps": "4", "stages": "2",
         "kv_bytes": "2"}

  def faults(self, instructions=7.5, ldmatrix=0.5, warps=8, loop="plain", registers=255):
    kernel, = read_listing(list_kernel(PLAIN).splitlines())
    bar = machine_bars.Bar("kernel", "sm_80", loop, instructions, ldmatrix, warps)
    return list(machine_bars.bar_faults(kernel._replace(registers=registers), bar, {"kernel": self.ROW}))

  def test_that_are_reached_are_kept(self):
    self.assertEqual(self.faults(), [])

  def test_each_can_be_exceeded(self):
    for low, word in (({"instructions": 7.49}, "7.500 instructions"), ({"ldmatrix": 0.49}, "0.500 ldmatrix"),
                      ({"warps": 9}, "8 warps"), ({"loop": "narrow"}, "no narrow loop")):
      fault, = self.faults(**low)
      self.assertIn(word, fault)

  def test_more_registers_leave_fewer_warps(self):
    """A warp of n registers a thread takes 32 n, in units of 256; a quarter has 16384."""
    for registers, warps in ((255, 8), (168, 12), (169, 8), (128, 16), (64, 32), (32, 64), (16, 64)):
      self.assertEqual(machine_bars.warps_by_registers(registers), warps, registers)

  def test_shared_memory_bounds_the_warps_too(self):
    """82,816 bytes and 1 KB for each CTA: 2 CTAs in 228 KB; 2 in 164 KB, which is 167,936 bytes."""
    self.assertEqual(machine_bars.shared_bytes(self.ROW), 82816)
    self.assertEqual(machine_bars.shared_bytes(dict(self.ROW, stages="1", kv_bytes="1")), 73600)
    self.assertEqual(machine_bars.resident_warps(32, self.ROW, "sm_80"), 8)
    nearly = {**self.ROW, "tile_q": "68"}  # 83,840 bytes: without the 1 KB each, two would fit
    self.assertEqual(machine_bars.resident_warps(32, nearly, "sm_80"), 4)
    wide = {**self.ROW, "dim": "256", "dim_v": "256", "tile_kv": "32"}
    self.assertEqual([machine_bars.resident_warps(255, wide, one) for one in ("sm_80", "sm_90", "sm_90a")],
                     [4, 8, 8])

  def test_rows_have_the_columns_that_the_table_names(self):
    row = machine_bars.read_rows()["fovea_attention_fwd_sm80_bf16_d192_d128"]
    self.assertEqual((row["dtype"], row["dim"], row["dim_v"], row["general"]), ("BF16", "192", "128", "0"))

  def test_a_new_bar_is_a_little_above_what_there_is(self):
    kernel, = read_listing(list_kernel(PLAIN).splitlines())
    kernel = kernel._replace(registers=168)
    self.assertEqual(machine_bars.set_bar(kernel, self.ROW, "plain"),
                     ("kernel", "sm_80", "plain", 7.88, 0.53, 8))
    self.assertIsNone(machine_bars.set_bar(kernel, self.ROW, "narrow"))

  def test_of_several_loops_the_worst_counts(self):
    product = "HMMA.16816.F32 R12, R4, R6, R12\n"
    narrow = f"one: {product}FMUL R1, R2, R3\n@P0 BRA one\ntwo: {product}@P0 BRA two\n"
    kernel, = read_listing(list_kernel(f"{narrow}wide: {product}{product}@P0 BRA wide\nEXIT").splitlines())
    bar = machine_bars.set_bar(kernel._replace(registers=168), self.ROW, "narrow")
    self.assertEqual(bar.instructions, 3.15)
    fault, = machine_bars.bar_faults(kernel, bar._replace(instructions=2.99), {})
    self.assertIn("3.000 instructions", fault)

  def test_that_are_renewed_keep_their_loops_and_those_of_others(self):
    kernel, = read_listing(list_kernel(PLAIN).splitlines())
    bar = lambda *name: machine_bars.Bar(*name, 1.0, 1.0, 4)
    table = machine_bars.Bars("13.0", [bar("kernel", "sm_80", "plain"), bar("gone", "sm_80", "plain"),
                                       bar("kernel", "sm_90", "narrow"), bar("first", "sm_80", "plain")])
    renewed = machine_bars.renew_bars(table, [kernel._replace(registers=168)],
                                      {"first": self.ROW, "kernel": self.ROW})
    self.assertEqual([bar[:4] for bar in renewed],
                     [("first", "sm_80", "plain", 1.0), ("kernel", "sm_80", "plain", 7.88),
                      ("kernel", "sm_90", "narrow", 1.0)])


class Table(unittest.TestCase):
  def setUp(self):
    self.folder = tempfile.TemporaryDirectory()
    self.addCleanup(self.folder.cleanup)

  def write(self, name, text):
    path = pathlib.Path(self.folder.name, name)
    path.write_text(text)
    return path

  def test_is_read_with_its_compiler(self):
    table = machine_bars.read_bars(self.write("bars", "# why\nnvcc 13.0\nkernel sm_80 plain 7.5 0.5 8  # so\n"))
    self.assertEqual(table, ("13.0", [("kernel", "sm_80", "plain", 7.5, 0.5, 8)]))

  def test_that_is_wrong_is_refused_by_line(self):
    bar = "kernel sm_80 plain 7.5 0.5 8\n"
    for text, word in (("\nkernel sm_80 plain 7.5\n", "line 2"), (bar.replace("7.5", "x"), "line 1"),
                       (bar + bar, "second")):
      with self.assertRaisesRegex(Unreadable, word):
        machine_bars.read_bars(self.write("bars", text))

  def test_is_written_anew_under_its_comments(self):
    path = self.write("bars", "# why\n\nnvcc 13.0\nold sm_80 plain 7.5 0.5 8\n")
    bar = machine_bars.Bar("kernel", "sm_90", "plain", 7.88, 0.53, 12)
    machine_bars.write_bars(path, [bar])
    self.assertTrue(path.read_text().startswith("# why\n\nnvcc 13.0\nkernel "))
    self.assertEqual(machine_bars.read_bars(path), ("13.0", [bar]))


class Program(Table):
  def run_script(self, *words, status=0):
    done = subprocess.run([sys.executable, "-B", SCRIPT, *words], capture_output=True, text=True, check=False)
    self.assertEqual(done.returncode, status, done.stdout + done.stderr)
    self.assertNotIn("Traceback", done.stderr)
    return done.stdout + done.stderr

  def listing(self, text=None):
    return self.write("kernel.sass", list_kernel(PLAIN) if text is None else text)

  def test_prints_what_there_is_per_product(self):
    said = self.run_script(self.listing())
    for words in ("15 instructions (0 off the hot path), 2 HMMA.16816.F32", "per product: all 7.50",
                  "ldmatrix 0.50", "16 bytes copied and 0 loaded",
                  "15.00 instructions per 16 bytes, 30.0 per KiB of a warp"):
      self.assertIn(words, said)

  def test_prints_per_element_where_it_is_asked_to(self):
    self.assertIn("per element: all 0.50", self.run_script(self.listing(), "--elements", "30"))
    self.run_script(self.listing(), "--elements", "0", status=2)

  def test_prints_json(self):
    kernel, = json.loads(self.run_script(self.listing(), "--json"))
    loop, = kernel["loops"]
    self.assertEqual((kernel["architecture"], kernel["registers"]), ("sm_80", None))
    self.assertEqual((loop["name"], loop["instructions"], loop["per"]["all"]), ("plain", 15, 7.5))

  def test_says_that_there_is_no_loop(self):
    self.assertIn("no loop with matrix products", self.run_script(self.listing(list_kernel("EXIT"))))

  def test_judges_by_bars(self):
    for most, status, words in (("7.50", 0, "all kept"), ("7.49", 1, "7.500 instructions per product")):
      bars = self.write("bars", f"nvcc 13.0\nkernel sm_80 plain {most} 0.5 8\n")
      self.assertIn(words, self.run_script(self.listing(), "--bars", bars, status=status))
    self.assertIn("no bar", self.run_script(self.listing(), "--judge", status=2))
    self.assertIn("No such file", self.run_script(self.listing(), "--bars", "/nowhere", status=2))

  def test_refuses_what_it_cannot_read(self):
    for text, words in (("rubbish\n", "neither a fatbin"), ("", "neither a fatbin"),
                        ("Function : f\n", "ends early"), (list_kernel("BRA 0x990\n"), "not listed")):
      self.assertIn(words, self.run_script(self.listing(text), status=2))
    self.assertIn("No such file", self.run_script("/nowhere", status=2))
    self.assertIn("none of that name", self.run_script(self.listing(), "--function", "other", status=2))
    self.run_script(self.listing(), "--function", "(", status=2)

  def test_explains_itself(self):
    said = self.run_script("--help")
    for word in ("--judge", "hot path", "plain", "narrow", "Exit status"):
      self.assertIn(word, said)


if __name__ == "__main__":
  unittest.main()
