/* arguments.c - see arguments.h. */
#include "cli/input/arguments.h"
#include "csrc/dtype.h"

#include <string.h>

enum {
  OPT_Q = 256,
  OPT_K,
  OPT_V,
  OPT_LAYOUT,
  OPT_DTYPE,
  OPT_CAUSAL,
  OPT_WINDOW,
  OPT_SCALE,
  OPT_SOFTCAP
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Input:", 1},
    {"q", OPT_Q, "Q.npy", 0, "Queries, with --k and --v instead of FILE", 1},
    {"k", OPT_K, "K.npy", 0, "Keys", 1},
    {"v", OPT_V, "V.npy", 0, "Values", 1},
    {"layout", OPT_LAYOUT, "bhsd|bshd", 0,
     "Order of the dimensions: b batch, h head, s sequence, d dim (default: the file's, else bhsd)",
     1},
    {"dtype", OPT_DTYPE, "f32|f16|bf16", 0,
     "Type to compute in; q, k and v are rounded to it, to nearest even (default: the file's)", 1},
    {NULL, 0, NULL, 0, "Attention:", 2},
    {"causal", OPT_CAUSAL, "top-left|bottom-right", 0,
     "Row i sees keys up to i + o, where o is 0 (top-left) or len_kv - len_q (bottom-right)", 2},
    {"window", OPT_WINDOW, "L,R", 0,
     "Row i sees keys from i + o - L to i + o + R, both included; -1 is no limit", 2},
    {"scale", OPT_SCALE, "X", 0, "Factor of q.k (default: 1 / sqrt(dim))", 2},
    {"softcap", OPT_SOFTCAP, "C", 0, "Logits become C tanh(logit / C)", 2},
    {NULL, 0, NULL, 0, "Device:", 3},
    {"device", 'd', "auto|cpu|reference|cuda[:N]", 0, "Where to compute (default: auto)", 3},
    {"threads", 't', "N", 0, "CPU threads (default: as many as the process may use)", 3},
    {0}};

static bool parse_positive(const char *text, float *value) {
  return fv_parse_number(text, value) && *value > 0;
}

static bool parse_dtype(const char *text, uint32_t *dtype) {
  for (uint32_t d = FOVEA_F32; d <= FOVEA_BF16; ++d) {
    if (strcmp(text, fv_dtype_name(d))) continue;
    *dtype = d;
    return true;
  }
  return false;
}

static bool parse_causal(const char *text, uint32_t *alignment) {
  if (!strcmp(text, "top-left")) {
    *alignment = FOVEA_ALIGN_TOP_LEFT;
  } else if (!strcmp(text, "bottom-right")) {
    *alignment = FOVEA_ALIGN_BOTTOM_RIGHT;
  } else {
    return false;
  }
  return true;
}

/* More threads than any machine has a use for here. */
enum { THREADS_MAX = 4096 };

static bool parse_threads(const char *text, int32_t *threads) {
  int64_t count;
  if (!fv_parse_count(text, 1, THREADS_MAX, &count)) return false;
  *threads = (int32_t)count;
  return true;
}

/* Whether the value of an option is valid, which is then stored. */
static bool store_option(fv_input_options *o, int key, char *value) {
  switch (key) {
    case OPT_Q:
      o->q = value;
      return true;
    case OPT_K:
      o->k = value;
      return true;
    case OPT_V:
      o->v = value;
      return true;
    case OPT_LAYOUT:
      o->layout = value;
      return !strcmp(value, "bhsd") || !strcmp(value, "bshd");
    case OPT_DTYPE:
      return parse_dtype(value, &o->dtype);
    case OPT_CAUSAL:
      o->has_causal = true;
      return parse_causal(value, &o->alignment);
    case OPT_WINDOW:
      o->has_window = true;
      return fv_parse_window(value, &o->window_left, &o->window_right);
    case OPT_SCALE:
      o->has_scale = true;
      return parse_positive(value, &o->scale);
    case OPT_SOFTCAP:
      o->has_softcap = true;
      return parse_positive(value, &o->softcap);
    case 'd':
      return fv_parse_device(value, &o->device, &o->ordinal);
    default:
      return parse_threads(value, &o->threads);
  }
}

static const char *option_name(int key) {
  for (const struct argp_option *o = options; o->name || o->doc; ++o) {
    if (o->name && o->key == key) return o->name;
  }
  return "?";
}

/* What an option takes, in words and with its range. */
static const char *option_values(int key) {
  switch (key) {
    case OPT_WINDOW:
      return "L,R, each a number from -1 (no limit) to 2147483647";
    case OPT_SCALE:
    case OPT_SOFTCAP:
      return "a decimal number above 0, from 1.4e-45 to 3.4e38";
    case 'd':
      return "auto|cpu|reference|cuda[:N], N from 0 to 9999";
    case 't':
      return "a number from 1 to 4096";
    default:
      break;
  }
  for (const struct argp_option *o = options; o->name || o->doc; ++o) {
    if (o->name && o->key == key) return o->arg;
  }
  return "?";
}

/* FILE, or all of --q, --k and --v. */
static void check_sources(const fv_input_options *o, struct argp_state *state) {
  bool any = o->q || o->k || o->v, all = o->q && o->k && o->v;
  if (o->file && any) argp_error(state, "give either FILE or --q, --k and --v, not both");
  if (!o->file && !any) argp_error(state, "no input; give FILE.safetensors, or --q, --k and --v");
  if (any && !all) argp_error(state, "--q, --k and --v belong together; one is missing");
}

static error_t parse(int key, char *value, struct argp_state *state) {
  fv_input_options *o = state->input;
  switch (key) {
    case ARGP_KEY_ARG:
      if (o->file) argp_error(state, "one FILE at a time; '%s' is a second", value);
      o->file = value;
      return 0;
    case ARGP_KEY_END:
      check_sources(o, state);
      return 0;
    case OPT_Q:
    case OPT_K:
    case OPT_V:
    case OPT_LAYOUT:
    case OPT_DTYPE:
    case OPT_CAUSAL:
    case OPT_WINDOW:
    case OPT_SCALE:
    case OPT_SOFTCAP:
    case 'd':
    case 't':
      if (!store_option(o, key, value)) {
        argp_error(state, "--%s: '%s' is not valid; write %s", option_name(key), value,
                   option_values(key));
      }
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

const struct argp fv_input_argp = {.options = options, .parser = parse};
