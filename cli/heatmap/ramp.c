/* ramp.c: a sequential colour map whose steps look equal.
 *
 * One Bezier curve through Oklab, from paper over apricot, rose and plum to ink. Oklab's distances
 * are close to perceived ones, so the curve is walked at constant speed: its length is summed over
 * small steps, and 256 points are taken at equal distances. Equal differences of weight are then
 * equal differences of colour. Lightness falls all the way: the map survives grey printing and
 * colour blindness, and dark marks stand on a light page.
 *
 * Source of the matrices: B. Ottosson, "A perceptual color space for image processing", 2020. */
#include "cli/heatmap/ramp.h"

#include <math.h>

/* Four steps between two entries. Such a short chord differs from the curve by far less than the
 * rounding of a byte. Computed once per picture, in some 0.2 ms. */
enum { CURVE_STEPS = 4 * FV_HEATMAP_RAMP_LEVELS, CONTROL_POINTS = 6 };

typedef struct lab {
  double l, a, b;
} lab;

/* Chosen by eye within the sRGB gamut; a test checks that no entry leaves it. */
static const lab control[CONTROL_POINTS] = {
    {0.975, 0.000, 0.012},  {0.880, 0.020, 0.090},  {0.720, 0.170, 0.120},
    {0.500, 0.230, -0.010}, {0.340, 0.090, -0.170}, {0.200, 0.015, -0.070},
};

/* A cool grey, darker than the paper of a weight of 0 and lighter than any grey of ink. */
static const uint32_t hidden_on_paper = 0xD6D8E0;

static lab mix(lab from, lab to, double t) {
  lab at = {from.l + (to.l - from.l) * t, from.a + (to.a - from.a) * t,
            from.b + (to.b - from.b) * t};
  return at;
}

/* De Casteljau's construction: mix neighbours until one point is left. */
static lab curve_point(double t) {
  lab points[CONTROL_POINTS];
  for (int i = 0; i < CONTROL_POINTS; i++) points[i] = control[i];
  for (int left = CONTROL_POINTS - 1; left > 0; left--) {
    for (int i = 0; i < left; i++) points[i] = mix(points[i], points[i + 1], t);
  }
  return points[0];
}

static double distance(lab from, lab to) {
  double l = to.l - from.l, a = to.a - from.a, b = to.b - from.b;
  return sqrt(l * l + a * a + b * b);
}

/* One channel of linear light as a byte of sRGB. */
static uint32_t encode_channel(double linear) {
  double clamped = fmin(fmax(linear, 0.0), 1.0);
  double encoded = clamped <= 0.0031308 ? 12.92 * clamped : 1.055 * pow(clamped, 1.0 / 2.4) - 0.055;
  return (uint32_t)(encoded * 255.0 + 0.5);
}

static uint32_t encode(lab color) {
  double l = color.l + 0.3963377774 * color.a + 0.2158037573 * color.b;
  double m = color.l - 0.1055613458 * color.a - 0.0638541728 * color.b;
  double s = color.l - 0.0894841775 * color.a - 1.2914855480 * color.b;
  l = l * l * l, m = m * m * m, s = s * s * s;
  uint32_t red = encode_channel(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s);
  uint32_t green = encode_channel(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s);
  uint32_t blue = encode_channel(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s);
  return red << 16 | green << 8 | blue;
}

static double curve_length(void) {
  double length = 0;
  lab at = control[0];
  for (int i = 1; i <= CURVE_STEPS; i++) {
    lab next = curve_point((double)i / CURVE_STEPS);
    length += distance(at, next);
    at = next;
  }
  return length;
}

void fv_heatmap_ramp_fill(fv_heatmap_ramp *ramp) {
  const int last = FV_HEATMAP_RAMP_LEVELS - 1;
  double spacing = curve_length() / last, walked = 0;
  int entry = 0;
  lab at = control[0];
  for (int i = 1; i <= CURVE_STEPS; i++) {
    lab next = curve_point((double)i / CURVE_STEPS);
    double step = distance(at, next);
    for (; entry < last && spacing * entry <= walked + step; entry++) {
      ramp->rgb[entry] = encode(mix(at, next, (spacing * entry - walked) / step));
    }
    walked += step;
    at = next;
  }
  ramp->hidden = hidden_on_paper;
  /* The last entry is the curve's end, whatever the rounding of the sum. */
  while (entry <= last) ramp->rgb[entry++] = encode(at);
}
