/* digits.c - a hand-written digit is read by attention over its regions.
 *
 *   an image of 8 x 8 pixels is cut into 16 windows of 4 x 4, which overlap
 *   each becomes a token; their mean is what the image looks like at first sight
 *   that asks the tokens, in 4 heads, and adds the answer to itself
 *   ten logits
 *
 * It judges the 450 test images and shows where the model looked for one of them. The weights and
 * the formulas are those of examples/models. */
#include <fovea_layers.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "examples/model.h"

enum {
  SIDE = 8,
  PIXELS = SIDE * SIDE,
  REGIONS = 16,
  PATCH = 16,
  WIDTH = 64,
  HEADS = 4,
  DIGITS = 10
};

typedef struct reading {
  float logits[DIGITS];
  float weights[HEADS][REGIONS];
  int digit;
} reading;

/* Window 4 r + c begins at row 2 r, column 2 c of the image in its rim of zeros. */
static void cut_regions(const int pixels[PIXELS], float regions[REGIONS][PATCH]) {
  for (int region = 0; region < REGIONS; ++region) {
    for (int i = 0; i < PATCH; ++i) {
      int y = region / 4 * 2 + i / 4 - 1, x = region % 4 * 2 + i % 4 - 1;
      int inside = y >= 0 && y < SIDE && x >= 0 && x < SIDE;
      regions[region][i] = inside ? (float)pixels[y * SIDE + x] / 16 : 0;
    }
  }
}

/* Tokens of the regions: their pixels, their place, and one step of mixing. */
static void make_tokens(model *m, const int pixels[PIXELS], float tokens[REGIONS][WIDTH]) {
  float regions[REGIONS][PATCH], mixed[REGIONS][WIDTH];
  cut_regions(pixels, regions);
  const float *position = model_floats(m, "position", REGIONS, WIDTH);
  float *elements = tokens[0]; /* of all tokens */
  model_apply(m, model_linear(m, "region", WIDTH, PATCH, FOVEA_ACTIVATION_NONE), regions[0],
              REGIONS, position, elements);
  for (int i = 0; i < REGIONS * WIDTH; ++i) elements[i] = elements[i] > 0 ? elements[i] : 0;
  model_apply(m, model_linear(m, "mix", WIDTH, WIDTH, FOVEA_ACTIVATION_RELU), elements, REGIONS,
              elements, mixed[0]);
  memcpy(tokens, mixed, sizeof mixed);
}

/* The summary is the query; it is the residual too. */
static void ask(model *m, float tokens[REGIONS][WIDTH], float summary[WIDTH], float answer[WIDTH],
                reading *result) {
  fovea_source source = {
      .x_k = fovea_contiguous(tokens, FOVEA_F32, 1, REGIONS, 1, WIDTH),
      .k_proj = model_linear(m, "attention.key", WIDTH, WIDTH, FOVEA_ACTIVATION_NONE),
      .v_proj = model_linear(m, "attention.value", WIDTH, WIDTH, FOVEA_ACTIVATION_NONE)};
  fovea_multihead_args args = {
      .struct_size = sizeof args,
      .heads_q = HEADS,
      .heads_kv = HEADS,
      .dim = WIDTH / HEADS,
      .dim_v = WIDTH / HEADS,
      .source_count = 1,
      .sources = &source,
      .q_proj = model_linear(m, "attention.query", WIDTH, WIDTH, FOVEA_ACTIVATION_NONE),
      .out_proj = model_linear(m, "attention.output", WIDTH, WIDTH, FOVEA_ACTIVATION_NONE)};
  args.x = args.residual = fovea_contiguous(summary, FOVEA_F32, 1, 1, 1, WIDTH);
  args.out = fovea_contiguous(answer, FOVEA_F32, 1, 1, 1, WIDTH);
  args.weights = fovea_contiguous(result->weights, FOVEA_F32, 1, 1, HEADS, REGIONS);
  model_attend(m, args);
}

static void read_digit(model *m, const int pixels[PIXELS], reading *result) {
  float tokens[REGIONS][WIDTH], summary[WIDTH] = {0}, answer[WIDTH];
  make_tokens(m, pixels, tokens);
  for (int region = 0; region < REGIONS; ++region) {
    for (int i = 0; i < WIDTH; ++i) summary[i] += tokens[region][i] / REGIONS;
  }
  ask(m, tokens, summary, answer, result);
  model_apply(m, model_linear(m, "classes", DIGITS, WIDTH, FOVEA_ACTIVATION_NONE), answer, 1, NULL,
              result->logits);
  result->digit = 0;
  for (int d = 1; d < DIGITS; ++d) {
    if (result->logits[d] > result->logits[result->digit]) result->digit = d;
  }
}

/* ---- Test images ---- */

/* Line n: "label pixel pixel ..." Returns the label. */
static int parse_image(const model_lines *images, int n, int pixels[PIXELS]) {
  char *end;
  long label = strtol(images->at[n], &end, 10);
  if (end == images->at[n] || label < 0 || label >= DIGITS) {
    model_fail_line(images, n, "does not begin with a digit");
  }
  for (int i = 0; i < PIXELS; ++i) {
    const char *begin = end;
    long pixel = strtol(begin, &end, 10);
    if (end == begin || pixel < 0 || pixel > 16) {
      model_fail_line(images, n, "is no image: 64 pixels of 0 to 16 must follow the label");
    }
    pixels[i] = (int)pixel;
  }
  return (int)label;
}

/* How much of the attention, over all heads, falls on each pixel; the largest is 1. */
static void shade_pixels(const reading *result, float shades[PIXELS]) {
  float most = 0;
  memset(shades, 0, PIXELS * sizeof *shades);
  for (int i = 0; i < REGIONS * PATCH; ++i) {
    int region = i / PATCH, place = i % PATCH;
    int y = region / 4 * 2 + place / 4 - 1, x = region % 4 * 2 + place % 4 - 1;
    if (y < 0 || y >= SIDE || x < 0 || x >= SIDE) continue;
    for (int head = 0; head < HEADS; ++head) shades[y * SIDE + x] += result->weights[head][region];
  }
  for (int i = 0; i < PIXELS; ++i) most = shades[i] > most ? shades[i] : most;
  for (int i = 0; i < PIXELS; ++i) shades[i] /= most;
}

static void draw(const int pixels[PIXELS], const reading *result, int label) {
  static const char ink[5] = {' ', '.', 'o', 'O', '@'};
  float shades[PIXELS];
  shade_pixels(result, shades);
  printf("\nread as %d, labelled %d; shaded where the model looked\n\n", result->digit, label);
  for (int y = 0; y < SIDE; ++y) {
    printf("  ");
    for (int x = 0; x < SIDE; ++x) {
      model_print_cell(ink[(pixels[y * SIDE + x] + 3) / 4], shades[y * SIDE + x],
                       isatty(STDOUT_FILENO));
    }
    printf("\n");
  }
}

static void print_numbers(const reading *result, int number) {
  model_print_integers("input", &number, 1);
  model_print_table("logits", result->logits, 1, DIGITS);
  model_print_table("weights", result->weights[0], HEADS, REGIONS);
}

static const char help[] =
    "usage: digits [--numbers] [N]\n\n"
    "Reads hand-written digits by attention over their regions: judges the test images, and shows\n"
    "where the model looked in image N (default: 0). --numbers prints that image's logits and\n"
    "attention weights instead. Run it where examples/models is.\n";

int main(int argc, char **argv) {
  int numbers = argc > 1 && !strcmp(argv[1], "--numbers"), right = 0, pixels[PIXELS];
  if (argc > 2 + numbers || (argc > 1 && !numbers && argv[1][0] == '-')) {
    fputs(help, strcmp(argv[1], "--help") ? stderr : stdout);
    return strcmp(argv[1], "--help") ? 2 : 0;
  }
  model m = model_open("examples/models/digits.weights");
  model_lines images = model_read_lines("examples/models/digits.test.txt");
  int chosen = argc > 1 + numbers ? model_number(argv[1 + numbers], images.count) : 0;
  reading result;
  for (int n = 0; n < images.count && !numbers; ++n) {
    int label = parse_image(&images, n, pixels);
    read_digit(&m, pixels, &result);
    right += result.digit == label;
  }
  if (!numbers)
    printf("%d of %d right: %.1f %%\n", right, images.count, 100.0 * right / images.count);
  int label = parse_image(&images, chosen, pixels);
  read_digit(&m, pixels, &result);
  if (numbers) {
    print_numbers(&result, chosen);
  } else {
    draw(pixels, &result, label);
  }
  model_free_lines(&images);
  model_close(&m);
  return 0;
}
