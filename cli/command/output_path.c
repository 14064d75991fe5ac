/* output_path.c - see output_path.h. */
#include "cli/command/output_path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/error.h"
#include "cli/files/file_source.h"

static bool is_same(const struct stat *a, const struct stat *b) {
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool is_one_of(const struct stat *there, const char *const *inputs, int count) {
  struct stat source;
  for (int i = 0; i < count; ++i) {
    if (!stat(inputs[i], &source) && is_same(there, &source)) return true;
  }
  return false;
}

/* /dev/stdout is a link to the stream, and a rename would replace the link. */
static bool is_stream(const struct stat *there) {
  struct stat stream;
  return (!fstat(STDOUT_FILENO, &stream) && is_same(there, &stream)) ||
         (!fstat(STDERR_FILENO, &stream) && is_same(there, &stream));
}

static int check_existing(const char *path, const struct stat *there) {
  if (!S_ISREG(there->st_mode)) {
    return fv_cli_fail(FV_EXIT_OUTPUT,
                       "%s: is not a regular file and will not be replaced; name another", path);
  }
  if (is_stream(there)) {
    return fv_cli_fail(FV_EXIT_OUTPUT, "%s: is where messages go; name another file", path);
  }
  return FV_EXIT_OK;
}

/* The result is made under another name beside it, so its folder decides. */
static int check_folder(const char *path) {
  const char *slash = strrchr(path, '/');
  char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
  if (!folder) return fv_cli_out_of_memory();
  int failed = access(folder, W_OK | X_OK) ? errno : 0;
  free(folder);
  if (!failed) return FV_EXIT_OK;
  return fv_cli_fail(FV_EXIT_OUTPUT, "%s: cannot be written (%s); name a folder that is writable",
                     path, fv_errno_text(failed));
}

int fv_output_path_check(const char *path, const char *const *inputs, int input_count) {
  struct stat there;
  if (!stat(path, &there)) {
    if (is_one_of(&there, inputs, input_count)) {
      return fv_cli_fail(FV_EXIT_USAGE, "--output %s is the input; name another file", path);
    }
    int code = check_existing(path, &there);
    if (code) return code;
  }
  return check_folder(path);
}
