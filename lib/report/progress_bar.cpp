#include "report/progress_bar.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>

#include "plumb/report.h"

namespace plumb {
namespace {

constexpr double kQuiet = 2.0;             // seconds; shorter jobs show nothing
constexpr double kBetweenDraws = 1.0 / 8;  // on a terminal
constexpr double kBetweenLines = 10.0;     // elsewhere
constexpr double kEnough = 0.01;           // share done below which an estimate would be a guess
constexpr int kBar = 24;

std::string duration(double seconds) {
  const auto whole = static_cast<long long>(std::ceil(std::min(seconds, 1e9)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

// Short enough for one line of a terminal, without half a character at the end.
std::string_view cut(std::string_view what) {
  std::size_t size = std::min<std::size_t>(what.size(), 32);
  while (size > 0 && size < what.size() &&
         (static_cast<unsigned char>(what[size]) & 0xC0U) == 0x80U) {
    --size;
  }
  return what.substr(0, size);
}

class Bar {
 public:
  Bar(std::FILE* out, bool tty, std::function<double()> now)
      : out_(out), tty_(tty), now_(std::move(now)), start_(now_()), phase_(start_) {}
  ~Bar() { wipe(); }
  Bar(const Bar&) = delete;
  Bar& operator=(const Bar&) = delete;

  void show(std::string_view what, double done) {
    done = done >= 0 ? std::min(done, 1.0) : 0.0;  // not a number counts as nothing done
    const double now = now_();
    if (done < done_) {
      phase_ = now;
      done_at_phase_ = done;
    }
    done_ = done;
    if (done >= 1.0) return wipe();
    if (now - start_ < kQuiet) return;
    if (now - drawn_ < (tty_ ? kBetweenDraws : kBetweenLines)) return;
    drawn_ = now;
    draw(what, now);
  }

 private:
  void draw(std::string_view what, double now) {
    const double gained = done_ - done_at_phase_;
    const std::string rest =
        gained < kEnough
            ? ""
            : fmt::format(", {} left", duration((now - phase_) / gained * (1 - done_)));
    const int percent = static_cast<int>(100 * done_);
    if (tty_) {
      const int full = static_cast<int>(kBar * done_);
      fmt::print(out_, "\r\033[K[{}{}] {:3} %{}  {}",
                 std::string(static_cast<std::size_t>(full), '#'),
                 std::string(static_cast<std::size_t>(kBar - full), '.'), percent, rest, cut(what));
    } else {
      fmt::print(out_, "{}: {} %{}\n", what, percent, rest);
    }
    std::fflush(out_);
    dirty_ = tty_;
  }

  void wipe() {
    if (!dirty_) return;
    std::fputs("\r\033[K", out_);
    std::fflush(out_);
    dirty_ = false;
  }

  std::FILE* out_;
  bool tty_;
  std::function<double()> now_;
  double start_;
  double phase_;                // when the present phase began
  double done_at_phase_ = 0.0;  // and how far it was then
  double done_ = 0.0;
  double drawn_ = -1e9;
  bool dirty_ = false;
};

}  // namespace

Progress progress_bar(std::FILE* out, bool tty, std::function<double()> now) {
  const auto bar = std::make_shared<Bar>(out, tty, std::move(now));
  return [bar](std::string_view what, double done) { bar->show(what, done); };
}

Progress progress_bar(std::FILE* out, bool tty) {
  return progress_bar(out, tty, [] {
    const auto since = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double>(since).count();
  });
}

}  // namespace plumb
