#include "plumb/pair_tasks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "core/random.h"
#include "plumb/error.h"
#include "plumb/inputs.h"

namespace plumb {
namespace {

using Json = nlohmann::ordered_json;
using Ids = std::vector<std::int64_t>;

constexpr int attempts_for_each = 50;  // before so many different pairs are said not to exist
constexpr std::size_t fewest_names = 6;

constexpr std::array<const char*, 64> names = {
    "Mary",  "John",     "Tom",    "James",   "Daniel",  "Sarah",    "Anna",     "Paul",
    "David", "Michael",  "Robert", "Mark",    "Peter",   "Alice",    "Laura",    "Emma",
    "Jack",  "Kate",     "Lucy",   "Simon",   "Martin",  "Susan",    "Linda",    "Karen",
    "Kevin", "Brian",    "Adam",   "Andrew",  "Anthony", "Charles",  "Chris",    "Edward",
    "Eric",  "Frank",    "George", "Henry",   "Jason",   "Jeff",     "Jennifer", "Jessica",
    "Joe",   "Jonathan", "Joseph", "Justin",  "Kelly",   "Kim",      "Lisa",     "Max",
    "Maria", "Matthew",  "Nick",   "Patrick", "Rachel",  "Richard",  "Ryan",     "Sam",
    "Scott", "Stephen",  "Steven", "Thomas",  "Tim",     "Victoria", "William",  "Elizabeth"};
constexpr std::array<const char*, 10> places = {"store",  "park",    "school", "office", "station",
                                                "garden", "library", "market", "beach",  "hotel"};
constexpr std::array<const char*, 10> objects = {"drink", "book", "ball", "letter", "key",
                                                 "ring",  "map",  "coin", "flower", "phone"};
// {A}, {B}: the two names; {S}: the giver; {P}: a place; {O}: an object.
constexpr std::array<const char*, 6> givings = {
    "When {A} and {B} went to the {P}, {S} gave a {O} to",
    "Then, {A} and {B} went to the {P}. {S} gave a {O} to",
    "After {A} and {B} went to the {P}, {S} handed a {O} to",
    "While {A} and {B} were working at the {P}, {S} gave a {O} to",
    "Then, {A} and {B} had a long talk at the {P}. Afterwards {S} gave a {O} to",
    "The {P} was where {A} and {B} met, and {S} offered a {O} to"};
constexpr std::array<const char*, 16> events = {
    "war",    "dispute", "project",  "reform",     "siege",    "journey", "voyage", "conflict",
    "famine", "strike",  "campaign", "expedition", "festival", "trial",   "debate", "alliance"};

std::string filled(std::string text, const std::string& key, const std::string& value) {
  const std::string mark = "{" + key + "}";
  for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark))
    text.replace(at, mark.size(), value);
  return text;
}

template <class List>
const char* drawn(const List& list, Random& random) {
  return list[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(list.size())))];
}

// The token that `more` adds to the text, if it is one and leaves the tokens before it as they are.
std::optional<std::int64_t> next_token(const Tokenizer& tokenizer, const std::string& text,
                                       const std::string& more) {
  const Ids before = tokenizer.encode(text);
  const Ids after = tokenizer.encode(text + more);
  if (after.size() != before.size() + 1 || !std::equal(before.begin(), before.end(), after.begin()))
    return std::nullopt;
  return after.back();
}

std::string line(const Json& clean, const Json& corrupt, const Json& right, const Json& wrong) {
  const Json pair = {{"clean", clean}, {"corrupt", corrupt}, {"answers", {right, wrong}}};
  return pair.dump();
}

// One pair, or nothing where the tokenizer does not write it as it should.
using Maker = std::function<std::optional<std::string>(Random& random)>;

std::vector<std::string> collect(const PairTaskOptions& options, PairTask task,
                                 const Maker& maker) {
  std::vector<std::string> lines;
  std::set<std::string> known;
  Random random(options.seed);
  for (std::int64_t attempt = 0; attempt < options.count * attempts_for_each; ++attempt) {
    if (static_cast<std::int64_t>(lines.size()) == options.count) return lines;
    const std::optional<std::string> made = maker(random);
    if (made && known.insert(*made).second) lines.push_back(*made);
  }
  if (static_cast<std::int64_t>(lines.size()) == options.count) return lines;
  throw Error(ErrorKind::bad_argument,
              fmt::format("found only {} different pairs of {} with this tokenizer, not {}; ask "
                          "for fewer",
                          lines.size(), to_string(task), options.count));
}

std::vector<std::string> names_of(const Tokenizer& tokenizer) {
  std::vector<std::string> known;
  for (const char* name : names) {
    if (next_token(tokenizer, "When", std::string(" ") + name)) known.emplace_back(name);
  }
  if (known.size() < fewest_names) {
    throw Error(ErrorKind::unsupported,
                fmt::format("the tokenizer writes {} of {} names as one token; ioi needs {}",
                            known.size(), names.size(), fewest_names));
  }
  return known;
}

std::vector<std::string> ioi(const Tokenizer& tokenizer, const PairTaskOptions& options) {
  const std::vector<std::string> known = names_of(tokenizer);
  return collect(options, PairTask::ioi, [&](Random& random) -> std::optional<std::string> {
    const std::vector<std::int64_t> order =
        random.permutation(static_cast<std::int64_t>(known.size()));
    const std::string& first = known[static_cast<std::size_t>(order[0])];
    const std::string& second = known[static_cast<std::size_t>(order[1])];
    std::string text = filled(drawn(givings, random), "P", drawn(places, random));
    text = filled(text, "O", drawn(objects, random));
    text = filled(filled(text, "A", first), "B", second);
    const bool second_gives = random.below(2) == 0;
    const std::string& giver = second_gives ? second : first;
    const std::string& other = second_gives ? first : second;
    const std::string clean = filled(text, "S", giver);
    const std::string corrupt = filled(text, "S", other);
    const auto right = next_token(tokenizer, clean, " " + other);
    const auto wrong = next_token(tokenizer, corrupt, " " + giver);
    if (!right || !wrong || tokenizer.encode(clean).size() != tokenizer.encode(corrupt).size())
      return std::nullopt;
    return line(clean, corrupt, *right, *wrong);
  });
}

// Of two digits after the century where these are one token, else of one.
std::vector<std::string> greater_than(const Tokenizer& tokenizer, const PairTaskOptions& options) {
  const std::string probe = "The war lasted from the year 1732 to the year 17";
  const bool pairs_of_digits = next_token(tokenizer, probe, "45").has_value();
  if (!pairs_of_digits && !next_token(tokenizer, probe, "4")) {
    throw Error(ErrorKind::unsupported,
                "the tokenizer writes neither two digits nor one behind a century as one token; "
                "greater-than needs that");
  }
  return collect(
      options, PairTask::greater_than, [&](Random& random) -> std::optional<std::string> {
        const std::string event = drawn(events, random);
        const std::string century = std::to_string(11 + random.below(7));
        // From 02 to 98: some years are later, and 01 is earlier. Of digits, decades 1 to 8.
        const std::int64_t year = pairs_of_digits ? 2 + random.below(97) : 10 + random.below(80);
        const auto prompt = [&](std::int64_t from) {
          return fmt::format("The {} lasted from the year {}{:02} to the year {}", event, century,
                             from, century);
        };
        const std::string clean = prompt(year);
        const std::string corrupt = prompt(1);
        if (tokenizer.encode(clean).size() != tokenizer.encode(corrupt).size()) return std::nullopt;
        Json right = Json::array();
        Json wrong = Json::array();
        const std::int64_t last = pairs_of_digits ? 99 : 9;
        const std::int64_t own = pairs_of_digits ? year : year / 10;
        for (std::int64_t answer = 0; answer <= last; ++answer) {
          const auto id =
              next_token(tokenizer, clean,
                         pairs_of_digits ? fmt::format("{:02}", answer) : std::to_string(answer));
          if (!id || (!pairs_of_digits && answer == own))
            continue;  // the decade itself says little
          (answer > own ? right : wrong).push_back(*id);
        }
        if (right.empty() || wrong.empty()) return std::nullopt;
        return line(clean, corrupt, right, wrong);
      });
}

std::vector<std::string> induction(const Tokenizer* tokenizer, std::int64_t vocab,
                                   const PairTaskOptions& options) {
  const std::int64_t n = options.length;
  Ids usable;
  for (std::int64_t id = 0; id < vocab; ++id) {
    if (tokenizer == nullptr || (id < tokenizer->size() && !tokenizer->is_special(id)))
      usable.push_back(id);
  }
  const auto size = static_cast<std::int64_t>(usable.size());
  if (size < n + 1) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("{} different tokens are needed, and there are {}; ask for a shorter "
                            "length",
                            n + 1, size));
  }
  return collect(options, PairTask::induction, [&](Random& random) -> std::optional<std::string> {
    std::set<std::int64_t> seen;
    Ids tokens;
    while (static_cast<std::int64_t>(tokens.size()) < n + 1) {
      const std::int64_t id = usable[static_cast<std::size_t>(random.below(size))];
      if (seen.insert(id).second) tokens.push_back(id);
    }
    const std::int64_t other = tokens.back();
    tokens.pop_back();
    // The sequence starts again and breaks off before its token number `asked`.
    const auto asked = static_cast<std::size_t>(1 + random.below(n - 1));
    Ids clean = tokens;
    Ids corrupt = tokens;
    corrupt[asked] = other;
    for (std::size_t i = 0; i < asked; ++i) {
      clean.push_back(tokens[i]);
      corrupt.push_back(tokens[i]);
    }
    return line(clean, corrupt, tokens[asked], other);
  });
}

}  // namespace

const char* to_string(PairTask task) noexcept {
  switch (task) {
    case PairTask::ioi: return "ioi";
    case PairTask::greater_than: return "greater-than";
    case PairTask::induction: return "induction";
  }
  return "ioi";
}

PairTask parse_pair_task(const std::string& text) {
  for (const PairTask task : {PairTask::ioi, PairTask::greater_than, PairTask::induction}) {
    if (text == to_string(task)) return task;
  }
  throw Error(ErrorKind::bad_argument,
              fmt::format("expected ioi, greater-than or induction, got \"{}\"", text));
}

std::vector<std::string> make_pair_lines(PairTask task, const Tokenizer* tokenizer,
                                         std::int64_t vocab, const PairTaskOptions& options) {
  if (options.count < 1 || options.length < 2) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("expected at least 1 pair and a length of at least 2, got {} and {}",
                            options.count, options.length));
  }
  if (task == PairTask::induction) return induction(tokenizer, vocab, options);
  if (tokenizer == nullptr) {
    throw Error(ErrorKind::unsupported,
                fmt::format("{} is text, and the model has no tokenizer; induction is made of ids",
                            to_string(task)));
  }
  return task == PairTask::ioi ? ioi(*tokenizer, options) : greater_than(*tokenizer, options);
}

}  // namespace plumb
