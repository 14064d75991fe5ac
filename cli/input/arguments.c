/* arguments.c - see arguments.h. */
#include "cli/input/arguments.h"

#include <string.h>

#include "cli/flag_value.h"
#include "csrc/dtype.h"

/* ---- Flags whose values only the input has; `place` is all of its options ---- */

static bool store_layout(const fv_flag *flag, const char *text, void *place) {
  (void)flag;
  ((fv_input_options *)place)->layout = text;
  return !strcmp(text, "bhsd") || !strcmp(text, "bshd");
}

static bool store_dtype(const fv_flag *flag, const char *text, void *place) {
  (void)flag;
  for (uint32_t d = FOVEA_F32; d <= FOVEA_BF16; ++d) {
    if (strcmp(text, fv_dtype_name(d))) continue;
    ((fv_input_options *)place)->dtype = d;
    return true;
  }
  return false;
}

static bool store_causal(const fv_flag *flag, const char *text, void *place) {
  fv_input_options *o = place;
  (void)flag;
  o->has_causal = true;
  o->alignment = strcmp(text, "top-left") ? FOVEA_ALIGN_BOTTOM_RIGHT : FOVEA_ALIGN_TOP_LEFT;
  return !strcmp(text, "top-left") || !strcmp(text, "bottom-right");
}

static bool store_window(const fv_flag *flag, const char *text, void *place) {
  fv_input_options *o = place;
  (void)flag;
  o->has_window = true;
  return fv_parse_window(text, &o->window_left, &o->window_right);
}

static bool store_scale(const fv_flag *flag, const char *text, void *place) {
  fv_input_options *o = place;
  (void)flag;
  o->has_scale = true;
  return fv_parse_number(text, &o->scale) && o->scale > 0;
}

static bool store_softcap(const fv_flag *flag, const char *text, void *place) {
  fv_input_options *o = place;
  (void)flag;
  o->has_softcap = true;
  return fv_parse_number(text, &o->softcap) && o->softcap > 0;
}

static bool store_device(const fv_flag *flag, const char *text, void *place) {
  fv_input_options *o = place;
  (void)flag;
  return fv_parse_device(text, &o->device, &o->ordinal);
}

/* No machine has a use for more threads than flag->high here. */
static bool store_threads(const fv_flag *flag, const char *text, void *place) {
  int64_t count;
  if (!fv_parse_count(text, flag->low, flag->high, &count)) return false;
  ((fv_input_options *)place)->threads = (int32_t)count;
  return true;
}

#define AT(field) offsetof(fv_input_options, field)
#define FLAG(fields, ...) {__VA_ARGS__},
const fv_flag fv_input_flags[] = {
#include "cli/input/arguments.def"
    {0}};

/* ---- Words beside the flags ---- */

void fv_input_take_word(void *options, char *word, struct argp_state *state) {
  fv_input_options *o = options;
  if (o->file) argp_error(state, "one FILE at a time; '%s' is a second", word);
  o->file = word;
}

void fv_input_check(const void *options, struct argp_state *state) {
  const fv_input_options *o = options;
  bool any = o->q || o->k || o->v, all = o->q && o->k && o->v;
  if (o->file && any) argp_error(state, "give either FILE or --q, --k and --v, not both");
  if (!o->file && !any) argp_error(state, "no input; give FILE.safetensors, or --q, --k and --v");
  if (any && !all) argp_error(state, "--q, --k and --v belong together; one is missing");
}
