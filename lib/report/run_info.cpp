#include "plumb/run_info.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <torch/version.h>

#include <cmath>
#include <ctime>
#include <future>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace plumb {
namespace {

const char* name_of(at::ScalarType type) {
  switch (type) {
    case at::kDouble: return "f64";
    case at::kBFloat16: return "bf16";
    case at::kHalf: return "f16";
    default: return "f32";
  }
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts));
}

/// The threads that hash. Nobody waits for one whose run failed before the program ends.
class Hashers {
 public:
  ~Hashers() {
    for (std::thread& thread : threads_) thread.join();
  }
  void add(std::thread thread) {
    const std::lock_guard<std::mutex> lock(mutex_);
    threads_.push_back(std::move(thread));
  }

 private:
  std::mutex mutex_;
  std::vector<std::thread> threads_;
};

std::shared_future<std::string> hash_of(const Model& model) {
  static Hashers hashers;
  std::packaged_task<std::string()> task([model] { return model.sha256(); });
  std::shared_future<std::string> hash = task.get_future();
  hashers.add(std::thread(std::move(task)));
  return hash;
}

}  // namespace

RunInfo start_run(const Model& model, std::string command, std::string command_line,
                  std::uint64_t seed) {
  RunInfo run;
  run.command = std::move(command);
  run.command_line = std::move(command_line);
  run.model = model.name();
  run.headers_sha256 = model.headers_sha256();
  run.hash = hash_of(model);
  run.config = model.config();
  run.first_layer = model.first_layer();
  run.all_layers = model.all_layers();
  run.dtype = name_of(model.dtype());
  run.device = model.device().is_cuda() ? "cuda" : "cpu";
  run.threads = model.threads();
  run.seed = seed;
  run.torch = TORCH_VERSION;
  run.started = utc_now();
  return run;
}

void end_run(RunInfo& run, const Model& model) {
  run.ended = utc_now();
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - run.clock).count();
  run.peak_bytes = peak_memory();
  run.bytes_read = model.bytes_read();
}

std::int64_t peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;  // Linux counts kilobytes
}

std::string show_seconds(double seconds) {
  if (seconds < 10.0) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 120) return fmt::format("{} s", whole);
  return fmt::format("{} min {:02} s", whole / 60, whole % 60);
}

std::string show_bytes(std::int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value >= 1e9) return fmt::format("{:.2f} GB", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.0f} MB", value / 1e6);
  if (value >= 1e3) return fmt::format("{:.0f} kB", value / 1e3);
  return fmt::format("{} bytes", bytes);
}

}  // namespace plumb
