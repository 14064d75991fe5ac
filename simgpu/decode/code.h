/* code.h - decoded code: a kernel as an array of instructions whose operands are places in a
 * register file.
 *
 * A register file is a structure of arrays: every register, constant and special register is a slot
 * of 32 lanes (64, 128 or 256 bytes); a predicate is one u32 of 32 bits. An operand is a byte
 * offset. */
#ifndef SIM_CODE_H
#define SIM_CODE_H

#include "simgpu/base.h"

struct sim_warp;
struct sim_inst;
struct sim_syntax;
struct sim_module;

typedef void (*sim_handler)(struct sim_warp *warp, const struct sim_inst *inst, u32 mask);

enum sim_flow {
  SIM_FLOW_NEXT,
  SIM_FLOW_BRANCH,
  SIM_FLOW_INDEXED, /* brx.idx */
  SIM_FLOW_EXIT,
  SIM_FLOW_BARRIER, /* may block: the scheduler asks sim_barrier_arrive */
  SIM_FLOW_TRAP,
};

/* Which lanes must stand at an instruction together before it can run. */
enum sim_convergence { SIM_CONVERGE_NONE, SIM_CONVERGE_ALIGNED, SIM_CONVERGE_MEMBERS };

enum sim_space {
  SIM_SPACE_GENERIC,
  SIM_SPACE_GLOBAL,
  SIM_SPACE_SHARED,
  SIM_SPACE_LOCAL,
  SIM_SPACE_PARAM,
};

/* The classes that a profile counts. */
enum sim_class {
  SIM_CLASS_INTEGER,
  SIM_CLASS_FLOAT,
  SIM_CLASS_HALF,
  SIM_CLASS_CONVERT,
  SIM_CLASS_MOVE,
  SIM_CLASS_PREDICATE,
  SIM_CLASS_MEMORY,
  SIM_CLASS_ATOMIC,
  SIM_CLASS_MATRIX,
  SIM_CLASS_ASYNC,
  SIM_CLASS_WARP,
  SIM_CLASS_BARRIER,
  SIM_CLASS_CONTROL,
  SIM_CLASS_COUNT,
};

enum sim_scope { SIM_SCOPE_NONE, SIM_SCOPE_CTA, SIM_SCOPE_CLUSTER, SIM_SCOPE_GPU, SIM_SCOPE_SYS };

enum { SIM_MAX_SLOTS = 20 }; /* mma with the most registers has 14 */

struct sim_inst {
  sim_handler run;
  u32 slot[SIM_MAX_SLOTS];
  u8 stride[SIM_MAX_SLOTS]; /* bytes per lane of the register behind each slot, 0 for none */
  u32 guard_slot;
  bool is_guarded, guard_negated;
  u8 flow, convergence, members; /* members: which slot holds the mask of SIM_CONVERGE_MEMBERS */
  u8 instruction_class;
  u8 space, element_bytes, element_count;
  bool is_signed, is_strong, is_acquire, is_release, is_uniform;
  bool
      orders_lanes; /* bar.warp.sync: what the members did to memory before it, all see behind it */
  u8 scope, variant;
  u64 immediate; /* the constant part of an address, or what a form's decoder put there */
  u32 target;
  const u32 *targets;
  u32 target_count;
  u32 ptx_line, location;
  const char *opcode;
};

enum sim_special {
  SIM_TID_X,
  SIM_TID_Y,
  SIM_TID_Z,
  SIM_NTID_X,
  SIM_NTID_Y,
  SIM_NTID_Z,
  SIM_CTAID_X,
  SIM_CTAID_Y,
  SIM_CTAID_Z,
  SIM_NCTAID_X,
  SIM_NCTAID_Y,
  SIM_NCTAID_Z,
  SIM_LANEID,
  SIM_WARPID,
  SIM_NWARPID,
  SIM_SMID,
  SIM_NSMID,
  SIM_LANEMASK_EQ,
  SIM_LANEMASK_LE,
  SIM_LANEMASK_LT,
  SIM_LANEMASK_GE,
  SIM_LANEMASK_GT,
  SIM_GRIDID,
  SIM_CLOCK,
  SIM_CLOCK64,
  SIM_GLOBALTIMER,
  SIM_DYNAMIC_SMEM_SIZE,
  SIM_TOTAL_SMEM_SIZE,
  SIM_SPECIAL_COUNT,
};

struct sim_special_slot {
  enum sim_special special;
  u32 slot;
};

struct sim_kernel {
  const char *name;
  struct sim_module *module;
  struct sim_inst *code;
  u32 code_count, code_capacity;
  u32 file_bytes; /* of one warp's register file */
  u8 *constants;  /* copied to the start of every register file */
  u32 constant_bytes;
  struct sim_special_slot specials[SIM_SPECIAL_COUNT];
  u32 special_count;
  u32 static_shared_bytes, dynamic_shared_offset, local_bytes, param_bytes;
  u32 param_count;
  struct {
    u32 offset, bytes;
  } * params;
  u32 max_threads;
  u32 required_threads[3];
  u32 max_dynamic_shared_bytes; /* raised by cuKernelSetAttribute */
  bool waits_for_grid;          /* holds griddepcontrol.wait */
  struct sim_kernel *next;
};

/* Shared memory begins at 1024, as on devices of compute capability 8.0 and later, where the system
 * keeps the first KB: an address near 0 is a mistake. */
enum { SIM_SHARED_START = 1024 };

#define SIM_WINDOW_SHIFT 40
#define SIM_SHARED_WINDOW (1ull << SIM_WINDOW_SHIFT)
#define SIM_LOCAL_WINDOW (2ull << SIM_WINDOW_SHIFT)
#define SIM_PARAM_WINDOW (3ull << SIM_WINDOW_SHIFT)
#define SIM_WINDOW_MASK (SIM_SHARED_WINDOW - 1)

#endif
