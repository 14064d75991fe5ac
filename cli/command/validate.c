/* validate.c - `fovea validate`: random problems against the double precision reference.
 *
 * Case i of a seed is drawn from (seed, i) alone, so that one line repeats it. Workers take cases
 * from a counter. Their results are added up in the order of cases, so a run prints the same for
 * any number of workers. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/command/command.h"
#include "cli/command/validate_report.h"
#include "cli/error.h"
#include "cli/flag_value.h"
#include "cli/flags.h"

enum { MAX_WORKERS = 64, SPECIAL_EVERY = 10 };

typedef struct validate_options {
  uint32_t device;
  int32_t ordinal;
  int64_t cases;
  int64_t seed; /* at least 0 */
  int64_t only; /* one case; -1: all */
  int64_t workers;
  const char *filter;
  bool json;
} validate_options;

typedef struct run {
  const validate_options *options;
  atomic_llong next;
  pthread_mutex_t lock;
  fv_totals totals;
  bool progress;
  bool limited; /* the device lacks features, weights, and parts of append */
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

static void add_result(run *r, int64_t index, fv_case_kind kind, const fv_case *c,
                       const fv_case_result *result) {
  pthread_mutex_lock(&r->lock);
  fv_totals *t = &r->totals;
  fv_totals_add(t, index, kind, c, result);
  if (r->progress && t->run % 50 == 0) {
    fprintf(stderr, "\r%lld of %lld cases, %lld failed ", (long long)t->run,
            (long long)r->options->cases, (long long)t->failed);
  }
  pthread_mutex_unlock(&r->lock);
}

/* Every tenth case is one of the other functions, in turn, among those that the device has. */
static fv_case_kind kind_of(const run *r, int64_t index) {
  if (index % SPECIAL_EVERY != SPECIAL_EVERY - 1) return FV_CASE_ATTENTION;
  fv_case_kind kind = (fv_case_kind)(index / SPECIAL_EVERY % 3);
  return r->limited && kind == FV_CASE_WEIGHTS ? FV_CASE_ATTENTION : kind;
}

/* Returns how many cases were drawn and left out because the device does not support them. */
static int64_t draw(const run *r, fovea_handle *handle, int64_t index, fv_case_kind kind,
                    fv_case *c) {
  const validate_options *o = r->options;
  if (kind == FV_CASE_MERGE || kind == FV_CASE_APPEND) {
    snprintf(c->text, sizeof c->text, "case %lld of seed %lld: %s", (long long)index,
             (long long)o->seed, kind == FV_CASE_MERGE ? "merge" : "append");
    return 0;
  }
  if (r->limited) {
    return fv_case_draw_supported((uint64_t)o->seed, (uint64_t)index, handle, r->totals.features,
                                  c);
  }
  fv_case_draw((uint64_t)o->seed, (uint64_t)index, c);
  return 0;
}

static void call(const run *r, fovea_handle *const *handles, int64_t index, fv_case_kind kind,
                 fv_case *c, fv_case_result *result) {
  fv_random random = fv_random_for(~(uint64_t)r->options->seed, (uint64_t)index);
  fovea_handle *one = handles[fv_random_between(&random, 0, FV_CASE_HANDLES - 1)];
  switch (kind) {
    case FV_CASE_MERGE:
      fv_run_merge_case(one, &random, result);
      break;
    case FV_CASE_WEIGHTS:
      fv_run_weights_case(one, c, &random, result);
      break;
    case FV_CASE_APPEND:
      fv_run_append_case(one, r->limited, &random, result);
      break;
    default:
      fv_run_attention_case(handles, c, &random, result);
      break;
  }
}

static void run_case(run *r, fovea_handle *const *handles, int64_t index) {
  const char *filter = r->options->filter;
  const fv_case_kind kind = kind_of(r, index);
  fv_case c = {0};
  fv_case_result result = {0};
  const int64_t left_out = draw(r, handles[0], index, kind, &c);
  if (!filter || strstr(c.text, filter)) {
    if (!c.out_of_memory) call(r, handles, index, kind, &c, &result);
    result.left_out = left_out;
    add_result(r, index, kind, &c, &result);
  }
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
  int workers = r->options->only >= 0 ? 1 : (int)r->options->workers;
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

/* ---- The command ---- */

static bool store_device(const fv_flag *flag, const char *text, void *place) {
  validate_options *o = place;
  (void)flag;
  return fv_parse_device(text, &o->device, &o->ordinal);
}

static bool store_case(const fv_flag *flag, const char *text, void *place) {
  validate_options *o = place;
  o->cases = 1;
  return fv_parse_count(text, flag->low, flag->high, &o->only);
}

#define AT(field) offsetof(validate_options, field)
static const fv_flag own_flags[] = {
    {.name = "device",
     .letter = 'd',
     .takes = "auto|cpu|reference|cuda[:N]",
     .store = store_device,
     .valid = "auto, cpu, reference or cuda[:N]",
     .help = "What to judge (default: auto)"},
    {.name = "cases",
     .letter = 'n',
     .takes = "N",
     .store = fv_flag_number,
     .offset = AT(cases),
     .low = 1,
     .high = INT64_MAX,
     .help = "How many problems (default: 2000)"},
    {.name = "seed",
     .letter = 's',
     .takes = "S",
     .store = fv_flag_number,
     .offset = AT(seed),
     .high = INT64_MAX,
     .help = "Other problems (default: 1)",
     .manual = "The same seed draws the same ones."},
    {.name = "filter",
     .letter = 'f',
     .takes = "TEXT",
     .store = fv_flag_text,
     .offset = AT(filter),
     .help = "Only cases whose description contains TEXT, as 'k=e4m3'"},
    {.name = "case",
     .takes = "I",
     .store = store_case,
     .high = INT64_MAX,
     .valid = "a number from 0 to 9223372036854775807",
     .help = "Only case I of the seed",
     .manual = "What repeats a failure."},
    {.name = "threads",
     .letter = 't',
     .takes = "T",
     .store = fv_flag_number,
     .offset = AT(workers),
     .low = 1,
     .high = 4096,
     .help = "Cases at a time (default: one per processor)",
     .manual = "What is printed does not depend on it."},
    {.name = "json",
     .store = fv_flag_true,
     .offset = AT(json),
     .help = "Report as JSON",
     .manual = "One object, whose fields are below."},
    {0}};

static void refuse_word(void *options, char *word, struct argp_state *state) {
  (void)options;
  argp_error(state, "validate takes no files; '%s' is one too many", word);
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
    "and must give the same bits. Ratios are error / bound: above 1 is wrong; fovea(1) says what "
    "C1 to C10 are. From 20000 cases on the run also fails if a feature or a pair of features was "
    "met "
    "fewer than 50 times.\n"
    "\n"
    "Exit status: 0 right, 1 wrong, 2 usage, 4 no such device, 5 out of memory, 130 interrupted.";

const fv_flags fv_validate_flags = {
    .command = "fovea validate", .help = help, .own = own_flags, .take_word = refuse_word};

static void find_features(run *r, fovea_handle *handle) {
  fv_totals *t = &r->totals;
  t->features = fv_feature_bit(FV_FEATURE_COUNT) - 1;
  if (r->limited) t->features = fv_case_find_features(handle);
  for (int f = 0; f < FV_FEATURE_COUNT; ++f) {
    t->company[f] = t->features;
    if (r->limited) t->company[f] = fv_case_find_company(handle, t->features, (fv_feature)f);
  }
}

/* Finds the kernel that runs a plain problem on the device, and the features of a device that lacks
 * some. */
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
  long processors = sysconf(_SC_NPROCESSORS_ONLN);
  options.workers = processors < 1 ? 1 : processors;
  fv_flags_parse(&fv_validate_flags, argc, argv, &options);
  if (options.workers > MAX_WORKERS) options.workers = MAX_WORKERS;
  static run r;
  int code = look_at_device(&options, &r, &support);
  if (code) return code;
  r.options = &options;
  r.progress = isatty(STDERR_FILENO) && !options.json;
  pthread_mutex_init(&r.lock, NULL);
  struct sigaction action = {.sa_handler = on_interrupt};
  sigaction(SIGINT, &action, NULL);
  double start = now();
  code = run_all(&r);
  if (code) return code;
  const fv_validation found = {.device = fv_device_name(options.device),
                               .kernel = support.kernel,
                               .seed = (uint64_t)options.seed,
                               .seconds = now() - start,
                               .interrupted = interrupted,
                               .held_to_coverage = options.cases >= FV_COVERAGE_CASES &&
                                                   options.only < 0 && !options.filter &&
                                                   !interrupted,
                               .totals = &r.totals};
  code = fv_validation_report(&found, options.json);
  if (code) return code;
  if (interrupted) return fv_cli_fail(FV_EXIT_INTERRUPTED, "interrupted");
  if (r.totals.out_of_memory) return fv_cli_out_of_memory();
  return fv_validation_passes(&found) ? FV_EXIT_OK : FV_EXIT_MISMATCH;
}
