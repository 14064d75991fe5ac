/* map.c - `fovea map`: the weights of one batch row as a heat map, in a file or in the terminal. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/command/command.h"
#include "cli/command/map_title.h"
#include "cli/command/output_path.h"
#include "cli/command/report.h"
#include "cli/error.h"
#include "cli/flag_value.h"
#include "cli/heatmap/grid.h"
#include "cli/heatmap/heatmap.h"
#include "cli/heatmap/weight_bands.h"
#include "cli/input/arguments.h"
#include "cli/input/tokens.h"

typedef struct map_options {
  fv_input_options input; /* first: input flags and words store into it */
  const char *output;
  int64_t batch, head;
  bool one_head, all_heads; /* as given on the command line */
  bool mass;                /* of keys, instead of weights */
  fv_heatmap_scale scale;
} map_options;

/* The part of a batch row that holds real tokens, its weights reduced to what a page can show. */
typedef struct map_data {
  int64_t rows, keys, heads, first_head;
  fv_heatmap_grid grid;
  char **row_labels, **key_labels; /* tokens; with --mass heads have labels of their own: */
  const char **head_labels;
  fv_heatmap_panel *panels;
  char (*titles)[32];
} map_data;

/* ---- Weights ---- */

/* Keys up to the last one that the attention mask leaves visible; the rest is padding. */
static int64_t real_keys(const fv_input *input, int64_t batch) {
  int64_t keys = input->args.k.shape[1];
  if (!input->mask) return keys;
  const unsigned char *mask = input->mask + batch * keys;
  while (keys > 0 && !mask[keys - 1]) --keys;
  return keys;
}

/* 2^26 weights take the CPU about half a second: from there on users want to see progress. */
static const int64_t long_work = INT64_C(1) << 26;

/* On a terminal, after each band; the line is gone at the end. */
static void show_progress(const map_data *map, int64_t done) {
  int64_t rows = map->heads * map->rows;
  if (rows < long_work / map->keys || !isatty(STDERR_FILENO)) return;
  if (done < rows)
    fprintf(stderr, "\rfovea map: %d %%", (int)(100.0 * (double)done / (double)rows));
  if (done == rows) fputs("\r\033[K", stderr);
}

static int compute_head(fv_weight_bands *bands, map_data *map, int64_t h) {
  int64_t count;
  for (int64_t begin = 0; begin < map->rows; begin += count) {
    count = map->rows - begin < bands->band_rows ? map->rows - begin : bands->band_rows;
    int code = fv_weight_bands_compute(bands, map->first_head + h, begin, count);
    if (code) return code;
    for (int64_t r = 0; r < count; ++r) {
      fv_heatmap_grid_add(&map->grid, (size_t)h, (size_t)(begin + r),
                          bands->weights + r * bands->keys);
    }
    show_progress(map, h * map->rows + begin + count);
  }
  return FV_EXIT_OK;
}

static int compute_weights(fovea_handle *handle, const fv_input *input, int64_t batch,
                           map_data *map) {
  if (!fv_heatmap_grid_make(&map->grid, (size_t)map->heads, (size_t)map->rows, (size_t)map->keys)) {
    return fv_cli_out_of_memory();
  }
  fv_weight_bands bands;
  int code = fv_weight_bands_open(&bands, handle, input, batch, map->rows, map->keys);
  for (int64_t h = 0; !code && h < map->heads; ++h) code = compute_head(&bands, map, h);
  fv_weight_bands_close(&bands);
  return code;
}

/* ---- Mass ---- */

/* One row per head of the drawing. */
static int add_up(fovea_handle *handle, const fv_input *input, int64_t batch, map_data *map,
                  int32_t *heads, float *mass) {
  int32_t sequence = (int32_t)batch;
  fovea_weights_args args = {.struct_size = sizeof args, .attention = &input->args};
  for (int64_t h = 0; h < map->heads; ++h) heads[h] = (int32_t)(map->first_head + h);
  args.sequences = &sequence;
  args.heads = heads;
  args.row_count = map->rows;
  args.mass = fovea_contiguous(mass, FOVEA_F32, 1, 1, map->heads, map->keys);
  fovea_status status = fovea_attention_weights(handle, &args, NULL);
  if (status != FOVEA_OK) return fv_cli_fail_call(input->label, status);
  for (int64_t h = 0; h < map->heads; ++h)
    fv_heatmap_grid_add(&map->grid, 0, (size_t)h, mass + h * map->keys);
  return FV_EXIT_OK;
}

static int compute_mass(fovea_handle *handle, const fv_input *input, int64_t batch, map_data *map) {
  size_t heads = (size_t)map->heads, keys = (size_t)map->keys;
  if (!fv_heatmap_grid_make(&map->grid, 1, heads, keys)) return fv_cli_out_of_memory();
  int32_t *numbers = malloc(heads * sizeof *numbers);
  float *mass = malloc(heads * keys * sizeof *mass);
  int code =
      numbers && mass ? add_up(handle, input, batch, map, numbers, mass) : fv_cli_out_of_memory();
  free(numbers);
  free(mass);
  return code;
}

static int compute(const map_options *options, fovea_handle *handle, const fv_input *input,
                   map_data *map) {
  if (map->heads < 1 || map->rows < 1 || map->keys < 1) {
    return fv_cli_fail(FV_EXIT_INPUT, "%s: batch row %lld has nothing to draw", input->label,
                       (long long)options->batch);
  }
  return options->mass ? compute_mass(handle, input, options->batch, map)
                       : compute_weights(handle, input, options->batch, map);
}

/* ---- Drawing ---- */

static int make_panels(map_data *map) {
  size_t cells = map->grid.cell_rows * map->grid.cell_cols;
  map->panels = calloc((size_t)map->heads, sizeof *map->panels);
  map->titles = calloc((size_t)map->heads, sizeof *map->titles);
  if (!map->panels || !map->titles) return fv_cli_out_of_memory();
  for (int64_t h = 0; h < map->heads; ++h) {
    snprintf(map->titles[h], sizeof map->titles[h], "head %lld", (long long)(map->first_head + h));
    map->panels[h].weights = map->grid.cells + (size_t)h * cells;
    map->panels[h].title = map->titles[h];
  }
  return FV_EXIT_OK;
}

/* One panel, whose rows are heads. */
static int make_strips(map_data *map) {
  map->panels = calloc(1, sizeof *map->panels);
  map->titles = calloc((size_t)map->heads, sizeof *map->titles);
  map->head_labels = calloc((size_t)map->heads, sizeof *map->head_labels);
  if (!map->panels || !map->titles || !map->head_labels) return fv_cli_out_of_memory();
  map->panels[0].weights = map->grid.cells;
  for (int64_t h = 0; h < map->heads; ++h) {
    snprintf(map->titles[h], sizeof map->titles[h], "%lld", (long long)(map->first_head + h));
    map->head_labels[h] = map->titles[h];
  }
  return FV_EXIT_OK;
}

static size_t terminal_width(void) {
  struct winsize size;
  const char *columns = getenv("COLUMNS");
  if (columns && atoi(columns) > 0) return (size_t)atoi(columns);
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

static bool wants_color(void) {
  const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
  if (no_color && *no_color) return false;
  return isatty(STDOUT_FILENO) && term && strcmp(term, "dumb");
}

static bool has_utf8(void) {
  const char *locale = getenv("LC_ALL");
  if (!locale || !*locale) locale = getenv("LC_CTYPE");
  if (!locale || !*locale) locale = getenv("LANG");
  return locale && (strstr(locale, "UTF-8") || strstr(locale, "utf8"));
}

static int draw(const map_options *options, const fv_heatmap *heatmap) {
  char error[512] = "the map cannot be drawn in the terminal";
  fv_heatmap_status status;
  if (options->output) {
    status = fv_heatmap_write(heatmap, options->output, error, sizeof error);
    fv_heatmap_release();
  } else {
    fv_heatmap_terminal_options terminal = {terminal_width(), 0, wants_color(), has_utf8()};
    status = fv_heatmap_terminal(heatmap, stdout, &terminal);
  }
  if (status == FV_HEATMAP_OK || ferror(stdout)) return fv_report_finish();
  int code = FV_EXIT_OUTPUT;
  if (status == FV_HEATMAP_UNKNOWN_FORMAT) code = FV_EXIT_USAGE;
  if (status == FV_HEATMAP_BAD_MAP) code = FV_EXIT_INPUT;
  return fv_cli_fail(code, "%s", error);
}

static int draw_map(const map_options *options, const fv_input *input, map_data *map) {
  fv_map_title title;
  char quantity[80];
  snprintf(quantity, sizeof quantity, "mass: the weights of %lld quer%s, added up",
           (long long)map->rows, map->rows == 1 ? "y" : "ies");
  fv_map_title_write(&title, input, options->batch, map->first_head, map->heads, options->mass);
  fv_heatmap heatmap = {.panels = map->panels,
                        .panel_count = options->mass ? 1 : (size_t)map->heads,
                        .rows = map->grid.cell_rows,
                        .cols = map->grid.cell_cols,
                        .rows_per_cell = map->grid.rows_per_cell,
                        .cols_per_cell = map->grid.cols_per_cell,
                        .row_labels = (const char *const *)map->row_labels,
                        .col_labels = (const char *const *)map->key_labels,
                        .title = title.title,
                        .subtitle = title.subtitle,
                        .scale = options->scale};
  if (options->mass) {
    heatmap.row_labels = map->head_labels;
    heatmap.row_axis = "head";
    heatmap.quantity = quantity;
  }
  return draw(options, &heatmap);
}

/* ---- The command ---- */

static bool store_head(const fv_flag *flag, const char *text, void *place) {
  map_options *options = place;
  options->one_head = true;
  return fv_parse_count(text, flag->low, flag->high, &options->head);
}

static bool store_colors(const fv_flag *flag, const char *text, void *place) {
  static const struct {
    const char *name;
    fv_heatmap_scale scale;
  } scales[] = {{"head", FV_HEATMAP_SCALE_PANEL},
                {"shared", FV_HEATMAP_SCALE_MAX},
                {"root", FV_HEATMAP_SCALE_ROOT}};
  (void)flag;
  for (size_t i = 0; i < sizeof scales / sizeof *scales; ++i) {
    if (strcmp(text, scales[i].name)) continue;
    ((map_options *)place)->scale = scales[i].scale;
    return true;
  }
  return false;
}

#define AT(field) offsetof(map_options, field)
static const fv_flag own_flags[] = {
    {.help = "Picture:"},
    {.name = "batch",
     .letter = 'b',
     .takes = "B",
     .store = fv_flag_number,
     .offset = AT(batch),
     .high = INT32_MAX,
     .help = "Batch row (default: 0)"},
    {.name = "head",
     .takes = "H",
     .store = store_head,
     .high = INT32_MAX,
     .valid = "a number from 0 to 2147483647",
     .help = "Query head (default: 0)"},
    {.name = "all-heads",
     .store = fv_flag_true,
     .offset = AT(all_heads),
     .help = "All heads, side by side"},
    {.name = "mass",
     .store = fv_flag_true,
     .offset = AT(mass),
     .help = "The mass of each key, which is the sum of its weights over all queries: a strip per "
             "head, all heads unless --head says one",
     .manual =
         "Caches evict keys by their mass, and attention sinks stand out in it. A batch row's "
         "padding is no query. The colours go up to the largest mass drawn; `--colors root` "
         "shows faint keys beside a sink."},
    {.name = "colors",
     .takes = "head|shared|root",
     .store = store_colors,
     .valid = "head, shared or root",
     .help = "Each head from 0 to its own largest weight (head, the default), all heads from 0 to "
             "the largest of all (shared), or as head, by the square root, which shows faint "
             "weights (root)",
     .manual = "The largest is the darkest colour, in the terminal the lightest. With `head` it "
               "stands in brackets beside the head's name; with `shared` heads can be compared; "
               "with `root` what weighs a hundredth of the largest has a tenth of its colour. The "
               "legend names the scale."},
    {.name = "output",
     .letter = 'o',
     .takes = "FILE.png|svg|pdf",
     .store = fv_flag_text,
     .offset = AT(output),
     .help = "Where to draw (default: the terminal)"},
    {0}};

static void check(const void *opaque, struct argp_state *state) {
  const map_options *options = opaque;
  fv_input_check(&options->input, state);
  if (options->one_head && options->all_heads) {
    argp_error(state, "give either --head or --all-heads, not both");
  }
}

static const char help[] =
    "Draws attention weights as a heat map: one row per query, one column per key."
    "\v"
    "Examples:\n"
    "  fovea map examples/data/street-layer3.safetensors --head 5\n"
    "  fovea map street.safetensors --all-heads --output heads.png\n"
    "  fovea map street.safetensors --causal bottom-right --output causal.svg\n"
    "  fovea map street.safetensors --mass --output mass.svg\n"
    "\n"
    "Labels are the tokens in the file's metadata, if it has any: tokens for the keys, and for the "
    "queries too where there are as many; query_tokens for the queries. Keys that its "
    "attention_mask hides at the end of a row are padding and left out; other keys that a query "
    "does not see are hatched or grey. Maps too large for a page show the largest weight of each "
    "block.\n"
    "\n"
    "Exit status: 0 drawn, 2 usage, 3 input missing or invalid, 4 no such device or kernel, 5 "
    "output not writable or out of memory, 130 interrupted.";

const fv_flags fv_map_flags = {.command = "fovea map",
                               .operand = "FILE.safetensors",
                               .help = help,
                               .input = fv_input_flags,
                               .own = own_flags,
                               .take_word = fv_input_take_word,
                               .check = check};

static int choose_part(const map_options *options, const fv_input *input, map_data *map) {
  const fovea_tensor *q = &input->args.q;
  if (options->batch >= q->shape[0]) {
    return fv_cli_fail(FV_EXIT_USAGE, "--batch %lld: %s has %lld batch rows, counted from 0",
                       (long long)options->batch, input->label, (long long)q->shape[0]);
  }
  if (options->one_head && options->head >= q->shape[2]) {
    return fv_cli_fail(FV_EXIT_USAGE, "--head %lld: %s has %lld heads, counted from 0",
                       (long long)options->head, input->label, (long long)q->shape[2]);
  }
  map->keys = real_keys(input, options->batch);
  /* Self-attention pads queries like keys. Queries with tokens of their own are no self-attention.
   */
  bool others = fv_tensor_file_metadata(input->files[0], "query_tokens");
  bool self = !others && q->shape[1] == input->args.k.shape[1];
  map->rows = self ? map->keys : q->shape[1];
  bool all = options->all_heads || (options->mass && !options->one_head);
  map->first_head = options->head;
  map->heads = all ? q->shape[2] : q->shape[2] < 1 ? 0 : 1;
  return FV_EXIT_OK;
}

/* Tokens name the keys. They also name the rows if there are as many rows, as in self-attention,
 * and nothing else names those. */
static int read_labels(const map_options *options, const fv_input *input, map_data *map) {
  const char *of_queries = fv_tensor_file_metadata(input->files[0], "query_tokens");
  int64_t rows = input->args.q.shape[1], keys = input->args.k.shape[1];
  int code =
      fv_tokens_read(input->tokens, "tokens", input->label, options->batch, keys, &map->key_labels);
  if (!code && of_queries) {
    code = fv_tokens_read(of_queries, "query_tokens", input->label, options->batch, rows,
                          &map->row_labels);
  }
  if (!code && !of_queries && rows == keys) map->row_labels = map->key_labels;
  return code;
}

static void free_map(const fv_input *input, map_data *map) {
  if (map->row_labels != map->key_labels) {
    fv_tokens_free(map->row_labels, input->args.q.shape[1]);
  }
  fv_tokens_free(map->key_labels, input->args.k.shape[1]);
  free(map->panels);
  free(map->titles);
  free(map->head_labels);
  free(map->grid.cells);
}

/* Labels come first: they are refused before the work, not after it. */
static int map(const map_options *options, const fv_input *input) {
  map_data data = {0};
  fovea_handle *handle;
  int code = choose_part(options, input, &data);
  if (!code && options->output) code = fv_output_path_check(options->output, input);
  if (!code) code = fv_input_device(&options->input, &handle);
  if (code) return code;
  code = read_labels(options, input, &data);
  if (!code) code = compute(options, handle, input, &data);
  fovea_destroy(handle);
  if (!code) code = options->mass ? make_strips(&data) : make_panels(&data);
  if (!code) code = draw_map(options, input, &data);
  free_map(input, &data);
  return code;
}

int fv_command_map(int argc, char **argv) {
  map_options options = {.input = {.window_left = -1, .window_right = -1},
                         .scale = FV_HEATMAP_SCALE_PANEL};
  fv_input input;
  /* A terminal's map may go to a file that may not grow: that is an error of the write, not a
   * signal. */
  signal(SIGXFSZ, SIG_IGN);
  fv_flags_parse(&fv_map_flags, argc, argv, &options);
  int code = fv_input_open(&options.input, &input);
  if (code) return code;
  code = map(&options, &input);
  fv_input_close(&input);
  return code;
}
