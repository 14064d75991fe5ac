/* map.c - `fovea map`: the weights of one batch row as a heat map, in a file or in the terminal. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/command/command.h"
#include "cli/command/map.h"
#include "cli/command/report.h"
#include "cli/error.h"
#include "cli/flag_value.h"
#include "cli/input/arguments.h"
#include "cli/input/tokens.h"

/* ---- What both places of weights share ---- */

int fv_map_choose_heads(const fv_map_options *options, const char *label, int64_t batches,
                        int64_t heads, fv_map_data *map) {
  if (options->batch >= batches) {
    return fv_cli_fail(FV_EXIT_USAGE, "--batch %lld: %s has %lld batch rows, counted from 0",
                       (long long)options->batch, label, (long long)batches);
  }
  if (options->one_head && options->head >= heads) {
    return fv_cli_fail(FV_EXIT_USAGE, "--head %lld: %s has %lld heads, counted from 0",
                       (long long)options->head, label, (long long)heads);
  }
  bool all = options->all_heads || (options->mass && !options->one_head);
  map->first_head = options->head;
  map->heads = all ? heads : heads < 1 ? 0 : 1;
  return FV_EXIT_OK;
}

int fv_map_refuse_empty(const fv_map_options *options, const char *label, const fv_map_data *map) {
  if (map->heads >= 1 && map->rows >= 1 && map->keys >= 1) return FV_EXIT_OK;
  return fv_cli_fail(FV_EXIT_INPUT, "%s: batch row %lld has nothing to draw", label,
                     (long long)options->batch);
}

/* 2^26 weights take the CPU about half a second: from there on users want to see progress. */
static const int64_t long_work = INT64_C(1) << 26;

/* The line is gone at the end. */
void fv_map_show_progress(const fv_map_data *map, int64_t done) {
  int64_t rows = map->heads * map->rows;
  if (rows < long_work / map->keys || !isatty(STDERR_FILENO)) return;
  if (done < rows)
    fprintf(stderr, "\rfovea map: %d %%", (int)(100.0 * (double)done / (double)rows));
  if (done == rows) fputs("\r\033[K", stderr);
}

/* ---- Drawing ---- */

/* The parts of a picture that are made from the data. */
typedef struct drawing {
  fv_heatmap_panel *panels;
  const char **names; /* of the heads drawn */
  char (*numbers)[32];
} drawing;

static const char *name_of(const fv_map_data *map, const drawing *made, int64_t h) {
  const char *name = map->head_names ? map->head_names[map->first_head + h] : "";
  return *name ? name : made->numbers[h];
}

static bool make_drawing(const fv_map_data *map, bool mass, drawing *made) {
  size_t heads = (size_t)map->heads, cells = map->grid.cell_rows * map->grid.cell_cols;
  made->panels = calloc(heads, sizeof *made->panels);
  made->names = calloc(heads, sizeof *made->names);
  made->numbers = calloc(heads, sizeof *made->numbers);
  if (!made->panels || !made->names || !made->numbers) return false;
  for (int64_t h = 0; h < map->heads; ++h) {
    snprintf(made->numbers[h], sizeof made->numbers[h], mass ? "%lld" : "head %lld",
             (long long)(map->first_head + h));
    made->names[h] = name_of(map, made, h);
    made->panels[h].title = made->names[h];
    made->panels[h].weights = map->grid.cells + (mass ? 0 : (size_t)h * cells);
  }
  return true;
}

static void free_drawing(drawing *made) {
  free(made->panels);
  free(made->names);
  free(made->numbers);
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

static int draw(const fv_map_options *options, const fv_heatmap *heatmap) {
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

/* Masses are one panel, whose rows are heads. */
static int draw_made(const fv_map_options *options, const fv_map_data *map, const drawing *made) {
  char quantity[80];
  snprintf(quantity, sizeof quantity, "mass: the weights of %lld quer%s, added up",
           (long long)map->rows, map->rows == 1 ? "y" : "ies");
  fv_heatmap heatmap = {.panels = made->panels,
                        .panel_count = options->mass ? 1 : (size_t)map->heads,
                        .rows = map->grid.cell_rows,
                        .cols = map->grid.cell_cols,
                        .rows_per_cell = map->grid.rows_per_cell,
                        .cols_per_cell = map->grid.cols_per_cell,
                        .row_labels = (const char *const *)map->row_labels,
                        .col_labels = (const char *const *)map->key_labels,
                        .title = map->title.title,
                        .subtitle = map->title.subtitle,
                        .row_axis = map->row_axis,
                        .col_axis = map->key_axis,
                        .quantity = map->quantity,
                        .scale = options->scale};
  if (options->mass) {
    heatmap.row_labels = made->names;
    heatmap.row_axis = "head";
    heatmap.quantity = quantity;
  }
  return draw(options, &heatmap);
}

static int draw_map(const fv_map_options *options, const fv_map_data *map) {
  drawing made = {0};
  int code = make_drawing(map, options->mass, &made) ? draw_made(options, map, &made)
                                                     : fv_cli_out_of_memory();
  free_drawing(&made);
  return code;
}

/* ---- The command ---- */

static bool store_head(const fv_flag *flag, const char *text, void *place) {
  fv_map_options *options = place;
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
    ((fv_map_options *)place)->scale = scales[i].scale;
    return true;
  }
  return false;
}

#define AT(field) offsetof(fv_map_options, field)
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
  const fv_map_options *options = opaque;
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
    "  fovea map weights.npy --all-heads\n"
    "\n"
    "A file without q that has a tensor `weights` holds the weights themselves, [queries, keys] "
    "with "
    "[heads] and [batch] before them if there are such: those of a layer, or of any program; an "
    ".npy "
    "file is that tensor alone. Metadata title, head_names, query_axis, key_axis and quantity name "
    "them.\n"
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
                               .operand = "FILE.safetensors|npy",
                               .help = help,
                               .input = fv_input_flags,
                               .own = own_flags,
                               .take_word = fv_input_take_word,
                               .check = check};

static void free_map(fv_map_data *map) {
  if (map->row_labels != map->key_labels) fv_tokens_free(map->row_labels);
  fv_tokens_free(map->key_labels);
  fv_tokens_free(map->head_names);
  free(map->row_axis);
  free(map->key_axis);
  free(map->quantity);
  free(map->grid.cells);
}

int fv_command_map(int argc, char **argv) {
  fv_map_options options = {.input = {.window_left = -1, .window_right = -1},
                            .scale = FV_HEATMAP_SCALE_PANEL};
  fv_map_data map = {0};
  /* A terminal's map may go to a file that may not grow: that is an error of the write, not a
   * signal. */
  signal(SIGXFSZ, SIG_IGN);
  fv_flags_parse(&fv_map_flags, argc, argv, &options);
  bool weights = fv_map_lacks_queries(options.input.file);
  int code = weights ? fv_map_weights(&options, &map) : fv_map_attention(&options, &map);
  if (!code) code = draw_map(&options, &map);
  free_map(&map);
  return code;
}
