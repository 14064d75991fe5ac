// program.cc - see program.h.
#include "tests/cli/program.h"

#include <fcntl.h>
#include <pty.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace fovea_test {

Directory::Directory() {
  std::string name = testing::TempDir() + "fovea-cli-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) ADD_FAILURE() << name << ": " << strerror(errno);
  path_ = name;
}

Directory::~Directory() {
  std::error_code ignored;  // files left behind must not fail a test
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> Directory::names() const {
  std::vector<std::string> found;
  for (const auto &entry : std::filesystem::directory_iterator(path_)) {
    found.push_back(entry.path().filename());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string read_file(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

void write_file(const std::string &path, const std::string &bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

namespace {

// The words and a terminating NULL, as exec wants them.
std::vector<char *> pointers(std::vector<std::string> &words) {
  std::vector<char *> found;
  for (std::string &word : words) found.push_back(word.data());
  found.push_back(nullptr);
  return found;
}

std::vector<std::string> environment_of(const std::map<std::string, std::string> &more) {
  std::map<std::string, std::string> all = {{"FOVEA", FOVEA_PROGRAM}};
  for (const char *kept : {"PATH", "HOME", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"}) {
    if (const char *value = getenv(kept)) all[kept] = value;
  }
  for (const auto &[name, value] : more) all[name] = value;
  std::vector<std::string> words;
  for (const auto &[name, value] : all) words.push_back(name + "=" + value);
  return words;
}

struct Actions {
  Actions() { posix_spawn_file_actions_init(&list); }
  ~Actions() { posix_spawn_file_actions_destroy(&list); }
  posix_spawn_file_actions_t list;
};

pid_t spawn(std::vector<std::string> command, const std::map<std::string, std::string> &more,
            const posix_spawn_file_actions_t *actions) {
  std::vector<std::string> environment = environment_of(more);
  pid_t process = -1;
  int error = posix_spawnp(&process, command[0].c_str(), actions, nullptr, pointers(command).data(),
                           pointers(environment).data());
  if (error != 0) ADD_FAILURE() << command[0] << ": " << strerror(error);
  return process;
}

Ran run_command(const std::vector<std::string> &command, const Launch &how) {
  Directory said;
  std::string out = how.out_path.empty() ? said.file("out") : how.out_path, err = said.file("err");
  const int flags = O_WRONLY | O_CREAT | O_TRUNC;
  Actions actions;
  posix_spawn_file_actions_addopen(&actions.list, 0, "/dev/null", O_RDONLY, 0);
  if (how.out_path == "-") {
    posix_spawn_file_actions_addclose(&actions.list, 1);
  } else {
    posix_spawn_file_actions_addopen(&actions.list, 1, out.c_str(), flags, 0600);
  }
  posix_spawn_file_actions_addopen(&actions.list, 2, err.c_str(), flags, 0600);
  if (!how.directory.empty()) {
    posix_spawn_file_actions_addchdir_np(&actions.list, how.directory.c_str());
  }
  Ran ran = wait_for(spawn(command, how.environment, &actions.list));
  if (how.out_path.empty()) ran.out = read_file(out);
  ran.err = read_file(err);
  return ran;
}

}  // namespace

Ran wait_for(pid_t process) {
  Ran ran;
  int status = 0;
  if (process <= 0 || waitpid(process, &status, 0) != process) {
    ADD_FAILURE() << "no process to wait for";
    return ran;
  }
  if (WIFEXITED(status)) ran.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) ran.signal = WTERMSIG(status);
  return ran;
}

Ran run(const Launch &how) {
  std::vector<std::string> command = {FOVEA_PROGRAM};
  command.insert(command.end(), how.arguments.begin(), how.arguments.end());
  return run_command(command, how);
}

Ran fovea(const std::vector<std::string> &arguments) {
  return run({arguments});
}

Ran shell(const std::string &line) {
  return run_command({"/bin/sh", "-c", line}, {});
}

pid_t start(const std::vector<std::string> &command, const std::string &log) {
  Actions actions;
  const int flags = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&actions.list, 1, log.c_str(), flags, 0600);
  posix_spawn_file_actions_adddup2(&actions.list, 1, 2);
  return spawn(command, {}, &actions.list);
}

std::string on_terminal(const Launch &how) {
  int terminal, program;
  struct winsize size = {24, 80, 0, 0};
  if (openpty(&terminal, &program, nullptr, nullptr, &size) != 0) {
    ADD_FAILURE() << "no terminal: " << strerror(errno);
    return "";
  }
  std::vector<std::string> command = {FOVEA_PROGRAM};
  command.insert(command.end(), how.arguments.begin(), how.arguments.end());
  Actions actions;
  posix_spawn_file_actions_adddup2(&actions.list, program, 1);
  if (how.messages) posix_spawn_file_actions_adddup2(&actions.list, program, 2);
  if (!how.messages) posix_spawn_file_actions_addopen(&actions.list, 2, "/dev/null", O_WRONLY, 0);
  pid_t process = spawn(command, how.environment, &actions.list);
  close(program);
  std::string text;
  char piece[4096];
  ssize_t got;
  // A terminal whose last program has ended returns EIO, after everything that was written.
  while ((got = read(terminal, piece, sizeof piece)) > 0) text.append(piece, (size_t)got);
  close(terminal);
  EXPECT_EQ(wait_for(process).code, 0);
  return text;
}

Json parse_json(const std::string &text) {
  json_error_t error;
  Json json(json_loads(text.c_str(), JSON_REJECT_DUPLICATES, &error));
  if (json == nullptr) ADD_FAILURE() << error.text << " in: " << text;
  return json;
}

testing::AssertionResult fails(const Ran &ran, int code, const std::vector<std::string> &words) {
  auto failure = [&ran] { return testing::AssertionFailure() << "\"" << ran.err << "\": "; };
  if (ran.code != code) return failure() << "exit code " << ran.code << ", expected " << code;
  if (!ran.out.empty()) return failure() << "stdout has \"" << ran.out << "\"";
  if (ran.err.compare(0, 5, "fovea") != 0) return failure() << "does not say who speaks";
  long lines = std::count(ran.err.begin(), ran.err.end(), '\n');
  bool points_to_help = lines == 2 && ran.err.find("\nTry `") != std::string::npos;
  if (lines != 1 && !(code == 2 && points_to_help)) return failure() << lines << " lines";
  for (const std::string &word : words) {
    if (ran.err.find(word) == std::string::npos) return failure() << "lacks \"" << word << "\"";
  }
  return testing::AssertionSuccess();
}

std::string example(const std::string &name) {
  return FOVEA_TESTS_EXAMPLES + name;
}

}  // namespace fovea_test
