/* validate.c - `fovea validate`: random problems against the double precision reference.
 *
 * Case i of a seed is drawn from (seed, i) alone, so that one line repeats it. Workers take cases
 * from a counter; what they find is added up in the order of cases, so a run prints the same
 * whatever the number of workers. */
#include <argp.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "digest.h"
#include "error.h"
#include "input_arguments.h"
#include "report.h"
#include "validate_case.h"

enum { COVERAGE_CASES = 20000, COVERAGE_LEAST = 50, MAX_WORKERS = 64, SPECIAL_EVERY = 10 };
enum { MAX_KERNELS = 256 }; /* that one device has */

typedef struct validate_options {
  uint32_t device;
  int32_t ordinal;
  int64_t cases;
  uint64_t seed;
  int64_t only; /* one case; -1: all */
  int32_t workers;
  const char *filter;
  bool json;
} validate_options;

/* What one kernel was judged on. */
typedef struct kernel_record {
  char name[sizeof((fv_case_result *)0)->kernel];
  int64_t cases;
  int64_t coverage[FV_FEATURE_COUNT];
} kernel_record;

/* The sum of all that workers found. */
typedef struct totals {
  fv_verdict verdict;
  int64_t run, skipped, failed, beyond, long_keys;
  uint64_t digest;                          /* the sum of the cases': their order is nothing */
  int64_t left_out;                         /* drawn, but not supported by the device */
  fv_feature_set features;                  /* that are drawn */
  fv_feature_set company[FV_FEATURE_COUNT]; /* of each, those that it is drawn with */
  int64_t coverage[FV_FEATURE_COUNT];
  int64_t pairs[FV_FEATURE_COUNT][FV_FEATURE_COUNT];
  kernel_record kernels[MAX_KERNELS];
  int kernel_count;
  int64_t special[3];    /* merges, weights, appends */
  int64_t first_failure; /* the lowest failing index; -1: none */
  fv_bad_element first_bad;
  char first_reason[256];
  char first_text[sizeof((fv_case *)0)->text];
  bool out_of_memory;
} totals;

typedef struct run {
  const validate_options *options;
  atomic_llong next;
  pthread_mutex_t lock;
  totals totals;
  bool progress;
  bool limited; /* the device lacks features, 8-bit caches to append to, and weights */
} run;

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal) {
  (void)signal;
  interrupted = 1;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- One worker ---- */

static int open_handles(const validate_options *options, fovea_handle **handles) {
  for (int i = 0; i < FV_CASE_HANDLES; ++i) {
    fovea_options wish = {.struct_size = sizeof wish,
                          .device = options->device,
                          .ordinal = options->ordinal,
                          .threads = i + 1};
    fovea_status status = fovea_create(&wish, &handles[i]);
    if (status != FOVEA_OK) return fv_cli_fail_open(status);
  }
  return FV_EXIT_OK;
}

static void close_handles(fovea_handle **handles) {
  for (int i = 0; i < FV_CASE_HANDLES; ++i) fovea_destroy(handles[i]);
}

static void count_features(totals *t, fv_feature_set features) {
  for (int a = 0; a < FV_FEATURE_COUNT; ++a) {
    if (!fv_feature_in(features, a)) continue;
    ++t->coverage[a];
    for (int b = a + 1; b < FV_FEATURE_COUNT; ++b) t->pairs[a][b] += fv_feature_in(features, b);
  }
}

static void count_kernel(totals *t, const char *name, fv_feature_set features) {
  int i = 0;
  while (i < t->kernel_count && strcmp(t->kernels[i].name, name)) ++i;
  if (!*name || i == MAX_KERNELS) return;
  if (i == t->kernel_count) strcpy(t->kernels[t->kernel_count++].name, name);
  ++t->kernels[i].cases;
  for (int f = 0; f < FV_FEATURE_COUNT; ++f)
    t->kernels[i].coverage[f] += fv_feature_in(features, f);
}

static void note_failure(totals *t, int64_t index, const fv_case *c, const fv_case_result *r) {
  ++t->failed;
  if (t->first_failure >= 0 && t->first_failure < index) return;
  t->first_failure = index;
  t->first_bad = r->verdict.first_bad;
  memcpy(t->first_reason, r->reason, sizeof t->first_reason);
  memcpy(t->first_text, c->text, sizeof t->first_text);
}

static void add_result(run *r, int64_t index, const fv_case *c, const fv_case_result *result,
                       int special) {
  pthread_mutex_lock(&r->lock);
  totals *t = &r->totals;
  fv_verdict_add(&t->verdict, &result->verdict);
  ++t->run;
  t->left_out += result->left_out;
  t->digest += fv_digest_word(result->digest, (uint64_t)index);
  t->out_of_memory |= result->out_of_memory || c->out_of_memory;
  if (special >= 0) ++t->special[special];
  if (special != 0 && special != 2) {
    count_features(t, c->features);
    count_kernel(t, result->kernel, c->features);
    t->beyond += fv_case_has(c, FV_FEATURE_BEYOND_TWO_TILES);
    t->long_keys += c->keys_longest >= 4096;
  }
  if (result->failed) note_failure(t, index, c, result);
  if (r->progress && t->run % 50 == 0) {
    fprintf(stderr, "\r%lld of %lld cases, %lld failed ", (long long)t->run,
            (long long)r->options->cases, (long long)t->failed);
  }
  pthread_mutex_unlock(&r->lock);
}

/* Every tenth case is one of the other functions, in turn, as far as the device has them. */
static int special_kind(const run *r, int64_t index) {
  if (index % SPECIAL_EVERY != SPECIAL_EVERY - 1) return -1;
  int kind = (int)(index / SPECIAL_EVERY % 3);
  return r->limited && kind == 1 ? -1 : kind;
}

static void run_case(run *r, fovea_handle *const *handles, int64_t index) {
  static const char *const special_names[] = {"merge", "weights", "append"};
  const validate_options *o = r->options;
  int special = special_kind(r, index);
  int64_t left_out = 0;
  fv_case c = {0};
  fv_case_result result = {0};
  if (special == 0 || special == 2) {
    snprintf(c.text, sizeof c.text, "case %lld of seed %llu: %s", (long long)index,
             (unsigned long long)o->seed, special_names[special]);
  } else if (r->limited) {
    left_out = fv_case_draw_supported(o->seed, (uint64_t)index, handles[0], r->totals.features, &c);
  } else {
    fv_case_draw(o->seed, (uint64_t)index, &c);
  }
  if (o->filter && !strstr(c.text, o->filter)) {
    fv_case_free(&c);
    return;
  }
  fv_random random = fv_random_for(~o->seed, (uint64_t)index);
  fovea_handle *one = handles[fv_random_between(&random, 0, FV_CASE_HANDLES - 1)];
  if (!c.out_of_memory) {
    switch (special) {
      case 0:
        fv_run_merge_case(one, &random, &result);
        break;
      case 1:
        fv_run_weights_case(one, &c, &result);
        break;
      case 2:
        fv_run_append_case(one, r->limited ? FOVEA_BF16 : FOVEA_I8, &random, &result);
        break;
      default:
        fv_run_attention_case(handles, &c, &random, &result);
        break;
    }
  }
  result.left_out = left_out;
  add_result(r, index, &c, &result, special);
  fv_case_free(&c);
}

static void *work(void *context) {
  run *r = context;
  fovea_handle *handles[FV_CASE_HANDLES] = {0};
  int code = open_handles(r->options, handles);
  while (!code && !interrupted) {
    int64_t index = atomic_fetch_add(&r->next, 1);
    if (index >= r->options->cases) break;
    if (r->options->only >= 0) index = r->options->only;
    run_case(r, handles, index);
  }
  close_handles(handles);
  return (void *)(intptr_t)code;
}

/* ---- All workers ---- */

static int run_all(run *r) {
  pthread_t threads[MAX_WORKERS];
  int started = 0, code = FV_EXIT_OK;
  int workers = r->options->only >= 0 ? 1 : r->options->workers;
  while (started < workers && !pthread_create(&threads[started], NULL, work, r)) ++started;
  if (!started) return (int)(intptr_t)work(r);
  for (int i = 0; i < started; ++i) {
    void *result;
    pthread_join(threads[i], &result);
    if (result) code = (int)(intptr_t)result;
  }
  if (r->progress) fputs("\r\033[K", stderr);
  return code;
}

/* ---- Coverage ---- */

/* Counts the features and pairs met too rarely; prints the first of them. */
static int64_t empty_cells(const totals *t, int64_t least, bool print) {
  int64_t cells = 0;
  for (int a = 0; a < FV_FEATURE_COUNT; ++a) {
    for (int b = a; b < FV_FEATURE_COUNT; ++b) {
      if (!fv_feature_in(t->features, a) || !fv_feature_in(t->company[a], b)) continue;
      int64_t met = a == b ? t->coverage[a] : t->pairs[a][b];
      if (met >= least || (a != b && fv_features_exclude((fv_feature)a, (fv_feature)b))) continue;
      if (print && cells < 20) {
        printf("           %s%s%s: %lld\n", fv_feature_name((fv_feature)a), a == b ? "" : " with ",
               a == b ? "" : fv_feature_name((fv_feature)b), (long long)met);
      }
      ++cells;
    }
  }
  return cells;
}

/* Pairs that are not drawn although both of the pair are, and may meet. */
static int pairs_left_out(const totals *t) {
  int pairs = 0;
  for (int a = 0; a < FV_FEATURE_COUNT; ++a) {
    fv_feature_set missing = fv_feature_in(t->features, a) ? t->features & ~t->company[a] : 0;
    for (int b = a + 1; b < FV_FEATURE_COUNT; ++b) {
      pairs += fv_feature_in(missing, b) && !fv_features_exclude((fv_feature)a, (fv_feature)b);
    }
  }
  return pairs;
}

/* Whether the run was large enough to be held to its coverage. */
static bool held_to_coverage(const validate_options *o) {
  return o->cases >= COVERAGE_CASES && o->only < 0 && !o->filter && !interrupted;
}

/* Cases drawn as attention problems: all but merges and appends. */
static int64_t attention_cases(const totals *t) {
  return t->run - t->special[0] - t->special[2];
}

static bool passes(const validate_options *o, const totals *t) {
  if (t->failed || t->run == 0) return false;
  if (!held_to_coverage(o)) return true;
  return empty_cells(t, COVERAGE_LEAST, false) == 0 && t->beyond * 2 >= attention_cases(t) &&
         t->long_keys * 100 >= attention_cases(t);
}

/* ---- Reports ---- */

static const char *device_text(const validate_options *o) {
  static const char *const names[] = {"auto", "cpu", "reference", "cuda"};
  return names[o->device];
}

static void repeat_line(const validate_options *o, const totals *t, char *text, size_t capacity) {
  snprintf(text, capacity, "fovea validate --device %s --seed %llu --case %lld", device_text(o),
           (unsigned long long)o->seed, (long long)t->first_failure);
}

static json_t *coverage_json(const int64_t coverage[FV_FEATURE_COUNT]) {
  json_t *object = json_object();
  for (int f = 0; f < FV_FEATURE_COUNT; ++f) {
    json_object_set_new(object, fv_feature_name((fv_feature)f), json_integer(coverage[f]));
  }
  return object;
}

/* Cases that were right so far say nothing about those that were left out. */
static bool has_verdict(const totals *t) {
  return !interrupted || t->failed;
}

static json_t *kernels_json(const totals *t) {
  json_t *object = json_object();
  for (int i = 0; i < t->kernel_count; ++i) {
    const kernel_record *kernel = &t->kernels[i];
    json_object_set_new(object, kernel->name,
                        json_pack("{s:I, s:o}", "cases", (json_int_t)kernel->cases, "coverage",
                                  coverage_json(kernel->coverage)));
  }
  return object;
}

static int report_json(const validate_options *o, const totals *t, double seconds,
                       const char *kernel) {
  char repeat[128], digest[17];
  repeat_line(o, t, repeat, sizeof repeat);
  fv_verdict verdict = t->verdict;
  verdict.first_bad = t->first_bad;
  json_t *report =
      fv_report_json("validate", device_text(o), kernel, "all", seconds, &verdict, repeat);
  if (report) {
    json_t *pass = has_verdict(t) ? json_boolean(passes(o, t)) : json_null();
    json_object_set_new(report, "pass", pass);
    json_object_set_new(report, "cases", json_integer(t->run));
    json_object_set_new(report, "failed", json_integer(t->failed));
    snprintf(digest, sizeof digest, "%016llx", (unsigned long long)t->digest);
    json_object_set_new(report, "digest", json_string(digest));
    json_object_set_new(report, "seed", json_integer((json_int_t)o->seed));
    json_object_set_new(report, "empty_cells", json_integer(empty_cells(t, COVERAGE_LEAST, false)));
    json_object_set_new(report, "left_out", json_integer(t->left_out));
    json_object_set_new(report, "coverage", coverage_json(t->coverage));
    json_object_set_new(report, "kernels", kernels_json(t));
    if (t->failed) {
      json_object_set_new(report, "reason", json_string(t->first_reason));
      json_object_set_new(report, "case", json_string(t->first_text));
      json_object_set_new(report, "repeat", json_string(repeat));
    }
  }
  return fv_report_write(report);
}

static void print_coverage(const validate_options *o, const totals *t) {
  int64_t cells = empty_cells(t, COVERAGE_LEAST, false);
  int drawn = 0;
  for (int f = 0; f < FV_FEATURE_COUNT; ++f) drawn += fv_feature_in(t->features, f);
  printf("coverage   %d features, %lld cases beyond two tiles, %lld with 4096 keys or more\n",
         drawn, (long long)t->beyond, (long long)t->long_keys);
  if (drawn < FV_FEATURE_COUNT) {
    printf(
        "           %d features, %d pairs of dtypes, weights and appends to 8-bit caches left out, "
        "and %lld cases drawn: not supported\n",
        FV_FEATURE_COUNT - drawn, pairs_left_out(t), (long long)t->left_out);
  }
  printf("           %lld merges, %lld weights, %lld appends\n", (long long)t->special[0],
         (long long)t->special[1], (long long)t->special[2]);
  if (!cells) {
    printf("           every feature and every pair of features at least %d times\n",
           COVERAGE_LEAST);
    return;
  }
  printf("           %lld features and pairs fewer than %d times%s\n", (long long)cells,
         COVERAGE_LEAST, held_to_coverage(o) ? "" : ", as expected of a run below 20000 cases");
  if (held_to_coverage(o)) empty_cells(t, COVERAGE_LEAST, true);
}

static int report_text(const validate_options *o, const totals *t, double seconds,
                       const char *kernel) {
  char repeat[128];
  repeat_line(o, t, repeat, sizeof repeat);
  printf("device     %s, %s\n", device_text(o), kernel);
  printf("cases      %lld in %.1f s, seed %llu, %lld failed\n", (long long)t->run, seconds,
         (unsigned long long)o->seed, (long long)t->failed);
  printf("digest     %016llx\n", (unsigned long long)t->digest);
  print_coverage(o, t);
  fv_verdict verdict = t->verdict;
  verdict.first_bad = t->first_bad;
  fv_report_print_verdict(&verdict, repeat);
  if (t->failed) {
    printf("first      %s\n           %s\n", t->first_text, t->first_reason);
    if (!t->first_bad.any) printf("repeat     %s\n", repeat); /* else it stands below "first bad" */
  }
  if (!t->run) printf("nothing was run: no case matches the filter\n");
  if (has_verdict(t)) printf("verdict    %s\n", passes(o, t) ? "right" : "WRONG");
  return fv_report_finish();
}

/* ---- The command ---- */

enum {
  OPT_CASES = 'n',
  OPT_SEED = 's',
  OPT_FILTER = 'f',
  OPT_DEVICE = 'd',
  OPT_THREADS = 't',
  OPT_CASE = 800,
  OPT_JSON
};

static const struct argp_option arguments[] = {
    {"device", OPT_DEVICE, "auto|cpu|reference|cuda[:N]", 0, "What to judge (default: auto)", 0},
    {"cases", OPT_CASES, "N", 0, "How many problems (default: 2000)", 0},
    {"seed", OPT_SEED, "S", 0, "Other problems (default: 1)", 0},
    {"filter", OPT_FILTER, "TEXT", 0, "Only cases whose description contains TEXT, as 'k=e4m3'", 0},
    {"case", OPT_CASE, "I", 0, "Only case I of the seed", 0},
    {"threads", OPT_THREADS, "T", 0, "Cases at a time (default: one per processor)", 0},
    {"json", OPT_JSON, NULL, 0, "Report as JSON", 0},
    {0}};

static int64_t parse_number(const char *text, const char *name, int64_t low, int64_t high,
                            struct argp_state *state) {
  char *end;
  errno = 0;
  long long value = strtoll(text, &end, 10);
  if (end == text || *end || errno || value < low || value > high) {
    argp_error(state, "--%s: '%s' is not valid; write a number from %lld to %lld", name, text,
               (long long)low, (long long)high);
  }
  return value;
}

static error_t parse(int key, char *value, struct argp_state *state) {
  validate_options *o = state->input;
  switch (key) {
    case OPT_DEVICE:
      if (!fv_parse_device(value, &o->device, &o->ordinal)) {
        argp_error(state, "--device: '%s' is not valid; write auto, cpu, reference or cuda[:N]",
                   value);
      }
      return 0;
    case OPT_CASES:
      o->cases = parse_number(value, "cases", 1, INT64_MAX, state);
      return 0;
    case OPT_SEED:
      o->seed = (uint64_t)parse_number(value, "seed", 0, INT64_MAX, state);
      return 0;
    case OPT_FILTER:
      o->filter = value;
      return 0;
    case OPT_CASE:
      o->only = parse_number(value, "case", 0, INT64_MAX, state);
      o->cases = 1;
      return 0;
    case OPT_THREADS:
      o->workers = (int32_t)parse_number(value, "threads", 1, 4096, state);
      if (o->workers > MAX_WORKERS) o->workers = MAX_WORKERS;
      return 0;
    case OPT_JSON:
      o->json = true;
      return 0;
    case ARGP_KEY_ARG:
      argp_error(state, "validate takes no files; '%s' is one too many", value);
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const char help[] =
    "Judges a device by random problems: every result is compared with the double precision "
    "reference, under bounds that follow from the arithmetic."
    "\v"
    "Examples:\n"
    "  fovea validate\n"
    "  fovea validate --device cpu --cases 20000 --seed 7\n"
    "  fovea validate --filter 'paged_csr' --json\n"
    "  fovea validate --device cpu --seed 7 --case 1234\n"
    "\n"
    "Memory that must not be read holds NaN, outputs lie between canaries, every call runs twice "
    "and "
    "must give the same bits. Ratios are error / bound: above 1 is wrong. From 20000 cases on the "
    "run "
    "also fails if a feature or a pair of features was met fewer than 50 times.\n"
    "\n"
    "Exit status: 0 right, 1 wrong, 2 usage, 4 no such device, 5 out of memory, 130 interrupted.";

static const struct argp validate_argp = {arguments, parse, NULL, help, NULL, NULL, NULL};

static void find_features(run *r, fovea_handle *handle) {
  totals *t = &r->totals;
  t->features = fv_feature_bit(FV_FEATURE_COUNT) - 1;
  if (r->limited) t->features = fv_case_find_features(handle);
  for (int f = 0; f < FV_FEATURE_COUNT; ++f) {
    t->company[f] = t->features;
    if (r->limited) t->company[f] = fv_case_find_company(handle, t->features, (fv_feature)f);
  }
}

/* The name of the kernel that a plain problem runs on the device; and for one that lacks features,
 * those it has. */
static int look_at_device(const validate_options *o, run *r, fovea_support *support) {
  float data[64] = {0}, out[64];
  fovea_options wish = {.struct_size = sizeof wish, .device = o->device, .ordinal = o->ordinal};
  fovea_info info = {.struct_size = sizeof info};
  fovea_handle *handle;
  fovea_status status = fovea_create(&wish, &handle);
  if (status != FOVEA_OK) return fv_cli_fail_open(status);
  fovea_get_info(handle, &info);
  r->limited = info.device == FOVEA_DEVICE_CUDA;
  find_features(r, handle);
  fovea_dtype dtype = r->limited ? FOVEA_BF16 : FOVEA_F32;
  fovea_attention_args args = {.struct_size = sizeof args};
  args.q = args.k = args.v = fovea_contiguous(data, dtype, 1, 1, 1, 64);
  args.out = fovea_contiguous(out, dtype, 1, 1, 1, 64);
  support->struct_size = sizeof *support;
  status = fovea_attention_support(handle, &args, support);
  fovea_destroy(handle);
  return status == FOVEA_OK ? FV_EXIT_OK : fv_cli_fail_call("fovea_attention_support", status);
}

int fv_command_validate(int argc, char **argv) {
  validate_options options = {.cases = 2000, .seed = 1, .only = -1};
  fovea_support support;
  char name[] = "fovea validate";
  long processors = sysconf(_SC_NPROCESSORS_ONLN);
  options.workers = processors < 1 ? 1 : processors > MAX_WORKERS ? MAX_WORKERS : (int)processors;
  argv[0] = name;
  argp_parse(&validate_argp, argc, argv, 0, NULL, &options);
  static run r;
  int code = look_at_device(&options, &r, &support);
  if (code) return code;
  r.options = &options;
  r.totals.first_failure = -1;
  r.progress = isatty(STDERR_FILENO) && !options.json;
  pthread_mutex_init(&r.lock, NULL);
  struct sigaction action = {.sa_handler = on_interrupt};
  sigaction(SIGINT, &action, NULL);
  double start = now();
  code = run_all(&r);
  if (code) return code;
  double seconds = now() - start;
  code = options.json ? report_json(&options, &r.totals, seconds, support.kernel)
                      : report_text(&options, &r.totals, seconds, support.kernel);
  if (code) return code;
  if (interrupted) return fv_cli_fail(FV_EXIT_INTERRUPTED, "interrupted");
  if (r.totals.out_of_memory) return fv_cli_out_of_memory();
  return passes(&options, &r.totals) ? FV_EXIT_OK : FV_EXIT_MISMATCH;
}
