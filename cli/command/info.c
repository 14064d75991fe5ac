/* info.c - `fovea info`: the devices of this machine and the kernels of this build. */
#include <libsmartcols.h>
#include <stdio.h>

#include "cli/command/command.h"
#include "cli/command/report.h"
#include "cli/error.h"

/* One device: its description, or why it could not be opened. */
typedef struct device_row {
  const char *name;
  uint32_t device;
  bool present;
  fovea_info info;
  char reason[256];
} device_row;

static void look(device_row *row) {
  fovea_options options = {.struct_size = sizeof options, .device = row->device};
  fovea_handle *handle;
  row->info.struct_size = sizeof row->info;
  row->present = fovea_create(&options, &handle) == FOVEA_OK;
  if (!row->present) {
    snprintf(row->reason, sizeof row->reason, "%s", fovea_error_detail());
    return;
  }
  fovea_get_info(handle, &row->info);
  fovea_destroy(handle);
}

/* ---- JSON ---- */

static json_t *device_json(const device_row *row) {
  if (!row->present) {
    return json_pack("{s:s, s:b, s:s}", "device", row->name, "present", 0, "reason", row->reason);
  }
  return json_pack("{s:s, s:b, s:s, s:s, s:i, s:s}", "device", row->name, "present", 1, "name",
                   row->info.name, "isa", row->info.isa, "threads", row->info.threads, "features",
                   row->info.features);
}

static json_t *kernels_json(void) {
  json_t *kernels = json_array();
  for (int32_t i = 0; fovea_kernel_name(i); ++i) {
    json_array_append_new(kernels, json_string(fovea_kernel_name(i)));
  }
  return kernels;
}

static int write_json(const device_row *rows, int count) {
  char version[32];
  json_t *devices = json_array();
  for (int i = 0; i < count; ++i) json_array_append_new(devices, device_json(&rows[i]));
  snprintf(version, sizeof version, "%d.%d.%d", FOVEA_VERSION_MAJOR, FOVEA_VERSION_MINOR,
           FOVEA_VERSION_PATCH);
  return fv_report_write(json_pack("{s:i, s:s, s:s, s:o, s:o}", "schema", FV_REPORT_SCHEMA,
                                   "command", "info", "version", version, "devices", devices,
                                   "kernels", kernels_json()));
}

/* ---- Text ---- */

static int add_row(struct libscols_table *table, const device_row *row) {
  char threads[16];
  struct libscols_line *line = scols_table_new_line(table, NULL);
  if (!line) return -1;
  snprintf(threads, sizeof threads, "%d", row->info.threads);
  int failed = scols_line_set_data(line, 0, row->name);
  failed |= scols_line_set_data(line, 1, row->present ? row->info.isa : "-");
  failed |= scols_line_set_data(line, 2, row->present ? threads : "-");
  failed |= scols_line_set_data(line, 3, row->present ? row->info.name : row->reason);
  return failed;
}

static int print_devices(const device_row *rows, int count) {
  struct libscols_table *table = scols_new_table();
  if (!table) return -1;
  int failed = !scols_table_new_column(table, "DEVICE", 0, 0);
  failed |= !scols_table_new_column(table, "ISA", 0, 0);
  failed |= !scols_table_new_column(table, "THREADS", 0, SCOLS_FL_RIGHT);
  failed |= !scols_table_new_column(table, "NAME, OR WHY IT IS ABSENT", 0, SCOLS_FL_WRAP);
  for (int i = 0; i < count && !failed; ++i) failed = add_row(table, &rows[i]);
  if (!failed) failed = scols_print_table(table);
  scols_unref_table(table);
  return failed;
}

static int print_text(const device_row *rows, int count) {
  printf("fovea %d.%d.%d\n\n", FOVEA_VERSION_MAJOR, FOVEA_VERSION_MINOR, FOVEA_VERSION_PATCH);
  fflush(stdout);
  if (print_devices(rows, count)) {
    return ferror(stdout) ? fv_report_finish() : fv_cli_out_of_memory();
  }
  printf("\nprocessor features: %s\n\nkernels:\n", rows[0].info.features);
  for (int32_t i = 0; fovea_kernel_name(i); ++i) printf("  %s\n", fovea_kernel_name(i));
  return fv_report_finish();
}

/* ---- The command ---- */

static const fv_flag own_flags[] = {{.name = "json",
                                     .store = fv_flag_true,
                                     .help = "Report as JSON",
                                     .manual = "One object, whose fields are below."},
                                    {0}};

static void refuse_word(void *options, char *word, struct argp_state *state) {
  (void)options;
  (void)word;
  argp_error(state, "info takes no arguments");
}

static const char help[] =
    "Shows the devices of this machine, what they can do, and the kernels of this build."
    "\v"
    "Exit status: 0, or 5 if the output is not writable.";

const fv_flags fv_info_flags = {
    .command = "fovea info", .help = help, .own = own_flags, .take_word = refuse_word};

int fv_command_info(int argc, char **argv) {
  bool json = false;
  fv_flags_parse(&fv_info_flags, argc, argv, &json);
  device_row rows[] = {{.name = "cpu", .device = FOVEA_DEVICE_CPU},
                       {.name = "reference", .device = FOVEA_DEVICE_REFERENCE},
                       {.name = "cuda", .device = FOVEA_DEVICE_CUDA}};
  enum { COUNT = sizeof rows / sizeof rows[0] };
  for (int i = 0; i < COUNT; ++i) look(&rows[i]);
  return json ? write_json(rows, COUNT) : print_text(rows, COUNT);
}
