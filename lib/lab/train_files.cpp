// What a training leaves behind, and how it goes on after a stop.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <system_error>

#include "checkpoint/atomic_file.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/write_safetensors.h"
#include "plumb/checkpoint_write.h"
#include "plumb/error.h"
#include "plumb/train.h"

namespace plumb {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::bad_argument, "training: " + message);
}

void write_text(const fs::path& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

void erase(const fs::path& path) {
  std::error_code failed;
  fs::remove_all(path, failed);
  if (failed) {
    throw Error(ErrorKind::bad_file,
                fmt::format("{}: cannot be removed: {}", path.string(), failed.message()));
  }
}

std::string csv(const std::vector<std::string>& columns) {
  std::string text = "step";
  for (const std::string& column : columns) text += "," + column;
  return text + "\n";
}

std::string number(double value) { return std::isnan(value) ? "" : fmt::format("{}", value); }

std::string ids_json(const at::Tensor& ids) {
  const auto rows = ids.accessor<std::int64_t, 2>();
  std::string text = "[";
  for (std::int64_t i = 0; i < rows.size(0); ++i) {
    text += i == 0 ? "[" : ",\n [";
    for (std::int64_t t = 0; t < rows.size(1); ++t)
      text += (t == 0 ? "" : ", ") + std::to_string(rows[i][t]);
    text += "]";
  }
  return text + "]\n";
}

class Job {
 public:
  Job(Training& training, const TrainFiles& files, const Probe& probe)
      : training_(training), files_(files), probe_(probe) {}

  TrainOutcome run(const Progress& progress) {
    begin();
    if (finished_before()) return {.finished_before = true};
    try {
      while (true) {
        if (due()) keep();
        const auto done = static_cast<double>(training_.steps());
        if (progress) progress("training", done / static_cast<double>(training_.options().steps));
        if (training_.finished()) break;
        training_.advance();
      }
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::interrupted && training_.steps() > 0) save();
      throw;
    }
    erase(state_path());
    return {.probes = probes_};
  }

 private:
  fs::path state_path() const { return files_.directory / "state.safetensors"; }
  fs::path options_path() const { return files_.directory / "train.json"; }

  fs::path model_path(std::int64_t step) const {
    return files_.directory / fmt::format("step-{:06}", step);
  }

  // The last model is written after everything else.
  bool finished_before() const {
    std::error_code ignored;
    return !fs::exists(state_path(), ignored) &&
           fs::exists(model_path(training_.options().steps), ignored);
  }

  // A kill leaves files that were not yet in their place: their names and six characters.
  void remove_fragments() const {
    for (const char* name :
         {"state.safetensors", "train.json", "held_out.json", "train.csv", "probes.csv"}) {
      std::vector<fs::path> fragments;
      std::error_code ignored;
      for (const auto& entry : fs::directory_iterator(files_.directory, ignored)) {
        const std::string found = entry.path().filename().string();
        if (found.starts_with(std::string(name) + ".") &&
            found.size() == std::string_view(name).size() + 7) {
          fragments.push_back(entry.path());
        }
      }
      for (const fs::path& fragment : fragments) erase(fragment);
    }
  }

  void begin() {
    std::error_code failed;
    fs::create_directories(files_.directory, failed);
    if (failed) {
      throw Error(ErrorKind::bad_file, fmt::format("{}: cannot be created: {}",
                                                   files_.directory.string(), failed.message()));
    }
    const std::string options = describe(training_.options()) + "\n";
    const bool known = fs::exists(options_path(), failed);
    if (known && !files_.resume) {
      refuse(fmt::format("{} holds a training already; --resume goes on with it",
                         files_.directory.string()));
    }
    if (known) {
      constexpr std::uint64_t most_bytes = 1 << 16;
      if (read_text(options_path(), most_bytes) != options) {
        refuse(
            fmt::format("{} holds a training of other options; give the same ones, or another "
                        "directory",
                        files_.directory.string()));
      }
      remove_fragments();
    } else {
      write_text(options_path(), options);
    }
    write_text(files_.directory / "held_out.json",
               ids_json(training_.task().held_out(0, files_.held_out).ids));
    if (fs::exists(state_path(), failed)) {
      const Training::Tables tables = training_.resume(state_path());
      const auto found = tables.find("probes");
      if (found != tables.end()) take_probes(found->second);
    }
  }

  // A row is the step, then the values.
  void take_probes(const at::Tensor& table) {
    if (table.dim() != 2 || table.scalar_type() != at::kDouble ||
        table.size(1) != static_cast<std::int64_t>(probe_.columns.size()) + 1) {
      refuse(fmt::format("{} was written with other probes", state_path().string()));
    }
    const auto rows = table.accessor<double, 2>();
    for (std::int64_t i = 0; i < rows.size(0); ++i) {
      std::vector<double> row;
      for (std::int64_t k = 0; k < rows.size(1); ++k) row.push_back(rows[i][k]);
      probes_.push_back(std::move(row));
    }
  }

  bool probe_due() const {
    if (!probe_.measure || files_.probe_every == 0) return false;
    const std::int64_t step = training_.steps();
    if (step % files_.probe_every != 0 && !training_.finished()) return false;
    return probes_.empty() || static_cast<std::int64_t>(probes_.back().front()) < step;
  }

  bool checkpoint_due() const {
    return training_.finished() ||
           std::ranges::find(files_.checkpoints, training_.steps()) != files_.checkpoints.end();
  }

  bool due() const {
    return probe_due() || checkpoint_due() || training_.steps() % files_.save_every == 0;
  }

  void keep() {
    if (probe_due()) {
      std::vector<double> row = {static_cast<double>(training_.steps())};
      const std::vector<double> values = probe_.measure(training_);
      row.insert(row.end(), values.begin(), values.end());
      if (row.size() != probe_.columns.size() + 1) {
        throw Error(ErrorKind::internal, fmt::format("a probe gave {} values for {} columns",
                                                     values.size(), probe_.columns.size()));
      }
      probes_.push_back(std::move(row));
    }
    write_steps();
    if (checkpoint_due()) write_model();
    if (training_.steps() % files_.save_every == 0 && training_.steps() > 0) save();
  }

  // Whole or not at all: it is made beside its place. One that is there already was made by the
  // same options from the same steps.
  void write_model() const {
    const fs::path place = model_path(training_.steps());
    std::error_code ignored;
    if (fs::exists(place, ignored)) return;
    fs::path part = place;
    part += ".part";
    erase(part);
    std::map<std::string, at::Tensor> weights = training_.weights();
    for (auto& [name, value] : weights) value = value.to(files_.store);
    std::error_code failed;
    if (has_checkpoints(training_.options())) {
      write_checkpoint(part, training_.options().config, weights);
    } else {
      fs::create_directories(part, failed);
      std::vector<TensorToWrite> written;
      for (const auto& [name, value] : weights) {
        written.push_back({name, value.scalar_type(), value.sizes().vec(),
                           [value = value] { return value.contiguous(); }});
      }
      AtomicFile file(part / "weights.safetensors");
      write_safetensors(file, std::move(written));
      file.commit();
    }
    fs::rename(part, place, failed);
    if (failed) {
      throw Error(ErrorKind::bad_file,
                  fmt::format("{}: cannot be written: {}", place.string(), failed.message()));
    }
  }

  void save() const {
    Training::Tables tables;
    if (!probes_.empty()) {
      std::vector<double> flat;
      for (const auto& row : probes_) flat.insert(flat.end(), row.begin(), row.end());
      tables["probes"] =
          at::tensor(flat, at::kDouble).view({static_cast<std::int64_t>(probes_.size()), -1});
    }
    training_.save(state_path(), tables);
  }

  void write_steps() const {
    std::string text = csv({"rate", "loss", "gradient_norm"});
    std::int64_t step = 0;
    for (const StepRecord& record : training_.history()) {
      text += fmt::format("{},{},{},{}\n", step++, number(record.rate), number(record.loss),
                          number(record.gradient_norm));
    }
    write_text(files_.directory / "train.csv", text);
    if (probes_.empty()) return;
    text = csv(probe_.columns);
    for (const auto& row : probes_) {
      text += fmt::format("{:.0f}", row.front());
      for (std::size_t i = 1; i < row.size(); ++i) text += "," + number(row[i]);
      text += "\n";
    }
    write_text(files_.directory / "probes.csv", text);
  }

  Training& training_;
  const TrainFiles& files_;
  const Probe& probe_;
  std::vector<std::vector<double>> probes_ = {};
};

}  // namespace

void check(const TrainFiles& files, const TrainOptions& options) {
  if (files.directory.empty()) refuse("no directory was given for its files");
  if (files.save_every < 1)
    refuse(fmt::format("a state must be saved every 1 or more steps, not {}", files.save_every));
  if (files.probe_every < 0)
    refuse(fmt::format("probes come every 0 or more steps, not {}", files.probe_every));
  if (files.held_out < 1 || files.held_out > 100'000)
    refuse(fmt::format("1 to 100000 sequences are held out, not {}", files.held_out));
  if (files.store != at::kFloat && files.store != at::kBFloat16 && files.store != at::kHalf)
    refuse("models are stored in float32, bfloat16 or float16");
  for (const std::int64_t step : files.checkpoints) {
    if (step < 0 || step > options.steps)
      refuse(fmt::format("there is no step {} among {}", step, options.steps));
  }
}

TrainOutcome train(Training& training, const TrainFiles& files, const Probe& probe,
                   const Progress& progress) {
  check(files, training.options());
  return Job(training, files, probe).run(progress);
}

}  // namespace plumb
