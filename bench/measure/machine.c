/* machine.c - see machine.h. */
#include "bench/measure/machine.h"

#include <cblas.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/measure/peak.h"

bool fv_bench_machine_open(fv_bench_machine *machine, int threads) {
  *machine = (fv_bench_machine){0};
  if (fv_pool_create(&machine->pool, threads)) {
    fprintf(stderr, "fovea-bench: %d threads cannot be had\n", threads);
    return false;
  }
  machine->threads = fv_pool_threads(machine->pool);
  fovea_options options = {
      .struct_size = sizeof options, .device = FOVEA_DEVICE_CPU, .threads = machine->threads};
  if (fovea_create(&options, &machine->handle) != FOVEA_OK) {
    fprintf(stderr, "fovea-bench: %s\n", fovea_error_detail());
    fv_bench_machine_close(machine);
    return false;
  }
  machine->memory_bytes = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
  long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  machine->cache_bytes = cache > 0 ? (double)cache : 0;
  return true;
}

void fv_bench_machine_close(fv_bench_machine *machine) {
  fovea_destroy(machine->handle);
  fv_pool_destroy(machine->pool);
}

bool fv_bench_machine_is_simulated(const fv_bench_machine *machine) {
  fovea_info info = {.struct_size = sizeof info};
  fovea_get_info(machine->handle, &info);
  return strstr(info.name, "simgpu") != NULL;
}

static void describe_system(fv_bench_json *json) {
  struct utsname system;
  char text[256] = "", line[192];
  FILE *release = fopen("/etc/os-release", "r");
  while (release && fgets(line, sizeof line, release)) {
    sscanf(line, "PRETTY_NAME=\"%160[^\"]", text);
  }
  if (release) fclose(release);
  if (!uname(&system)) {
    size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, "%s%s %s", used ? ", " : "", system.sysname,
             system.release);
  }
  fv_bench_json_context(json, "system", text);
}

static void describe_memory(const fv_bench_machine *machine, fv_bench_json *json) {
  char text[64];
  snprintf(text, sizeof text, "%.1f GiB", machine->memory_bytes / 1073741824.0);
  fv_bench_json_context(json, "memory", text);
  snprintf(text, sizeof text, "%.0f MiB", machine->cache_bytes / 1048576.0);
  fv_bench_json_context(json, "last_level_cache", machine->cache_bytes > 0 ? text : "unknown");
}

/* The variables that decide on instructions, here and in PyTorch's process. A report must show
 * them. */
static void describe_environment(fv_bench_json *json) {
  static const char *const names[] = {"FOVEA_CPU_ISA", "OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY",
                                      "MKL_ENABLE_INSTRUCTIONS"};
  char text[512] = "";
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
    const char *value = getenv(names[i]);
    size_t used = strlen(text);
    if (value) {
      snprintf(text + used, sizeof text - used, "%s%s=%s", used ? " " : "", names[i], value);
    }
  }
  if (*text) fv_bench_json_context(json, "environment", text);
}

void fv_bench_machine_describe(const fv_bench_machine *machine, fv_bench_json *json) {
  char text[64];
  fovea_info info = {.struct_size = sizeof info};
  fovea_get_info(machine->handle, &info);
  snprintf(text, sizeof text, "%d", machine->threads);
  fv_bench_json_context(json, "machine", info.name);
  fv_bench_json_context(json, "threads", text);
  fv_bench_json_context(json, "isa", info.isa);
  fv_bench_json_context(json, "widest_isa", fv_bench_peak_widest());
  fv_bench_json_context(json, "processor_features", info.features);
  describe_memory(machine, json); /* the device's, like the name */
  describe_system(json);
  snprintf(text, sizeof text, "%d.%d.%d", FOVEA_VERSION_MAJOR, FOVEA_VERSION_MINOR,
           FOVEA_VERSION_PATCH);
  fv_bench_json_context(json, "fovea", text);
  fv_bench_json_context(json, "compiler", FOVEA_BENCH_COMPILER);
  /* The build knows the state of the sources at configuration; scripts/bench knows the current one.
   */
  const char *commit = getenv("FOVEA_BENCH_COMMIT");
  fv_bench_json_context(json, "commit", commit && *commit ? commit : "unknown");
  const char *script = getenv("FOVEA_BENCH_SCRIPT");
  if (script && *script) fv_bench_json_context(json, "script", script);
  describe_environment(json);
  fv_bench_json_context(json, "blas", openblas_get_config());
  fv_bench_json_context(json, "blas_core", openblas_get_corename());
}

/* ---- Memory of this process ---- */

/* A line "VmHWM:   1234 kB" of /proc/self/status. */
static double status_bytes(const char *field) {
  char line[256];
  size_t length = strlen(field);
  double bytes = 0;
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status)) {
    if (!strncmp(line, field, length) && line[length] == ':') {
      bytes = 1024 * strtod(line + length + 1, NULL);
    }
  }
  if (status) fclose(status);
  return bytes;
}

double fv_bench_resident_bytes(void) {
  return status_bytes("VmRSS");
}

double fv_bench_resident_peak_bytes(void) {
  return status_bytes("VmHWM");
}

/* "5" sets the peak back to what is resident now (proc(5), since Linux 4.0). */
bool fv_bench_resident_reset_peak(void) {
  FILE *file = fopen("/proc/self/clear_refs", "w");
  if (!file) return false;
  bool done = fputs("5", file) >= 0;
  return !fclose(file) && done;
}
