/* settings.c - see settings.h. */
#include "cli/input/settings.h"

#include <string.h>

#include "cli/error.h"
#include "cli/flag_value.h"

static const char *metadata(const fv_input *input, const char *key) {
  return fv_tensor_file_metadata(input->files[0], key);
}

static int contradicts(const fv_input *input, const char *what, const char *value) {
  return fv_cli_fail(FV_EXIT_USAGE, "--%s contradicts the metadata of %s (%s %.80s); leave it out",
                     what, input->label, what, value);
}

/* The value is shown escaped: it may hold anything, including bytes that act on a terminal. */
static int bad_metadata(const fv_input *input, const char *key, const char *remedy) {
  char shown[80];
  const char *value = metadata(input, key);
  fv_escape(shown, sizeof shown, value, strlen(value));
  return fv_cli_fail(FV_EXIT_INPUT, "%s: metadata %s is '%s'; write %s", input->label, key, shown,
                     remedy);
}

static int read_layout(fv_input *input, const fv_input_options *options) {
  const char *stored = metadata(input, "layout");
  if (stored && strcmp(stored, "bhsd") && strcmp(stored, "bshd")) {
    return bad_metadata(input, "layout", "bhsd or bshd");
  }
  if (stored && options->layout && strcmp(stored, options->layout)) {
    return contradicts(input, "layout", stored);
  }
  const char *layout = options->layout ? options->layout : stored ? stored : "bhsd";
  input->heads_first = !strcmp(layout, "bhsd");
  return FV_EXIT_OK;
}

static int read_scale(fv_input *input, const fv_input_options *options) {
  const char *stored = metadata(input, "scale");
  float *scale = &input->args.logits.scale; /* 0 is the default; writing it is refused */
  if (stored && (!fv_parse_number(stored, scale) || *scale <= 0)) {
    return bad_metadata(input, "scale", "a finite number above 0, or leave it out");
  }
  if (stored && options->has_scale && *scale != options->scale) {
    return contradicts(input, "scale", stored);
  }
  if (options->has_scale) *scale = options->scale;
  return FV_EXIT_OK;
}

static int read_softcap(fv_input *input, const fv_input_options *options) {
  const char *stored = metadata(input, "softcap");
  float *softcap =
      &input->args.logits.softcap; /* 0 means none; many configurations write it explicitly */
  if (stored && (!fv_parse_number(stored, softcap) || *softcap < 0)) {
    return bad_metadata(input, "softcap", "a finite number, 0 or more");
  }
  if (stored && options->has_softcap && *softcap != options->softcap) {
    return contradicts(input, "softcap", stored);
  }
  if (options->has_softcap) *softcap = options->softcap;
  return FV_EXIT_OK;
}

static int read_causal(fv_input *input, const fv_input_options *options) {
  const char *stored = metadata(input, "causal");
  const char *flag = NULL;
  if (options->has_causal) {
    flag = options->alignment == FOVEA_ALIGN_TOP_LEFT ? "top-left" : "bottom-right";
  }
  if (stored && strcmp(stored, "none") && strcmp(stored, "top-left") &&
      strcmp(stored, "bottom-right")) {
    return bad_metadata(input, "causal", "top-left, bottom-right or none");
  }
  if (stored && flag && strcmp(stored, flag)) return contradicts(input, "causal", stored);
  const char *name = flag ? flag : stored;
  if (!name || !strcmp(name, "none")) return FV_EXIT_OK;
  input->causal_name = name;
  input->args.visibility.causal = 1;
  input->args.positions.alignment =
      strcmp(name, "top-left") ? FOVEA_ALIGN_BOTTOM_RIGHT : FOVEA_ALIGN_TOP_LEFT;
  return FV_EXIT_OK;
}

static int read_window(fv_input *input, const fv_input_options *options) {
  const char *stored = metadata(input, "window");
  int32_t left = -1, right = -1;
  if (stored && !fv_parse_window(stored, &left, &right)) {
    return bad_metadata(input, "window", "L,R with -1 for no limit");
  }
  if (options->has_window) {
    if (stored && (left != options->window_left || right != options->window_right)) {
      return contradicts(input, "window", stored);
    }
    left = options->window_left;
    right = options->window_right;
  }
  if (left >= 0) input->args.visibility.window_left = (fovea_window){FOVEA_WINDOW_LIMITED, left};
  if (right >= 0) input->args.visibility.window_right = (fovea_window){FOVEA_WINDOW_LIMITED, right};
  return FV_EXIT_OK;
}

int fv_input_read_settings(fv_input *input, const fv_input_options *options) {
  int code = read_layout(input, options);
  if (!code) code = read_scale(input, options);
  if (!code) code = read_softcap(input, options);
  if (!code) code = read_causal(input, options);
  if (!code) code = read_window(input, options);
  return code;
}
