#include "plumb/train_task.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/random.h"
#include "plumb/error.h"

namespace plumb {

namespace {

constexpr std::int64_t groups = 4;
constexpr std::int64_t triggers = 3;
constexpr double bigram_deviation = 1.2;  // of the bigram table's logits
constexpr std::int64_t seen_by_all = -1;
constexpr int bytes = 256;
constexpr std::array<const char*, 4> names = {"double-existence", "bigram-backcopy", "induction",
                                              "text"};

// Independent streams of one seed.
enum Stream : std::uint64_t { for_tables = 1, for_training = 2, for_held_out = 3 };

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::bad_argument, "task: " + message);
}

}  // namespace

struct Task::Tables {
  TaskOptions options = {};
  std::array<std::vector<std::int64_t>, 2> partners = {};  // p0, p1
  std::vector<std::int64_t> order = {};      // group y: entries y * V/4 to (y + 1) * V/4
  std::vector<std::int64_t> beginning = {};  // what the start rule draws x_1 from
  std::vector<char> is_trigger = {};
  std::vector<double> sums = {};  // [V, V] running sums of the bigram's probabilities
  // Text: the documents of training and the held-out ones, each ended by a line end, and where they
  // begin.
  std::array<std::string, 2> texts = {};
  std::array<std::vector<std::int64_t>, 2> starts = {};
};

namespace {

using Tables = Task::Tables;

// Where one sequence goes.
struct Row {
  std::int64_t* ids;
  bool* active;
  std::int64_t* documents;  // null where nobody asks
};

std::int64_t first_content(const TaskOptions& options) { return options.bos ? 1 : 0; }

std::int64_t draw_content(const TaskOptions& options, Random& random) {
  const std::int64_t first = first_content(options);
  return first + random.below(options.vocab - first);
}

void double_existence(const Tables& tables, Random& random, bool start_rule, const Row& row) {
  const TaskOptions& o = tables.options;
  const std::int64_t size = o.vocab / groups;
  std::vector<char> seen(static_cast<std::size_t>(o.vocab), 0);
  std::int64_t id = random.below(o.vocab);
  for (std::int64_t t = 0; t < o.length; ++t) {
    const auto at = static_cast<std::size_t>(id);
    seen[at] = 1;
    std::int64_t group = 0;
    for (std::size_t r = 0; r < 2; ++r) {
      if (seen[static_cast<std::size_t>(tables.partners[r][at])] != 0) group += r == 0 ? 1 : 2;
    }
    row.ids[t] = id;
    row.active[t] = group > 0;
    const auto place = static_cast<std::size_t>(random.below(size));
    id = start_rule && t == 0 ? tables.beginning[place]
                              : tables.order[static_cast<std::size_t>(group * size) + place];
  }
}

// The first index whose running sum exceeds a uniform draw.
std::int64_t draw(Random& random, const double* sums, std::int64_t count) {
  const double level = random.uniform() * sums[count - 1];
  return std::min<std::int64_t>(std::upper_bound(sums, sums + count, level) - sums, count - 1);
}

void bigram_backcopy(const Tables& tables, Random& random, const Row& row) {
  const TaskOptions& o = tables.options;
  const std::int64_t start = first_content(o);
  if (o.bos) row.ids[0] = 0;
  std::int64_t id = draw_content(o, random);
  for (std::int64_t t = start; t < o.length; ++t) {
    row.ids[t] = id;
    row.active[t] = t > start && tables.is_trigger[static_cast<std::size_t>(id)] != 0;
    id = row.active[t] ? row.ids[t - 1] : draw(random, tables.sums.data() + id * o.vocab, o.vocab);
  }
}

void induction(const Tables& tables, Random& random, const Row& row) {
  const TaskOptions& o = tables.options;
  const std::int64_t start = first_content(o);
  if (o.bos) row.ids[0] = 0;
  const std::int64_t shortest = std::max<std::int64_t>(1, o.length / 4);
  const std::int64_t period =
      shortest + random.below(std::max<std::int64_t>(1, o.length / 2 - shortest + 1));
  for (std::int64_t t = start; t < o.length; ++t) {
    const bool again = t - start >= period;
    row.ids[t] = again ? row.ids[t - period] : draw_content(o, random);
    row.active[t] = again;
  }
}

void text_bytes(const Tables& tables, Random& random, bool training, const Row& row) {
  const TaskOptions& o = tables.options;
  const std::size_t part = training ? 0 : 1;
  const std::string& texts = tables.texts[part];
  const std::vector<std::int64_t>& starts = tables.starts[part];
  const auto size = static_cast<std::int64_t>(texts.size());
  std::int64_t place = o.packing == Packing::stream
                           ? random.below(size)
                           : starts[static_cast<std::size_t>(
                                 random.below(static_cast<std::int64_t>(starts.size())))];
  const std::int64_t start = first_content(o);
  if (o.bos) row.ids[0] = 0;
  if (o.bos && row.documents != nullptr) row.documents[0] = seen_by_all;
  for (std::int64_t t = start; t < o.length; ++t) {
    row.ids[t] = static_cast<unsigned char>(texts[static_cast<std::size_t>(place)]);
    if (row.documents != nullptr)
      row.documents[t] = std::ranges::upper_bound(starts, place) - starts.begin();
    place = (place + 1) % size;
  }
}

TaskBatch sample(const Tables& tables, const Random& stream, std::int64_t sequences,
                 bool training) {
  constexpr std::int64_t most = std::int64_t{1} << 26;
  const TaskOptions& o = tables.options;
  if (sequences < 1 || sequences > most / o.length) {
    refuse(fmt::format("expected 1 to {} sequences, got {}", most / o.length, sequences));
  }
  TaskBatch batch{.ids = at::empty({sequences, o.length}, at::kLong),
                  .active = at::zeros({sequences, o.length}, at::kBool)};
  const bool apart = training && o.intra_document;
  if (apart) batch.documents = at::empty({sequences, o.length}, at::kLong);
  for (std::int64_t i = 0; i < sequences; ++i) {
    Random own = stream.fork(static_cast<std::uint64_t>(i));
    const Row row{batch.ids.data_ptr<std::int64_t>() + i * o.length,
                  batch.active.data_ptr<bool>() + i * o.length,
                  apart ? batch.documents.data_ptr<std::int64_t>() + i * o.length : nullptr};
    switch (o.task) {
      case TrainTask::double_existence:
        double_existence(tables, own, training && o.start_rule, row);
        break;
      case TrainTask::bigram_backcopy: bigram_backcopy(tables, own, row); break;
      case TrainTask::induction: induction(tables, own, row); break;
      case TrainTask::text: text_bytes(tables, own, training, row); break;
    }
  }
  return batch;
}

std::vector<double> bigram_sums(const TaskOptions& options, Random& random) {
  const std::int64_t first = first_content(options);
  std::vector<double> sums;
  for (std::int64_t from = 0; from < options.vocab; ++from) {
    double sum = 0.0;
    for (std::int64_t to = 0; to < options.vocab; ++to) {
      const double weight = std::exp(bigram_deviation * random.normal());
      if (to >= first) sum += weight;
      sums.push_back(sum);
    }
  }
  return sums;
}

}  // namespace

const char* to_string(TrainTask task) noexcept { return names[static_cast<std::size_t>(task)]; }

TrainTask parse_train_task(std::string_view text) {
  const auto found = std::find(names.begin(), names.end(), text);
  if (found != names.end()) return static_cast<TrainTask>(found - names.begin());
  throw Error(
      ErrorKind::bad_argument,
      fmt::format("no task \"{:.40}\": double-existence, bigram-backcopy, induction or text",
                  text));
}

void check(const TaskOptions& options) {
  constexpr int most_ids = 1 << 14;  // the bigram table has their square
  constexpr std::int64_t longest = 1 << 16;
  if (options.vocab < 8 || options.vocab > most_ids) {
    refuse(fmt::format("the vocabulary must have 8 to {} ids, not {}", most_ids, options.vocab));
  }
  if (options.length < 4 || options.length > longest) {
    refuse(fmt::format("sequences must have 4 to {} tokens, not {}", longest, options.length));
  }
  const bool existence = options.task == TrainTask::double_existence;
  if (existence && options.vocab % groups != 0) {
    refuse(
        fmt::format("double existence parts the vocabulary into {} groups of equal size, which "
                    "{} ids cannot be",
                    groups, options.vocab));
  }
  if (existence && options.bos) refuse("double existence has no BOS");
  const bool is_text = options.task == TrainTask::text;
  if (is_text && options.vocab != bytes)
    refuse(fmt::format("text has {} ids, one a byte, not {}", bytes, options.vocab));
  if (is_text != (options.corpus != nullptr)) {
    refuse(is_text ? "text needs texts to be drawn from"
                   : "texts mean nothing to a task other than text");
  }
  if (!is_text && (options.document_bos || options.intra_document))
    refuse("only text has documents");
  if (options.bos && options.document_bos)
    refuse("id 0 stands before every sequence or before every document, not both");
  if (is_text && (options.corpus->training.empty() || options.corpus->held_out.empty()))
    refuse("the texts have no documents to train on, or none held out");
}

Task::Task(const TaskOptions& options) {
  check(options);
  auto tables = std::make_shared<Tables>();
  tables->options = options;
  Random random = Random(options.seed).fork(for_tables);
  for (auto& partners : tables->partners) partners = random.permutation(options.vocab);
  tables->order = random.permutation(options.vocab);
  tables->beginning = random.permutation(options.vocab);
  tables->is_trigger.assign(static_cast<std::size_t>(options.vocab), 0);
  std::int64_t left = triggers;
  for (const std::int64_t id : random.permutation(options.vocab)) {
    if (left == 0) break;
    if (id < first_content(options)) continue;
    tables->is_trigger[static_cast<std::size_t>(id)] = 1;
    --left;
  }
  if (options.task == TrainTask::bigram_backcopy) tables->sums = bigram_sums(options, random);
  if (options.corpus) {
    for (const std::size_t part : {0U, 1U}) {
      for (const std::string& document :
           part == 0 ? options.corpus->training : options.corpus->held_out) {
        tables->starts[part].push_back(static_cast<std::int64_t>(tables->texts[part].size()));
        if (options.document_bos) tables->texts[part] += '\0';
        tables->texts[part] += document + "\n";
      }
    }
  }
  tables_ = std::move(tables);
}

const TaskOptions& Task::options() const { return tables_->options; }

std::vector<Intervention> task_edits(const TaskBatch& batch, int layers) {
  if (!batch.documents.defined()) return {};
  const at::Tensor keys = batch.documents.unsqueeze(1);
  const at::Tensor others = batch.documents.unsqueeze(2).ne(keys).logical_and(keys.ne(seen_by_all));
  const at::Tensor delta = at::zeros(others.sizes(), at::kFloat)
                               .masked_fill(others, -std::numeric_limits<double>::infinity())
                               .unsqueeze(1);
  std::vector<Intervention> edits;
  for (int layer = 0; layer < layers; ++layer)
    edits.push_back({{Part::scores, layer}, {}, Add{delta}});
  return edits;
}

TaskBatch Task::training(std::uint64_t seed, std::int64_t sequences) const {
  const Random stream = Random(options().seed).fork(for_training).fork(seed);
  return sample(*tables_, stream, sequences, true);
}

TaskBatch Task::held_out(std::uint64_t seed, std::int64_t sequences) const {
  const Random stream = Random(options().seed).fork(for_held_out).fork(seed);
  return sample(*tables_, stream, sequences, false);
}

}  // namespace plumb
