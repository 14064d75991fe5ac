/* poll.c - finds warps that poll in vain: see sched/poll.h. The scheduler lets others run then, and
 * knows what is a deadlock.
 *
 * A warp computes from its registers, its local memory and what it loads. If all of these are as
 * they were at the same instruction before, it will do the same again. They are compared by a hash,
 * and only where the instruction read the same values as the last time. A loop that counts its
 * tries is not found: it ends by itself. Lanes that poll in turn at several places go through some
 * few states, so the latest few are kept. */
#include "simgpu/sched/poll.h"

#include <string.h>

static u64 mix(u64 hash, u64 word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
  return hash ^ hash >> 29;
}

static u64 mix_bytes(u64 hash, const u8 *bytes, size_t count) {
  for (size_t i = 0; i + sizeof(u64) <= count; i += sizeof(u64)) {
    u64 word;
    memcpy(&word, bytes + i, sizeof word);
    hash = mix(hash, word);
  }
  return hash;
}

/* What the instruction has read: the slots before its address. */
static u64 hash_values(const struct sim_warp *warp, const struct sim_inst *inst) {
  u64 hash = 0;
  for (u32 i = 0; i < inst->element_count; i++) {
    hash = mix_bytes(hash, warp->registers + inst->slot[i], (size_t)inst->stride[i] * SIM_LANES);
  }
  return hash;
}

static u64 hash_warp(const struct sim_warp *warp) {
  const struct sim_kernel *kernel = warp->cta->launch->kernel;
  u64 hash = mix_bytes(warp->fragment_count, warp->registers, kernel->file_bytes);
  hash = mix_bytes(hash, warp->local, (size_t)kernel->local_bytes * SIM_LANES);
  for (u32 i = 0; i < warp->fragment_count; i++) {
    const struct sim_fragment *fragment = &warp->fragments[i];
    hash = mix(hash, (u64)fragment->pc << 32 | fragment->mask);
  }
  return hash;
}

void sim_poll(struct sim_warp *warp, const struct sim_inst *inst) {
  size_t number = (size_t)(inst - warp->cta->launch->kernel->code) % SIM_POLLS;
  struct sim_polled *last = &warp->polled[number];
  u64 values = hash_values(warp, inst);
  if (last->inst != inst || last->values != values) {
    *last = (struct sim_polled){.inst = inst, .values = values};
    warp->got_on = true;
    return;
  }
  u64 state = hash_warp(warp);
  for (u32 i = 0; i < SIM_POLL_STATES; i++) warp->polls_in_vain |= last->states[i] == state;
  if (warp->polls_in_vain) return;
  warp->got_on = true;
  last->states[last->next++ % SIM_POLL_STATES] = state;
}
