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

/* For each pixel the mean over some heads of the weights of the regions that it is part of. */
static void shade_pixels(const reading *result, int first_head, int heads, float shades[PIXELS]) {
  memset(shades, 0, PIXELS * sizeof *shades);
  for (int i = 0; i < REGIONS * PATCH; ++i) {
    int region = i / PATCH, place = i % PATCH;
    int y = region / 4 * 2 + place / 4 - 1, x = region % 4 * 2 + place % 4 - 1;
    if (y < 0 || y >= SIDE || x < 0 || x >= SIDE) continue;
    for (int h = 0; h < heads; ++h) {
      shades[y * SIDE + x] += result->weights[first_head + h][region] / (float)heads;
    }
  }
}

static float largest(const float shades[PIXELS]) {
  float most = shades[0];
  for (int i = 1; i < PIXELS; ++i) most = shades[i] > most ? shades[i] : most;
  return most;
}

static void draw(const int pixels[PIXELS], const reading *result, int label) {
  static const char ink[5] = {' ', '.', 'o', 'O', '@'};
  float shades[PIXELS];
  shade_pixels(result, 0, HEADS, shades);
  float most = largest(shades);
  printf("read as %d, labelled %d; shaded where the model looked\n\n", result->digit, label);
  for (int y = 0; y < SIDE; ++y) {
    printf("  ");
    for (int x = 0; x < SIDE; ++x) {
      model_print_cell(ink[(pixels[y * SIDE + x] + 3) / 4], shades[y * SIDE + x] / most,
                       isatty(STDOUT_FILENO));
    }
    printf("\n");
  }
}

/* The image itself, all heads, each head. */
static void write_map(const char *path, const int pixels[PIXELS], const reading *result,
                      int label) {
  static const char *const names[2 + HEADS] = {"the image", "all heads", "head 0",
                                               "head 1",    "head 2",    "head 3"};
  float panels[2 + HEADS][PIXELS];
  char title[80];
  snprintf(title, sizeof title, "read as %d, labelled %d", result->digit, label);
  for (int i = 0; i < PIXELS; ++i) panels[0][i] = (float)pixels[i] / 16;
  shade_pixels(result, 0, HEADS, panels[1]);
  for (int h = 0; h < HEADS; ++h) shade_pixels(result, h, 1, panels[2 + h]);
  model_picture picture = {.title = title,
                           .row_axis = "pixel row",
                           .key_axis = "column",
                           .quantity = "ink, and the weights of the regions around a pixel",
                           .heads = 2 + HEADS,
                           .rows = SIDE,
                           .keys = SIDE,
                           .weights = panels[0],
                           .head_names = names};
  model_write_picture(path, &picture);
}

static void print_numbers(const reading *result, int number) {
  model_print_integers("input", &number, 1);
  model_print_table("logits", result->logits, 1, DIGITS);
  model_print_table("weights", result->weights[0], HEADS, REGIONS);
}

static void judge_all(model *m, const model_lines *images) {
  int right = 0, pixels[PIXELS];
  reading result;
  for (int n = 0; n < images->count; ++n) {
    int label = parse_image(images, n, pixels);
    read_digit(m, pixels, &result);
    right += result.digit == label;
  }
  printf("%d of %d right: %.1f %%\n\n", right, images->count, 100.0 * right / images->count);
}

static const char help[] =
    "usage: digits [N | --map FILE.safetensors [N] | --numbers N]\n\n"
    "Reads a hand-written digit by attention over its regions, and shows where the model looked "
    "in\n"
    "test image N. Without one it judges all test images first and shows number 0. --map writes "
    "the\n"
    "weights that `fovea map --all-heads` draws. --numbers prints the logits and weights. Run it\n"
    "where examples/models is.\n";

int main(int argc, char **argv) {
  model_arguments given = model_read_arguments(argc, argv, help);
  model m = model_open("examples/models/digits.weights");
  model_lines images = model_read_lines("examples/models/digits.test.txt");
  int chosen = given.what ? model_number(given.what, images.count) : 0, pixels[PIXELS];
  reading result;
  if (argc == 1) judge_all(&m, &images);
  int label = parse_image(&images, chosen, pixels);
  read_digit(&m, pixels, &result);
  if (given.map) write_map(given.map, pixels, &result, label);
  if (given.numbers) {
    print_numbers(&result, chosen);
  } else {
    draw(pixels, &result, label);
  }
  model_free_lines(&images);
  model_close(&m);
  return 0;
}
