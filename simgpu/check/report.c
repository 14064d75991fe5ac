/* report.c - keeps reports and writes them: see check/report.h. Each is a line on stderr when it is
 * new. The list belongs to the process; a lock guards it, because all threads of a launch
 * report. */
#include "simgpu/check/report.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simgpu/driver/module.h"

enum { DETAIL_BYTES = 1024, SOURCE_BYTES = 512, NAME_BYTES = 128 };

struct report {
  const struct sim_kernel *key; /* compared, never followed: the module may be gone */
  enum sim_report_kind kind;
  char kernel[NAME_BYTES], opcode[NAME_BYTES];
  char source[SOURCE_BYTES];
  char detail[DETAIL_BYTES];
  u32 ptx_line, block[3], warp, lanes;
  u64 address, count;
};

static struct report *reports;
static u32 report_count, report_capacity;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static const char *kind_name(enum sim_report_kind kind) {
  static const char *const names[] = {
#define SIM_REPORT_KIND(name, text) text,
      SIM_REPORT_KINDS(SIM_REPORT_KIND)
#undef SIM_REPORT_KIND
  };
  return names[kind];
}

/* Unrolled loops turn one source line into many PTX lines, so with -lineinfo the source line
 * decides whether a report is known; without it the PTX line does. */
static struct report *find_report(const struct report *wanted) {
  for (u32 i = 0; i < report_count; i++) {
    struct report *report = &reports[i];
    if (report->key != wanted->key || report->kind != wanted->kind) continue;
    if (report->ptx_line == wanted->ptx_line) return report;
    if (*wanted->source && !strcmp(report->source, wanted->source)) return report;
  }
  return NULL;
}

static void print_report(const struct report *report) {
  fprintf(stderr,
          "simgpu: %s: %s: %s, PTX line %u (%s), block (%u,%u,%u), warp %u, lanes 0x%08x, address "
          "0x%llx: %s\n",
          kind_name(report->kind), report->kernel,
          *report->source ? report->source : "no -lineinfo", report->ptx_line, report->opcode,
          report->block[0], report->block[1], report->block[2], report->warp, report->lanes,
          (unsigned long long)report->address, report->detail);
}

static void fill_report(struct report *report, enum sim_report_kind kind,
                        const struct sim_report_place *place) {
  const struct sim_kernel *kernel = place->cta->launch->kernel;
  *report = (struct report){.key = kernel,
                            .kind = kind,
                            .lanes = place->lanes,
                            .address = place->address,
                            .ptx_line = place->inst->ptx_line,
                            .count = 1};
  snprintf(report->kernel, sizeof report->kernel, "%s", kernel->name);
  snprintf(report->opcode, sizeof report->opcode, "%s", place->inst->opcode);
  sim_module_describe(kernel->module, place->inst->location, report->source, sizeof report->source);
  memcpy(report->block, place->cta->index, sizeof report->block);
  report->warp = place->warp ? place->warp->index : 0;
}

void sim_report(enum sim_report_kind kind, const struct sim_report_place *place, const char *format,
                ...) {
  struct sim_launch *launch = place->cta->launch;
  __atomic_store_n(&launch->failed, 1, __ATOMIC_RELAXED);
  pthread_mutex_lock(&mutex);
  struct report found;
  fill_report(&found, kind, place);
  struct report *known = find_report(&found);
  if (known) {
    known->count++;
  } else {
    reports = sim_grow(reports, report_count, &report_capacity, sizeof *reports);
    struct report *report = &reports[report_count++];
    *report = found;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(report->detail, sizeof report->detail, format, arguments);
    va_end(arguments);
    print_report(report);
  }
  pthread_mutex_unlock(&mutex);
}

void sim_report_access(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 address,
                       enum sim_report_kind kind, const char *text) {
  struct sim_report_place place = {warp->cta, warp, inst, 1u << lane, address};
  sim_report(kind, &place, "%s", text);
}

u32 sim_report_count(void) {
  return report_count;
}

void sim_report_forget(void) {
  report_count = 0;
}

static void write_text(FILE *file, const char *text) {
  fputc('"', file);
  for (; *text; text++) {
    if (*text == '"' || *text == '\\') fputc('\\', file);
    if ((unsigned char)*text < ' ') {
      fprintf(file, "\\u%04x", *text);
    } else {
      fputc(*text, file);
    }
  }
  fputc('"', file);
}

static void write_report(FILE *file, const struct report *report) {
  fprintf(file, "{\"kind\": \"%s\", \"kernel\": ", kind_name(report->kind));
  write_text(file, report->kernel);
  fputs(", \"source\": ", file);
  write_text(file, report->source);
  fprintf(file, ", \"ptx_line\": %u, \"opcode\": ", report->ptx_line);
  write_text(file, report->opcode);
  fprintf(file,
          ", \"block\": [%u, %u, %u], \"warp\": %u, \"lanes\": %u, \"address\": \"0x%llx\", "
          "\"count\": %llu, \"detail\": ",
          report->block[0], report->block[1], report->block[2], report->warp, report->lanes,
          (unsigned long long)report->address, (unsigned long long)report->count);
  write_text(file, report->detail);
  fputc('}', file);
}

void sim_report_write(void) {
  const char *path = getenv("FOVEA_SIMGPU_REPORT");
  if (!path || !*path) return;
  FILE *file = fopen(path, "w");
  if (!file) {
    sim_report_line("cannot write %s", path);
    return;
  }
  pthread_mutex_lock(&mutex);
  fputs("[", file);
  for (u32 i = 0; i < report_count; i++) {
    fputs(i ? ",\n " : "\n ", file);
    write_report(file, &reports[i]);
  }
  fputs("\n]\n", file);
  pthread_mutex_unlock(&mutex);
  fclose(file);
}

void sim_report_line(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("simgpu: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
}
