// program.h - runs the built program in a process of its own and keeps its output.
#ifndef FOVEA_TESTS_CLI_PROGRAM_H
#define FOVEA_TESTS_CLI_PROGRAM_H

#include <gtest/gtest.h>
#include <jansson.h>
#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace fovea_test {

// A directory for one test, removed afterwards.
class Directory {
 public:
  Directory();
  ~Directory();
  Directory(const Directory &) = delete;
  Directory &operator=(const Directory &) = delete;
  const std::string &path() const { return path_; }
  std::string file(const std::string &name) const { return path_ + "/" + name; }
  std::vector<std::string> names() const;  // of the files in it, sorted

 private:
  std::string path_;
};

std::string read_file(const std::string &path);
void write_file(const std::string &path, const std::string &bytes);

struct Ran {
  int code = -1;    // exit code; -1: ended by a signal
  int signal = 0;   // which
  std::string out;  // all of stdout
  std::string err;  // all of stderr
};

// How to run it. The environment starts empty, so that no test depends on the user's.
struct Launch {
  std::vector<std::string> arguments;
  std::map<std::string, std::string> environment = {};
  std::string directory = "";  // to run in; "": the test's own
  std::string out_path = "";   // where stdout goes instead; "-": closed
  bool messages = false;       // on_terminal: stderr is the terminal too
};

Ran run(const Launch &how);
Ran fovea(const std::vector<std::string> &arguments);
// Runs a shell's command line, in which $FOVEA is the program.
Ran shell(const std::string &line);
// Starts it without waiting; stdout and stderr go to `log`.
pid_t start(const std::vector<std::string> &command, const std::string &log);
Ran wait_for(pid_t process);
// Runs it with stdout on a terminal of 80 columns; returns what the terminal receives.
std::string on_terminal(const Launch &how);

struct JsonRelease {
  void operator()(json_t *json) const { json_decref(json); }
};
using Json = std::unique_ptr<json_t, JsonRelease>;
Json parse_json(const std::string &text);  // NULL, and a failure, if the text is not JSON

// A failed run: it ended with the code, has nothing on stdout, and one line on stderr with each of
// the words. Usage errors have a second line, which points to --help.
testing::AssertionResult fails(const Ran &ran, int code, const std::vector<std::string> &words);

std::string example(const std::string &name);  // a file of examples/data

}  // namespace fovea_test

#endif  // FOVEA_TESTS_CLI_PROGRAM_H
