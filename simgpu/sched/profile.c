/* profile.c - counts: see sched/profile.h.
 *
 * Bank conflicts follow the hardware's rule: one pass serves 32 banks of 4 bytes, and lanes that
 * read the same word share it. Accesses of 8 bytes are served by half warps, of 16 bytes by quarter
 * warps. A group needs as many passes as the fullest bank has different words. */
#include "simgpu/sched/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simgpu/driver/module.h"
#include "simgpu/memory/access.h"

enum { BANKS = 32, BANK_BYTES = 4, SECTOR_BYTES = 32, PASS_BYTES = BANKS * BANK_BYTES };

/* The totals of a kernel. Text is copied, because the module may be unloaded before the next
 * write. */
struct total {
  const struct sim_kernel *kernel;
  char name[128];
  struct {
    char source[256];
    char opcode_text[96];
    u32 ptx_line, instruction_class;
    struct sim_counts counts;
  } * lines;
  u32 line_count;
  u64 launches;
};

static struct total *totals;
static u32 total_count, total_capacity;

bool sim_profile_wanted(void) {
  const char *path = getenv("FOVEA_SIMGPU_PROFILE");
  return path && *path;
}

static struct sim_counts *counts_of(struct sim_warp *warp, const struct sim_inst *inst) {
  const struct sim_inst *code = warp->cta->launch->kernel->code;
  for (u32 i = 0; i < warp->cta->launch->kernel->code_count; i++) {
    if (code[i].ptx_line == inst->ptx_line && code[i].opcode == inst->opcode)
      return &warp->cta->counts[i];
  }
  return &warp->cta->counts[0];
}

/* The passes of one group of lanes: the number of different words in the fullest bank. */
static u32 group_passes(const u32 *addresses, u32 count, u32 bytes) {
  u32 words[BANKS][SIM_LANES], used[BANKS] = {0}, max = 0;
  for (u32 i = 0; i < count; i++) {
    for (u32 offset = 0; offset < bytes; offset += BANK_BYTES) {
      u32 word = (addresses[i] + offset) / BANK_BYTES, bank = word % BANKS, k = 0;
      while (k < used[bank] && words[bank][k] != word) k++;
      if (k == used[bank] && k < SIM_LANES) words[bank][used[bank]++] = word;
      if (used[bank] > max) max = used[bank];
    }
  }
  return max;
}

void sim_profile_shared(struct sim_warp *warp, const struct sim_inst *inst, const u32 *addresses,
                        u32 count, u32 bytes) {
  struct sim_counts *counts = counts_of(warp, inst);
  u32 group = bytes <= BANK_BYTES ? SIM_LANES : PASS_BYTES / bytes;
  for (u32 first = 0; first < count; first += group) {
    u32 here = count - first < group ? count - first : group;
    u32 passes = group_passes(addresses + first, here, bytes);
    counts->wavefronts += passes;
    counts->conflicts += passes ? passes - 1 : 0;
  }
}

static u32 count_sectors(const u64 *addresses, u32 count, u32 bytes) {
  u64 seen[SIM_LANES * 2];
  u32 sectors = 0;
  for (u32 i = 0; i < count; i++) {
    for (u64 sector = addresses[i] / SECTOR_BYTES;
         sector <= (addresses[i] + bytes - 1) / SECTOR_BYTES; sector++) {
      u32 k = 0;
      while (k < sectors && seen[k] != sector) k++;
      if (k == sectors && sectors < SIM_LANES * 2) seen[sectors++] = sector;
    }
  }
  return sectors;
}

void sim_profile_access(struct sim_warp *warp, const struct sim_inst *inst, u32 mask, u32 index,
                        u32 bytes) {
  u64 addresses[SIM_LANES] = {0};
  u32 narrow[SIM_LANES], count = 0;
  SIM_EACH_LANE(lane, mask) addresses[count++] = sim_lane_address(warp, inst, index, lane);
  u64 window = addresses[0] >> SIM_WINDOW_SHIFT;
  if (inst->space == SIM_SPACE_SHARED || (inst->space == SIM_SPACE_GENERIC && window == 1)) {
    for (u32 i = 0; i < count; i++) narrow[i] = (u32)addresses[i];
    sim_profile_shared(warp, inst, narrow, count, bytes);
  } else if (window == 0) {
    counts_of(warp, inst)->sectors += count_sectors(addresses, count, bytes);
  }
}

static struct total *find_total(const struct sim_kernel *kernel) {
  for (u32 i = 0; i < total_count; i++) {
    if (totals[i].kernel == kernel) return &totals[i];
  }
  totals = sim_grow(totals, total_count, &total_capacity, sizeof *totals);
  struct total *total = &totals[total_count++];
  *total = (struct total){.kernel = kernel, .line_count = kernel->code_count};
  snprintf(total->name, sizeof total->name, "%s", kernel->name);
  total->lines = calloc(kernel->code_count, sizeof *total->lines);
  for (u32 i = 0; i < kernel->code_count; i++) {
    const struct sim_inst *inst = &kernel->code[i];
    snprintf(total->lines[i].opcode_text, sizeof total->lines[i].opcode_text, "%s", inst->opcode);
    sim_module_describe(kernel->module, inst->location, total->lines[i].source,
                        sizeof total->lines[i].source);
    total->lines[i].ptx_line = inst->ptx_line;
    total->lines[i].instruction_class = inst->instruction_class;
  }
  return total;
}

static const char *const class_names[SIM_CLASS_COUNT] = {
    "integer", "float",  "half",  "convert", "move",    "predicate", "memory",
    "atomic",  "matrix", "async", "warp",    "barrier", "control"};

static void write_classes(FILE *file, const struct total *total) {
  u64 classes[SIM_CLASS_COUNT] = {0};
  for (u32 i = 0; i < total->line_count; i++) {
    classes[total->lines[i].instruction_class] += total->lines[i].counts.executed;
  }
  fputs("\"classes\": {", file);
  for (u32 i = 0; i < SIM_CLASS_COUNT; i++) {
    fprintf(file, "%s\"%s\": %llu", i ? ", " : "", class_names[i], (unsigned long long)classes[i]);
  }
  fputs("}, ", file);
}

static void write_lines(FILE *file, const struct total *total) {
  bool first = true;
  fputs("\"lines\": [", file);
  for (u32 i = 0; i < total->line_count; i++) {
    const struct sim_counts *counts = &total->lines[i].counts;
    if (!counts->executed) continue;
    fprintf(file,
            "%s\n  {\"source\": \"%s\", \"ptx_line\": %u, \"opcode\": \"%s\", \"class\": \"%s\", "
            "\"executed\": %llu, \"lanes\": %llu, \"sectors\": %llu, \"wavefronts\": %llu, "
            "\"conflicts\": %llu}",
            first ? "" : ",", total->lines[i].source, total->lines[i].ptx_line,
            total->lines[i].opcode_text, class_names[total->lines[i].instruction_class],
            (unsigned long long)counts->executed, (unsigned long long)counts->lanes,
            (unsigned long long)counts->sectors, (unsigned long long)counts->wavefronts,
            (unsigned long long)counts->conflicts);
    first = false;
  }
  fputs("]", file);
}

static void write_profile(void) {
  FILE *file = fopen(getenv("FOVEA_SIMGPU_PROFILE"), "w");
  if (!file) return;
  fputs("[", file);
  for (u32 i = 0; i < total_count; i++) {
    fprintf(file, "%s\n{\"kernel\": \"%s\", \"launches\": %llu, ", i ? "," : "", totals[i].name,
            (unsigned long long)totals[i].launches);
    write_classes(file, &totals[i]);
    write_lines(file, &totals[i]);
    fputs("}", file);
  }
  fputs("\n]\n", file);
  fclose(file);
}

void sim_profile_add(const struct sim_launch *launch) {
  struct total *total = find_total(launch->kernel);
  total->launches++;
  for (u32 i = 0; i < total->line_count; i++) {
    u64 *into = (u64 *)&total->lines[i].counts;
    const u64 *from = (const u64 *)&launch->counts[i];
    for (size_t k = 0; k < sizeof *launch->counts / sizeof(u64); k++) into[k] += from[k];
  }
  write_profile();
}
