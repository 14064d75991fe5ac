/* code.h - decoded code: a kernel is an array of instructions, each with a handler that executes it
 * for the lanes of a mask.
 *
 * A register file is a structure of arrays. Every register, constant and special register has a
 * slot: 32 lanes of 2, 4 or 8 bytes; a predicate's slot is one u32, a bit per lane. An operand is
 * the slot's byte offset in the register file, so a handler finds it with one addition.
 *
 * decode/ builds all of this when a module loads. The module owns it: instructions in an array of
 * the kernel, everything else in the module's pool. Nothing here changes while a kernel runs. */
#ifndef FOVEA_SIMGPU_DECODE_CODE_H
#define FOVEA_SIMGPU_DECODE_CODE_H

#include "simgpu/base.h"

struct sim_warp;
struct sim_inst;
struct sim_syntax;
struct sim_module;

/* Executes an instruction for the lanes of a mask that is not empty. */
typedef void (*sim_handler)(struct sim_warp *warp, const struct sim_inst *inst, u32 mask);

/* What the scheduler does with an instruction. All but SIM_FLOW_NEXT have no handler. */
enum sim_flow {
  SIM_FLOW_NEXT, /* calls the handler, then the next instruction */
  SIM_FLOW_BRANCH,
  SIM_FLOW_INDEXED, /* brx.idx */
  SIM_FLOW_EXIT,
  SIM_FLOW_BARRIER, /* may block: the scheduler asks sim_barrier_arrive */
  SIM_FLOW_TRAP,
};

/* Which lanes must have reached an instruction before it runs: any, all of the warp (.aligned), or
 * those of the member mask (.sync). */
enum sim_convergence { SIM_CONVERGE_NONE, SIM_CONVERGE_ALIGNED, SIM_CONVERGE_MEMBERS };

enum sim_space {
  SIM_SPACE_GENERIC,
  SIM_SPACE_GLOBAL,
  SIM_SPACE_SHARED,
  SIM_SPACE_LOCAL,
  SIM_SPACE_PARAM,
};

/* What kind of instruction it is: a profile counts by class. */
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

enum { SIM_MAX_SLOTS = 20 }; /* mma has up to 14 */

/* One instruction. What a handler's slots hold is said above the handler. */
struct sim_inst {
  sim_handler run;
  u32 slot[SIM_MAX_SLOTS];
  u8 stride[SIM_MAX_SLOTS]; /* bytes per lane of the register in each slot, 0 where unused */
  u32 guard_slot;
  bool is_guarded, guard_negated;
  u8 flow, convergence, members; /* members: which slot holds the mask of SIM_CONVERGE_MEMBERS */
  u8 instruction_class;
  u8 space, element_bytes, element_count; /* of a vector; element_bytes is the size in memory */
  bool is_signed, is_strong, is_acquire, is_release;
  bool is_uniform;   /* depends on the form: see its decoder */
  bool orders_lanes; /* bar.warp.sync: memory accesses before it precede those after it */
  u8 scope, variant;
  u64 immediate;      /* the constant part of an address, or what a form's decoder put there */
  u32 target;         /* of a branch: index in the code */
  const u32 *targets; /* of brx.idx: indices in the code. cp.async: see memory/copy.c */
  u32 target_count;
  u32 ptx_line, location;
  const char *opcode; /* as written, for reports */
};

/* PTX ISA, "Special Registers". */
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

/* A special register that the kernel reads: filled in when a warp starts (sched/cta.c). */
struct sim_special_slot {
  enum sim_special special;
  u32 slot;
};

/* What is wrong with a kernel, once for each text. Owned by the module's pool. */
struct sim_refusal {
  const char *text;
  u32 ptx_line, location; /* of the first */
  u32 count;
  struct sim_refusal *next;
};

/* What cuModuleGetFunction returns: a function with .entry, with all that it calls expanded. */
struct sim_kernel {
  const char *name;
  struct sim_module *module;
  struct sim_inst *code;
  u32 code_count, code_capacity;
  u32 file_bytes; /* of a warp's register file */
  u8 *constants;  /* an initial register file: zeros, and the slots of constants */
  struct sim_special_slot specials[SIM_SPECIAL_COUNT];
  u32 special_count;
  u32 static_shared_bytes, dynamic_shared_offset; /* the offset is an address of shared memory */
  u32 local_bytes, param_bytes;                   /* local_bytes: per lane */
  u32 param_count;
  struct {
    u32 offset, bytes;
  } * params;
  u32 max_threads;              /* .maxntid, or 0 */
  u32 required_threads[3];      /* .reqntid, or 0 */
  u32 max_dynamic_shared_bytes; /* raised by cuKernelSetAttribute */
  struct sim_refusal *refusals;
  struct sim_kernel *next;
};

/* The first address of shared memory. Devices of compute capability 8.0 and later keep the first KB
 * for the system; an access near address 0 is a mistake here as there. */
enum { SIM_SHARED_START = 1024 };

/* The generic address space (PTX ISA, "Generic Addressing"): bits 40 and up name the window. 0 is
 * global memory; shared, local and parameter memory have a window each. */
#define SIM_WINDOW_SHIFT 40
#define SIM_SHARED_WINDOW (1ull << SIM_WINDOW_SHIFT)
#define SIM_LOCAL_WINDOW (2ull << SIM_WINDOW_SHIFT)
#define SIM_PARAM_WINDOW (3ull << SIM_WINDOW_SHIFT)
#define SIM_WINDOW_MASK (SIM_SHARED_WINDOW - 1)

#endif /* FOVEA_SIMGPU_DECODE_CODE_H */
