// A patching run that is killed, resumed, or shared among processes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <random>
#include <thread>

#include "cli/program.h"
#include "plumb/archive.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

/// Pairs of random ids for the planted model: some seconds of work.
fs::path pairs_file() {
  constexpr int pairs = 12;
  constexpr int length = 24;
  const fs::path path = scratch_dir() / "pairs.jsonl";
  std::ofstream out(path);
  std::mt19937 random(7);
  for (int pair = 0; pair < pairs; ++pair) {
    std::string clean;
    std::string corrupt;
    for (int t = 0; t < length; ++t) {
      const auto id = 3 + random() % 200;
      clean += (t == 0 ? "" : ", ") + std::to_string(id);
      corrupt += (t == 0 ? "" : ", ") + std::to_string(t == 5 ? id + 1 : id);
    }
    out << "{\"clean\": [" << clean << "], \"corrupt\": [" << corrupt
        << "], \"answers\": [7, 8]}\n";
  }
  return path;
}

std::vector<std::string> job(const fs::path& pairs, const fs::path& out) {
  return {"patch",   "planted",
          "--pairs", pairs.string(),
          "--sweep", "resid_pre:layer,position",
          "--sweep", "z:layer,head,position",
          "--raw",   "--quiet",
          "--out",   out.string()};
}

std::vector<std::string> with(std::vector<std::string> words, const std::string& word) {
  words.push_back(word);
  return words;
}

void expect_same_datasets(const fs::path& left, const fs::path& right,
                          const std::string& name = "patch.h5") {
  const Archive a(left / name);
  const Archive b(right / name);
  ASSERT_EQ(a.datasets(), b.datasets());
  for (const std::string& dataset : a.datasets()) {
    // Columns of names are no tensors.
    if (dataset == "/attribution/senders" || dataset == "/attribution/receivers") {
      EXPECT_EQ(a.strings(dataset), b.strings(dataset));
      continue;
    }
    const at::Tensor own = a.tensor(dataset);
    EXPECT_TRUE(at::equal(own.nan_to_num(), b.tensor(dataset).nan_to_num())) << dataset;
  }
}

/// One run that nothing disturbs, and how long it takes.
struct Undisturbed {
  fs::path pairs = pairs_file();
  fs::path out = scratch_dir() / "whole";
  std::chrono::milliseconds duration = {};
};

const Undisturbed& undisturbed() {
  static const Undisturbed made = [] {
    Undisturbed run;
    const auto start = std::chrono::steady_clock::now();
    const Outcome outcome = run_plumb(job(run.pairs, run.out));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    run.duration = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - start);
    return run;
  }();
  return made;
}

TEST(Resume, KilledAtRandomMomentsAndResumedGivesTheSameDatasets) {
  const Undisturbed& whole = undisturbed();
  const fs::path out = scratch_dir() / "killed";
  std::mt19937 random(std::random_device{}());
  const auto longest = static_cast<unsigned>(std::max<long>(whole.duration.count() / 2, 100));
  int kills = 0;
  for (; kills < 8 && !fs::exists(out / "patch.h5"); ++kills) {
    const auto pause = std::chrono::milliseconds(random() % longest);
    Started started(with(job(whole.pairs, out), "--resume"));
    std::this_thread::sleep_for(pause);
    started.stop(SIGKILL);
  }
  const Outcome last = run_plumb(with(job(whole.pairs, out), "--resume"));
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_FALSE(fs::exists(out / "patch.tiles.h5"));
  expect_same_datasets(whole.out, out);
  EXPECT_GT(kills, 0);
}

TEST(Resume, ASignalLeavesAStateThatIsNamedAndNotOverwritten) {
  const Undisturbed& whole = undisturbed();
  const fs::path out = scratch_dir() / "stopped";
  Started started(job(whole.pairs, out));
  for (int i = 0; i < 600 && !fs::exists(out / "patch.tiles.h5"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const Outcome stopped = started.stop(SIGTERM);
  ASSERT_EQ(stopped.code, 6) << stopped.err;
  EXPECT_NE(stopped.err.find("patch.tiles.h5"), std::string::npos) << stopped.err;
  EXPECT_NE(stopped.err.find("--resume"), std::string::npos) << stopped.err;
  EXPECT_EQ(run_plumb(job(whole.pairs, out)).code, 2);
  std::vector<std::string> other = with(job(whole.pairs, out), "--resume");
  other.insert(other.end(), {"--metric", "prob"});
  EXPECT_EQ(run_plumb(other).code, 2);
  EXPECT_EQ(run_plumb(with(job(whole.pairs, out), "--resume")).code, 0);
  expect_same_datasets(whole.out, out);
}

/// Runs `mpirun -n ranks plumb ...`; -1 where there is no MPI.
int run_ranks(int ranks, const std::vector<std::string>& words, const std::string& errors) {
  if (std::system("command -v mpirun >/dev/null 2>&1") != 0) return -1;
  std::string line =
      "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun "
      "--oversubscribe -n " +
      std::to_string(ranks) + " '" + program() + "'";
  for (const std::string& word : words) line += " '" + word + "'";
  const int status = std::system((line + " >/dev/null 2>'" + errors + "'").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
}

/// Kills the process of rank 1 whose command line names `out`.
bool kill_rank_one(const std::string& out) {
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (text_of(entry.path() / "cmdline").find(out) == std::string::npos) continue;
    if (text_of(entry.path() / "environ").find("OMPI_COMM_WORLD_RANK=1") == std::string::npos)
      continue;
    return kill(std::stoi(name), SIGKILL) == 0;
  }
  return false;
}

/// Exact effects of some edges, seconds of work.
std::vector<std::string> edges_job(const fs::path& pairs, const fs::path& out) {
  return {"attribute", "planted", "--pairs", pairs.string(), "--method",
          "exact",     "--each",  "--quiet", "--out",        out.string()};
}

TEST(Resume, ExactEdgesKilledAndResumedGiveTheSameDatasets) {
  const fs::path pairs = pairs_file();
  const fs::path whole = scratch_dir() / "edges_whole";
  const auto start = std::chrono::steady_clock::now();
  const Outcome undisturbed = run_plumb(edges_job(pairs, whole));
  ASSERT_EQ(undisturbed.code, 0) << undisturbed.err;
  const auto duration = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - start);
  const fs::path out = scratch_dir() / "edges_killed";
  std::mt19937 random(std::random_device{}());
  const auto longest = static_cast<unsigned>(std::max<long>(duration.count() / 2, 100));
  int kills = 0;
  for (; kills < 6 && !fs::exists(out / "attribute.h5"); ++kills) {
    Started started(with(edges_job(pairs, out), "--resume"));
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % longest));
    started.stop(SIGKILL);
  }
  const Outcome last = run_plumb(with(edges_job(pairs, out), "--resume"));
  EXPECT_EQ(last.code, 0) << last.err;
  EXPECT_FALSE(fs::exists(out / "attribute.tiles.h5"));
  expect_same_datasets(whole, out, "attribute.h5");
  const fs::path ranks = scratch_dir() / "edges_ranks";
  const fs::path errors = scratch_dir() / "errors";
  const int code = run_ranks(2, edges_job(pairs, ranks), errors.string());
  if (code == -1 || text_of(errors).find("built without MPI") != std::string::npos) return;
  ASSERT_EQ(code, 0) << text_of(errors);
  expect_same_datasets(whole, ranks, "attribute.h5");
}

class Ranks : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Counts, Ranks, testing::Values(1, 2, 4));

TEST_P(Ranks, GiveTheSameDatasetsAsOneProcess) {
  const Undisturbed& whole = undisturbed();
  const fs::path out = scratch_dir() / "ranks";
  const fs::path errors = scratch_dir() / "errors";
  const int code = run_ranks(GetParam(), job(whole.pairs, out), errors.string());
  if (code == -1) GTEST_SKIP() << "no mpirun";
  if (text_of(errors).find("built without MPI") != std::string::npos) GTEST_SKIP() << "no MPI";
  ASSERT_EQ(code, 0) << text_of(errors);
  expect_same_datasets(whole.out, out);
}

TEST(RanksFailing, TheDeathOfOneLeavesAResumableState) {
  const Undisturbed& whole = undisturbed();
  const fs::path out = scratch_dir() / "death";
  const fs::path errors = scratch_dir() / "errors";
  int code = 0;
  std::thread mpirun([&] { code = run_ranks(2, job(whole.pairs, out), errors.string()); });
  for (int i = 0; i < 1500 && !fs::exists(out / "patch.tiles.h5"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const bool killed = kill_rank_one(out.string());
  mpirun.join();
  if (code == -1) GTEST_SKIP() << "no mpirun";
  if (text_of(errors).find("built without MPI") != std::string::npos) GTEST_SKIP() << "no MPI";
  ASSERT_TRUE(killed);
  EXPECT_NE(code, 0);
  EXPECT_FALSE(text_of(errors).empty());
  EXPECT_FALSE(fs::exists(out / "patch.h5"));
  const Outcome last = run_plumb(with(job(whole.pairs, out), "--resume"));
  EXPECT_EQ(last.code, 0) << last.err;
  expect_same_datasets(whole.out, out);
}

TEST(RanksFailing, CommandsThatDoNotShareSaySo) {
  const Outcome outcome =
      run_plumb({"sink", "planted", "--random", "2,8"}, {{"OMPI_COMM_WORLD_SIZE", "2"}});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.err.find("without mpirun"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace plumb::test
