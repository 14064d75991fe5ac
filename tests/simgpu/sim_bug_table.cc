// The planted bugs. Those of `kind` "numbers" are legal programs that compute something else. No
// checker can tell; only a comparison of results can.
#include "tests/simgpu/sim_bug.h"

namespace simgpu {

#define HALF_WARP(instruction)                                                             \
  "{ .reg .pred half; .reg .u32 lane; mov.u32 lane, %laneid; setp.lt.u32 half, lane, 16; " \
  "@half " instruction " }"

const std::vector<Bug> &planted_bugs() {
  static const std::vector<Bug> bugs = {
      // Attention on tiles: shared memory and copies.
      {"no barrier after the wait", "attend", "bar.sync\\s+0;", 0, "", "shared-race"},
      {"no barrier at the end of the loop", "attend", "bar.sync\\s+0;", 1, "", "shared-race"},
      {"waits for one group too few", "attend", "wait_group 1;", 0, "wait_group 2;", "in-flight"},
      {"no wait at all", "attend", "cp.async.wait_group 1;", 0, "", "in-flight"},
      {"no commit in the loop", "attend", "cp.async.commit_group;", 1, "", "in-flight"},
      {"half of a warp waits", "attend", "cp.async.wait_group 1;", 0,
       HALF_WARP("cp.async.wait_group 1;"), "in-flight"},
      {"copies rows past the end", "attend", "(\\], 16), %r\\d+;", -1, "$1;", "out-of-bounds"},
      {"copies 8 bytes of 16", "attend",
       "cp.async.cg(\\S+ \\[%r\\d+\\], \\[%rd\\d+\\]), 16, %r\\d+;", 1, "cp.async.ca$1, 8;",
       "uninitialised-read"},
      {"copy to an address between two chunks", "attend",
       "(cp.async.cg.shared.global \\[%r\\d+)\\]", 1, "$1+8]", "misaligned"},
      {"shared memory one KB too small", "attend", "", 0, "", "out-of-bounds", "small"},
      {"barrier for three of four warps", "attend", "bar.sync\\s+0;", 0, "bar.sync 0, 96;",
       "barrier"},
      {"barrier for half of a warp", "attend", "bar.sync\\s+0;", 0, HALF_WARP("bar.sync 0;"),
       "divergence"},
      {"two barriers mixed up", "attend", "bar.sync\\s+0;", 0,
       "{ .reg .pred late; .reg .u32 t; mov.u32 t, %tid.x; setp.gt.u32 late, t, 63; @late bra L1; "
       "bar.sync 1; bra L2; L1: bar.sync 0; L2: }",
       "deadlock"},
      {"one row of the result too many", "attend", "setp.ge.s32", 0, "setp.gt.s32",
       "out-of-bounds"},
      {"row bound of the result dropped", "attend", "setp.ge.s32", -1, "setp.gt.s32",
       "out-of-bounds"},
      {"result stored 4 bytes off", "attend", "st.global.v2.f32 \t?\\[%rd\\d+\\+32\\]", 0,
       "st.global.v2.f32 [%rd1+36]", "misaligned"},
      {"ldmatrix between two rows", "attend", "(ldmatrix\\S+ \\{[^}]*\\}, \\[%r\\d+)\\]", 0,
       "$1+8]", "misaligned"},
      {"values not transposed", "attend", "x4.trans", -1, "x4", "numbers"},
      {"scores scaled by a half", "attend", "0f3E000000", -1, "0f3F000000", "numbers"},
      {"keys past the end count", "attend", "setp.lt.s32(\\s+%p6\\d)", -1, "setp.ne.s32$1",
       "numbers"},
      {"result also written by the CTA before", "attend", "mov.u32(\\s+%r\\d+), %ctaid.x;", -1,
       "{ .reg .u32 c; mov.u32 c, %ctaid.x; min.u32 $1, c, 0; }", "global-race"},
      {"barrier of a number for some warps", "attend", "bar.sync\\s+0;", 1,
       "{ .reg .pred low; .reg .u32 t; mov.u32 t, %tid.x; setp.lt.u32 low, t, 32; @low bra L1; "
       "bar.sync 0; bra L2; L1: bar.sync 0, 128; L2: }",
       "barrier"},
      // A sum over CTAs.
      {"no barrier before the warps' sums are read", "split_sum", "bar.sync\\s+0;", 0, "",
       "shared-race"},
      {"no barrier after the arrival", "split_sum", "bar.sync\\s+0;", 1, "", "shared-race"},
      {"no fence before the arrival", "split_sum", "membar.gl;", 0, "", "global-race"},
      {"no fence after the arrival", "split_sum", "membar.gl;", 1, "", "global-race"},
      {"fences of the CTA only", "split_sum", "membar.gl;", -1, "membar.cta;", "global-race"},
      {"arrival of the CTA's scope", "split_sum", "atom.global.add", 0, "atom.cta.global.add",
       "global-race"},
      {"arrival without an atomic", "split_sum",
       "atom.global.add.u32\\s+(%r\\d+), (\\[%rd\\d+\\]), 1;", 0,
       "{ .reg .u32 t; ld.global.u32 $1, $2; add.u32 t, $1, 1; st.global.u32 $2, t; }",
       "global-race"},
      {"the first to come merges", "split_sum", "add.s32(\\s+%r\\d+, %r\\d+), -1;", 0,
       "add.s32$1, -8;", "global-race"},
      {"no partial sum", "split_sum", "st.global.f32\\s+\\[%rd\\d+\\], %f\\d+;", 0, "",
       "uninitialised-read"},
      {"one value too many", "split_sum", "setp.lt.s32", 0, "setp.le.s32", "out-of-bounds"},
      {"shuffle of 31 lanes", "split_sum", "mov.u32(\\s+%r\\d+), -1;", 0, "mov.u32$1, 0x7fffffff;",
       "divergence"},
      {"fence of the CTA before the arrival", "split_sum", "membar.gl;", 0, "membar.cta;",
       "global-race"},
      {"fence of the CTA after the arrival", "split_sum", "membar.gl;", 1, "membar.cta;",
       "global-race"},
      {"no fence at all", "split_sum", "membar.gl;", -1, "", "global-race"},
      {"partial sum stored after the arrival", "split_sum",
       "(st.global.f32\\s+\\[%rd\\d+\\], %f\\d+;)([^!]*?atom[^;]*;)", 0, "$2 $1", "global-race"},
      // Producer and consumers.
      {"box filled before it is empty", "hand_over", "bar.(sync|arrive) 2, 128;", -1, "",
       "shared-race"},
      {"box said to be full too early", "hand_over", "bar.arrive 1, 128;", 0, "bar.arrive 1, 96;",
       "barrier"},
      {"box never said to be full", "hand_over", "bar.arrive 1, 128;", 0, "", "deadlock"},
      {"waits at another barrier", "hand_over", "bar.sync 1, 128;", 0, "bar.sync 3, 128;",
       "deadlock"},
      {"box never said to be empty", "hand_over", "bar.arrive 2, 128;", 0, "", "deadlock"},
      {"nobody waits for the empty box", "hand_over", "bar.sync 2, 128;", -1, "", "barrier"},
      {"box too short", "hand_over", "(st.shared.f32\\s+\\[%r\\d+)(\\+\\d+)?\\]", 0, "$1+384]",
       "out-of-bounds"},
      {"lanes do not wait for each other", "rotate_lanes", "bar.warp.sync[^;]*;", 0, "",
       "shared-race"},
      // Dependent launches.
      {"does not wait for the launch before", "add_after", "griddepcontrol.wait;", 0, "",
       "early-dependent"},
      {"waits in half of the warps", "add_after", "griddepcontrol.wait;", 0,
       "{ .reg .pred low; .reg .u32 t; mov.u32 t, %tid.x; setp.lt.u32 low, t, 32; @low "
       "griddepcontrol.wait; }",
       "early-dependent"},
      {"waits in the first CTA only", "add_after", "griddepcontrol.wait;", 0,
       "{ .reg .pred low; .reg .u32 c; mov.u32 c, %ctaid.x; setp.eq.u32 low, c, 0; @low "
       "griddepcontrol.wait; }",
       "early-dependent"},
      {"waits after it has read", "add_after", "griddepcontrol.wait;([^!]*?ld.global[^;]*;)", 0,
       "$1 griddepcontrol.wait;", "early-dependent"},
      {"input freed before the launch", "add_after", "", 0, "", "use-after-free", "freed"},
      {"input never filled", "add_after", "", 0, "", "uninitialised-read", "unfilled"},
      {"a grid too large", "add_after", "", 0, "", "out-of-bounds", "large"},
      {"all CTAs work on the first part", "fill_both", "mov.u32(\\s+%r\\d+), %ctaid.x;", 0,
       "mov.u32$1, 0;", "global-race"},
      {"misaligned output", "add_after", "", 0, "", "misaligned", "crooked"},
  };
  return bugs;
}

}  // namespace simgpu
