// A target as a program of libFuzzer.
#include <sys/time.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "fuzz/mutators.h"
#include "fuzz/targets.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t limit);

namespace {

/// Ends the program, so that libFuzzer keeps the input, when one input takes too much of the
/// processor's time; on a busy machine libFuzzer's own clock, the wall's, says little.
class ProcessorTimeLimit {
 public:
  ProcessorTimeLimit() {
    std::signal(SIGPROF, [](int) { std::abort(); });
    arm(longest);
  }
  ~ProcessorTimeLimit() { arm(0); }
  ProcessorTimeLimit(const ProcessorTimeLimit&) = delete;
  ProcessorTimeLimit& operator=(const ProcessorTimeLimit&) = delete;

 private:
  static constexpr time_t longest = 10;  // seconds

  static void arm(time_t seconds) {
    const itimerval timer = {.it_interval = {0, 0}, .it_value = {seconds, 0}};
    setitimer(ITIMER_PROF, &timer, nullptr);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const plumb::fuzz::Target& target = plumb::fuzz::target(PLUMB_FUZZ_TARGET);
  const ProcessorTimeLimit limit;
  plumb::fuzz::run_checked(target, {reinterpret_cast<const char*>(data), size});
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t limit, unsigned int seed) {
  const plumb::fuzz::MutateBytes bytes = [](std::string_view text, std::size_t most) {
    std::string out(text);
    out.resize(std::max<std::size_t>({most, text.size(), 1}));
    const std::size_t room = std::max<std::size_t>(most, 1);
    out.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(out.data()),
                                std::min(text.size(), room), room));
    return out;
  };
  plumb::fuzz::Random random(seed);
  const std::string changed = plumb::fuzz::mutate(
      PLUMB_FUZZ_TARGET, {reinterpret_cast<const char*>(data), size}, {random, bytes});
  const std::size_t kept = std::min(changed.size(), limit);
  std::memcpy(data, changed.data(), kept);
  return kept;
}
