/* module.c - loads modules: see driver/module.h.
 *
 *   find the PTX for the device (parse/fatbin.c);  parse it (parse/parse.c)
 *   allocate and fill its variables in global memory
 *   decode every kernel (decode/decode.c)
 *   write the addresses that variables hold of each other
 *
 * Every kernel is decoded, so an unknown instruction is named before anything runs. Only the
 * kernels that have one are refused. */
#include "simgpu/driver/module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simgpu/check/report.h"
#include "simgpu/decode/decode.h"
#include "simgpu/memory/memory.h"
#include "simgpu/parse/fatbin.h"

static struct sim_symbol *find_variable(struct sim_module *module, const char *name) {
  for (struct sim_symbol *symbol = module->syntax.globals; symbol; symbol = symbol->next) {
    if (!strcmp(symbol->name, name)) return symbol;
  }
  return NULL;
}

static bool is_variable(const struct sim_symbol *symbol) {
  return symbol->kind == SIM_SYMBOL_GLOBAL || symbol->kind == SIM_SYMBOL_CONST;
}

static bool place_variables(struct sim_module *module, char *error, size_t error_bytes) {
  for (struct sim_symbol *symbol = module->syntax.globals; symbol; symbol = symbol->next) {
    if (!is_variable(symbol)) continue;
    u64 address = sim_memory_allocate(symbol->bytes ? symbol->bytes : 1);
    if (!address) {
      snprintf(error, error_bytes, "no room for the variable %s", symbol->name);
      return false;
    }
    module->variables = sim_grow(module->variables, module->variable_count,
                                 &module->variable_capacity, sizeof *module->variables);
    module->variables[module->variable_count++] = address;
    symbol->offset = address;
    u64 at = address - SIM_GLOBAL_BASE;
    memset(sim_memory.state + at, SIM_BYTE_READY, symbol->bytes);
    if (symbol->data) {
      memcpy(sim_memory.bytes + at, symbol->data, symbol->bytes);
    } else {
      memset(sim_memory.bytes + at, 0, symbol->bytes);
    }
  }
  return true;
}

static void relocate_variables(struct sim_module *module) {
  for (struct sim_symbol *symbol = module->syntax.globals; symbol; symbol = symbol->next) {
    for (u32 i = 0; is_variable(symbol) && i < symbol->relocation_count; i++) {
      const struct sim_relocation *relocation = &symbol->relocations[i];
      const struct sim_symbol *target = find_variable(module, relocation->name);
      u64 value = target ? target->offset + relocation->addend : 0;
      memcpy(sim_memory.bytes + (symbol->offset - SIM_GLOBAL_BASE) + relocation->offset, &value,
             sizeof value);
    }
  }
}

static void print_refusals(const struct sim_kernel *kernel) {
  for (const struct sim_refusal *refusal = kernel->refusals; refusal; refusal = refusal->next) {
    char source[256], times[32] = "";
    sim_module_describe(kernel->module, refusal->location, source, sizeof source);
    if (refusal->count > 1) snprintf(times, sizeof times, ", %u times", refusal->count);
    sim_report_line("%s: %s, PTX line %u%s: %s", kernel->name, *source ? source : "no -lineinfo",
                    refusal->ptx_line, times, refusal->text);
  }
}

static void decode_kernels(struct sim_module *module) {
  for (struct sim_function *function = module->syntax.functions; function;
       function = function->next) {
    if (!function->is_entry || !function->has_body) continue;
    struct sim_kernel *kernel = sim_pool_take(&module->pool, sizeof *kernel);
    kernel->module = module;
    kernel->next = module->kernels;
    module->kernels = kernel;
    sim_decode_kernel(&module->syntax, &module->pool, function, kernel);
    print_refusals(kernel);
  }
}

struct sim_module *sim_module_load(const void *image, u32 device_sm, char *error,
                                   size_t error_bytes, bool *is_image_bad) {
  char *text = sim_fatbin_find_ptx(image, device_sm, error, error_bytes);
  *is_image_bad = text == NULL;
  if (!text) return NULL;
  struct sim_module *module = calloc(1, sizeof *module);
  bool done = module && sim_parse(&module->syntax, text, error, error_bytes) &&
              place_variables(module, error, error_bytes);
  if (done) decode_kernels(module);
  free(text);
  if (!done) {
    if (module) sim_module_unload(module);
    return NULL;
  }
  relocate_variables(module);
  return module;
}

void sim_module_unload(struct sim_module *module) {
  for (u32 i = 0; i < module->variable_count; i++) sim_memory_free(module->variables[i]);
  free(module->variables);
  for (struct sim_kernel *kernel = module->kernels; kernel; kernel = kernel->next) {
    free(kernel->code);
  }
  sim_syntax_free(&module->syntax);
  sim_pool_free(&module->pool);
  free(module);
}

struct sim_kernel *sim_module_find(struct sim_module *module, const char *name) {
  for (struct sim_kernel *kernel = module->kernels; kernel; kernel = kernel->next) {
    if (!strcmp(kernel->name, name)) return kernel;
  }
  return NULL;
}

bool sim_module_line(const struct sim_module *module, u32 location, const char **file, u32 *line,
                     u32 *inlined_at) {
  if (location >= module->syntax.location_count) return false;
  const struct sim_location *at = &module->syntax.locations[location];
  *file = at->file < module->syntax.file_count ? module->syntax.files[at->file] : NULL;
  if (!*file) *file = "?";
  *line = at->line;
  *inlined_at = at->inlined_at;
  return true;
}

void sim_module_describe(const struct sim_module *module, u32 location, char *text, size_t bytes) {
  const char *file;
  u32 line, outer;
  size_t used = 0;
  *text = 0;
  for (; used < bytes && sim_module_line(module, location, &file, &line, &outer);
       location = outer) {
    const char *slash = strrchr(file, '/');
    int length = snprintf(text + used, bytes - used, "%s%s:%u", used ? " < " : "",
                          slash ? slash + 1 : file, line);
    if (length < 0) return;
    used += (size_t)length;
  }
}
