/* clock.c - how clocks travel through memory: see check/race.h. Barriers join clocks directly
 * (sched/barrier.c). PTX ISA, "Memory Consistency Model: Release and Acquire Patterns".
 *
 * Release: a fence, or .release of an access, copies the warp's clock; every strong write from then
 * on leaves the copy at its address. Acquire: a strong read takes what lies at its address; the
 * next fence joins it into the warp's clock, .acquire does so at once. For scopes below the device,
 * and for shared memory, this happens in the CTA's own table alone.
 *
 * A table is a hash of addresses, behind a lock of its own. Its clocks only grow: one write does
 * not replace what an earlier one left, so some races may be missed, none is invented. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "simgpu/check/race.h"

enum { BUCKETS = 256, CLOCK_LIMIT = UINT16_MAX - 1 };

struct sync_object {
  u64 address;
  struct sim_known *known;
  struct sync_object *next;
};

struct sim_sync_table {
  pthread_mutex_t mutex;
  struct sync_object *buckets[BUCKETS];
};

struct sim_sync_table *sim_sync_table_new(void) {
  struct sim_sync_table *table = calloc(1, sizeof *table);
  if (table) pthread_mutex_init(&table->mutex, NULL);
  return table;
}

void sim_sync_table_free(struct sim_sync_table *table) {
  if (!table) return;
  for (u32 i = 0; i < BUCKETS; i++) {
    while (table->buckets[i]) {
      struct sync_object *object = table->buckets[i];
      table->buckets[i] = object->next;
      sim_known_free(&object->known);
      free(object);
    }
  }
  pthread_mutex_destroy(&table->mutex);
  free(table);
}

static struct sync_object *find_object(struct sim_sync_table *table, u64 address, bool create) {
  struct sync_object **bucket = &table->buckets[address / 4 % BUCKETS];
  for (struct sync_object *object = *bucket; object; object = object->next) {
    if (object->address == address) return object;
  }
  if (!create) return NULL;
  struct sync_object *object = calloc(1, sizeof *object);
  if (!object) return NULL;
  *object = (struct sync_object){.address = address, .next = *bucket};
  return *bucket = object;
}

/* A clock at its limit ends the judging of races in its CTA: a false report would be worse. */
void sim_clock_tick(struct sim_warp *warp) {
  if (warp->clock[warp->index] >= CLOCK_LIMIT) {
    warp->cta->clocks_full = true;
    return;
  }
  warp->clock[warp->index]++;
  warp->epoch = 0;
}

static struct sim_known_cta *find_known(struct sim_known *known, u32 cta) {
  for (u32 i = 0; i < known->count; i++) {
    if (known->items[i].cta == cta) return &known->items[i];
  }
  known->items = sim_grow(known->items, known->count, &known->capacity, sizeof *known->items);
  struct sim_known_cta *added = &known->items[known->count++];
  memset(added, 0, sizeof *added);
  added->cta = cta;
  return added;
}

static void join_cta(struct sim_known *into, u32 cta, const u16 clock[SIM_MAX_WARPS]) {
  struct sim_known_cta *known = find_known(into, cta);
  for (u32 i = 0; i < SIM_MAX_WARPS; i++) {
    if (clock[i] > known->clock[i]) known->clock[i] = clock[i];
  }
}

static struct sim_known *require(struct sim_known **known) {
  if (!*known) *known = calloc(1, sizeof **known);
  if (!*known) abort();
  return *known;
}

void sim_known_join(struct sim_known **into, const struct sim_known *from) {
  if (!from || from == *into) return;
  struct sim_known *target = require(into);
  for (u32 i = 0; i < from->count; i++) join_cta(target, from->items[i].cta, from->items[i].clock);
}

void sim_known_free(struct sim_known **known) {
  if (*known) free((*known)->items);
  free(*known);
  *known = NULL;
}

/* Joins a clock into the warp's: the part of its own CTA is warp->clock, the others are in
 * known. */
static void learn(struct sim_warp *warp, const struct sim_known *from) {
  for (u32 i = 0; from && i < from->count; i++) {
    const struct sim_known_cta *item = &from->items[i];
    if (item->cta != warp->cta->number) {
      join_cta(require(&warp->known), item->cta, item->clock);
      continue;
    }
    for (u32 w = 0; w < warp->cta->warp_count; w++) {
      if (w != warp->index && item->clock[w] > warp->clock[w]) warp->clock[w] = item->clock[w];
    }
  }
}

static void release_into(struct sim_warp *warp, struct sim_known **released) {
  sim_known_join(released, warp->known);
  join_cta(require(released), warp->cta->number, warp->clock);
}

static bool reaches_others(u8 scope) {
  return scope >= SIM_SCOPE_GPU;
}

static void release_all(struct sim_warp *warp, u8 scope) {
  release_into(warp, &warp->released_here);
  if (reaches_others(scope)) release_into(warp, &warp->released);
  sim_clock_tick(warp);
}

void sim_fence(struct sim_warp *warp, u8 scope) {
  learn(warp, warp->acquired_here);
  sim_known_free(&warp->acquired_here);
  if (reaches_others(scope)) {
    learn(warp, warp->acquired);
    sim_known_free(&warp->acquired);
  }
  release_all(warp, scope);
}

static struct sim_sync_table *table_here(struct sim_warp *warp) {
  if (!warp->cta->shared_sync) warp->cta->shared_sync = sim_sync_table_new();
  return warp->cta->shared_sync;
}

/* The table for the device. NULL: shared memory, or a smaller scope, orders the CTA's warps
 * alone. */
static struct sim_sync_table *table_of_all(struct sim_warp *warp, const struct sim_inst *inst,
                                           u64 address) {
  bool is_shared = address >> SIM_WINDOW_SHIFT == 1;
  return is_shared || !reaches_others(inst->scope) ? NULL : warp->cta->launch->global_sync;
}

static void pick_up(struct sim_sync_table *table, u64 address, struct sim_known **into) {
  if (!table) return;
  pthread_mutex_lock(&table->mutex);
  struct sync_object *object = find_object(table, address, false);
  if (object) sim_known_join(into, object->known);
  pthread_mutex_unlock(&table->mutex);
}

static void leave(struct sim_sync_table *table, u64 address, const struct sim_known *known) {
  if (!table || !known) return;
  pthread_mutex_lock(&table->mutex);
  struct sync_object *object = find_object(table, address, true);
  if (object) sim_known_join(&object->known, known);
  pthread_mutex_unlock(&table->mutex);
}

void sim_sync_acquire(struct sim_warp *warp, const struct sim_inst *inst, u64 address) {
  pick_up(table_here(warp), address, &warp->acquired_here);
  pick_up(table_of_all(warp, inst, address), address, &warp->acquired);
  if (!inst->is_acquire) return;
  learn(warp, warp->acquired_here);
  learn(warp, warp->acquired);
}

void sim_sync_release(struct sim_warp *warp, const struct sim_inst *inst, u64 address) {
  if (inst->is_release) release_all(warp, inst->scope);
  leave(table_here(warp), address, warp->released_here);
  leave(table_of_all(warp, inst, address), address, warp->released);
}
