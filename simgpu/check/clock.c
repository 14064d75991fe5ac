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
#include "simgpu/check/report.h"

enum { BUCKETS = 256, CLOCK_LIMIT = UINT16_MAX - 1 };

struct sync_object {
  u64 address;
  u64 version; /* no other object of the table has, or has had, the same */
  struct sim_known *known;
  struct sync_object *next;
};

struct sim_sync_table {
  pthread_mutex_t mutex;
  u64 versions;
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

/* A clock at its limit ends the judging of races in its CTA, and says so once in a launch: a false
 * report would be worse. */
void sim_clock_tick(struct sim_warp *warp) {
  struct sim_cta *cta = warp->cta;
  if (warp->clock[warp->index] < CLOCK_LIMIT) {
    warp->clock[warp->index]++;
    warp->epoch = 0;
    return;
  }
  cta->clocks_full = true;
  if (__atomic_exchange_n(&cta->launch->clocks_full, true, __ATOMIC_RELAXED)) return;
  sim_report_line(
      "%s: block (%u,%u,%u), warp %u has synchronised %u times: from here on races of "
      "its block are not judged",
      cta->launch->kernel->name, cta->index[0], cta->index[1], cta->index[2], warp->index,
      CLOCK_LIMIT);
}

static void join_clock(u16 into[SIM_MAX_WARPS], const u16 clock[SIM_MAX_WARPS]) {
  for (u32 i = 0; i < SIM_MAX_WARPS; i++) {
    if (clock[i] > into[i]) into[i] = clock[i];
  }
}

/* Where the CTA stands, or would. */
static u32 place_of(const struct sim_known *known, u32 cta) {
  u32 first = 0, count = known->count;
  while (count > 0) {
    u32 half = count / 2;
    bool after = known->items[first + half].cta < cta;
    first += after ? half + 1 : 0;
    count = after ? count - half - 1 : half;
  }
  return first;
}

const struct sim_known_cta *sim_known_find(const struct sim_known *known, u32 cta) {
  if (!known) return NULL;
  u32 place = place_of(known, cta);
  return place < known->count && known->items[place].cta == cta ? &known->items[place] : NULL;
}

static struct sim_known *require(struct sim_known **known) {
  if (!*known) *known = calloc(1, sizeof **known);
  if (!*known) abort();
  return *known;
}

static u32 count_missing(const struct sim_known *known, const struct sim_known *from) {
  u32 missing = from->count, k = 0;
  for (u32 i = 0; i < from->count && k < known->count; i++) {
    while (k < known->count && known->items[k].cta < from->items[i].cta) k++;
    missing -= k < known->count && known->items[k].cta == from->items[i].cta;
  }
  return missing;
}

/* Both are in order, so they are merged, from the end, in place. */
void sim_known_join(struct sim_known **into, const struct sim_known *from) {
  if (!from || from == *into) return;
  struct sim_known *known = require(into);
  u32 missing = count_missing(known, from), mine = known->count, theirs = from->count;
  while (known->capacity < mine + missing) {
    known->items = sim_grow(known->items, known->capacity, &known->capacity, sizeof *known->items);
  }
  known->count = mine + missing;
  for (u32 to = known->count; theirs > 0; to--) {
    const struct sim_known_cta *other = &from->items[theirs - 1];
    if (mine > 0 && known->items[mine - 1].cta >= other->cta) {
      bool is_same = known->items[mine - 1].cta == other->cta;
      if (to != mine) known->items[to - 1] = known->items[mine - 1];
      mine--;
      if (!is_same) continue;
      join_clock(known->items[to - 1].clock, other->clock);
    } else {
      known->items[to - 1] = *other;
    }
    theirs--;
  }
}

static void join_cta(struct sim_known **into, u32 cta, const u16 clock[SIM_MAX_WARPS]) {
  struct sim_known_cta item = {.cta = cta};
  memcpy(item.clock, clock, sizeof item.clock);
  struct sim_known one = {.items = &item, .count = 1};
  sim_known_join(into, &one);
}

void sim_known_free(struct sim_known **known) {
  if (*known) free((*known)->items);
  free(*known);
  *known = NULL;
}

/* Moves a clock into the warp's. Of its own CTA, warp->clock counts. */
static void learn(struct sim_warp *warp, struct sim_known **from) {
  sim_known_join(&warp->known, *from);
  const struct sim_known_cta *own = sim_known_find(*from, warp->cta->number);
  for (u32 w = 0; own && w < warp->cta->warp_count; w++) {
    if (w != warp->index && own->clock[w] > warp->clock[w]) warp->clock[w] = own->clock[w];
  }
  sim_known_free(from);
}

void sim_gather(struct sim_gathered *gathered, const struct sim_warp *warp) {
  join_clock(gathered->clock, warp->clock);
  sim_known_join(&gathered->known, warp->known);
  sim_known_join(&gathered->released, warp->released);
  sim_known_join(&gathered->released_here, warp->released_here);
  gathered->grid_awaited |= warp->grid_awaited;
}

void sim_gather_all(struct sim_gathered *gathered, const struct sim_gathered *from) {
  join_clock(gathered->clock, from->clock);
  sim_known_join(&gathered->known, from->known);
  sim_known_join(&gathered->released, from->released);
  sim_known_join(&gathered->released_here, from->released_here);
  gathered->grid_awaited |= from->grid_awaited;
}

void sim_gathered_join(struct sim_warp *warp, const struct sim_gathered *gathered) {
  join_clock(warp->clock, gathered->clock);
  sim_known_join(&warp->known, gathered->known);
  sim_known_join(&warp->released, gathered->released);
  sim_known_join(&warp->released_here, gathered->released_here);
  warp->grid_awaited |= gathered->grid_awaited;
  sim_clock_tick(warp);
}

void sim_gathered_free(struct sim_gathered *gathered) {
  sim_known_free(&gathered->known);
  sim_known_free(&gathered->released);
  sim_known_free(&gathered->released_here);
  *gathered = (struct sim_gathered){0};
}

static void release_into(struct sim_warp *warp, struct sim_known **released) {
  sim_known_join(released, warp->known);
  join_cta(released, warp->cta->number, warp->clock);
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
  learn(warp, &warp->acquired_here);
  if (reaches_others(scope)) learn(warp, &warp->acquired);
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

/* Who polls takes the same clock again and again, so the last version taken is remembered. */
static void pick_up(struct sim_sync_table *table, u64 address, struct sim_known **into,
                    u64 *version) {
  if (!table) return;
  pthread_mutex_lock(&table->mutex);
  struct sync_object *object = find_object(table, address, false);
  if (object && object->version != *version) {
    sim_known_join(into, object->known);
    *version = object->version;
  }
  pthread_mutex_unlock(&table->mutex);
}

static void leave(struct sim_sync_table *table, u64 address, const struct sim_known *known) {
  if (!table || !known) return;
  pthread_mutex_lock(&table->mutex);
  struct sync_object *object = find_object(table, address, true);
  if (object) {
    sim_known_join(&object->known, known);
    object->version = ++table->versions;
  }
  pthread_mutex_unlock(&table->mutex);
}

void sim_sync_acquire(struct sim_warp *warp, const struct sim_inst *inst, u64 address) {
  pick_up(table_here(warp), address, &warp->acquired_here, &warp->picked_up_here);
  pick_up(table_of_all(warp, inst, address), address, &warp->acquired, &warp->picked_up);
  if (!inst->is_acquire) return;
  learn(warp, &warp->acquired_here);
  learn(warp, &warp->acquired);
}

void sim_sync_release(struct sim_warp *warp, const struct sim_inst *inst, u64 address) {
  if (inst->is_release) release_all(warp, inst->scope);
  leave(table_here(warp), address, warp->released_here);
  leave(table_of_all(warp, inst, address), address, warp->released);
}
