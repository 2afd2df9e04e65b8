// What every result says about the run that made it.
#pragma once

#include <chrono>
#include <cstdint>
#include <future>
#include <map>
#include <string>

#include "plumb/config.h"
#include "plumb/model.h"

namespace plumb {

/// Provenance of a result: the program's call, the model, the arithmetic.
struct RunInfo {
  std::string command = {};       ///< "p0"
  std::string command_line = {};  ///< as typed, quoted for a shell
  std::string model = {};         ///< name of the model
  /// `Model::sha256`, which another thread computes while the run goes on; read it with `sha256()`.
  std::shared_future<std::string> hash = {};
  std::string headers_sha256 = {};  ///< `Model::headers_sha256`
  ModelConfig config = {};
  int first_layer = 0;      ///< of the blocks loaded, the last being that of the config
  int all_layers = 0;       ///< of the checkpoint
  std::string dtype = {};   ///< "f32", "f64", "bf16" or "f16"
  std::string device = {};  ///< "cpu" or "cuda"
  int threads = 0;
  int ranks = 1;  ///< processes that shared the work
  std::uint64_t seed = 0;
  std::string torch = {};  ///< version of LibTorch
  std::chrono::steady_clock::time_point clock = std::chrono::steady_clock::now();  ///< its start
  std::string started = {};                       ///< UTC, "2026-01-31T12:00:00Z"
  std::string ended = {};                         ///< empty while the run lasts
  double seconds = 0;                             ///< from start to end
  std::int64_t peak_bytes = 0;                    ///< largest resident memory so far
  std::uint64_t bytes_read = 0;                   ///< of the checkpoint's tensors
  std::map<std::string, std::string> files = {};  ///< files written: "archive" to its path, ...

  /// Waits for `hash`; empty where there is none. Throws what hashing threw.
  std::string sha256() const { return hash.valid() ? hash.get() : std::string(); }
};

/// The model's part filled in, and the clock started. The model's weights are hashed by a thread
/// of its own from now on, which keeps the model until it is done.
RunInfo start_run(const Model& model, std::string command, std::string command_line,
                  std::uint64_t seed);

/// Sets `ended`, `seconds`, `peak_bytes` and `bytes_read`.
void end_run(RunInfo& run, const Model& model);

/// Largest resident memory of this process so far.
std::int64_t peak_memory();

/// "41 s", "2 min 05 s".
std::string show_seconds(double seconds);
/// "812 MB", "1.24 GB" (powers of ten).
std::string show_bytes(std::int64_t bytes);

}  // namespace plumb
