// Texts that models train on: how they are read and cut into sequences.
#include "plumb/corpus.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>

#include "plumb/error.h"
#include "plumb/train.h"
#include "support/paths.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

/// Twelve documents: "a0 b0 c0 ", "a1 b1 c1 " and so on, so that each byte tells little.
std::string document(int i) {
  std::string text;
  for (const char letter : std::string("abc")) text += letter + std::to_string(i) + " ";
  return text + (i % 2 == 0 ? "even" : "and odd");
}

fs::path written(const std::string& name, const std::string& text) {
  const fs::path file = scratch_dir() / name;
  std::ofstream(file, std::ios::binary) << text;
  return file;
}

Corpus twelve() {
  std::string text;
  for (int i = 0; i < 12; ++i) text += document(i) + "\r\n \n";
  return read_corpus(written("texts.txt", text));
}

TEST(Corpus, LinesAndFilesAreDocuments) {
  const Corpus lines = twelve();
  ASSERT_EQ(lines.training.size(), 11U);
  ASSERT_EQ(lines.held_out.size(), 1U);
  EXPECT_EQ(lines.training[3], document(3));
  EXPECT_EQ(lines.held_out[0], document(11));

  const fs::path directory = scratch_dir() / "texts";
  fs::create_directories(directory);
  for (int i = 11; i >= 0; --i)
    std::ofstream(directory / (std::string(1, static_cast<char>('a' + i)) + ".txt")) << document(i);
  std::ofstream(directory / "notes.md") << "no document";
  const Corpus files = read_corpus(directory);
  EXPECT_EQ(files.training, lines.training);
  EXPECT_EQ(files.held_out, lines.held_out);
  EXPECT_EQ(files.sha256, lines.sha256);
  std::ofstream(directory / "b.txt") << "another";
  EXPECT_NE(read_corpus(directory).sha256, lines.sha256);
}

TEST(Corpus, WhatCannotBeTrainedOnIsRefused) {
  const auto kind = [](const fs::path& path) {
    try {
      read_corpus(path);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::internal;
  };
  EXPECT_EQ(kind(scratch_dir() / "none"), ErrorKind::bad_file);
  EXPECT_EQ(kind(scratch_dir()), ErrorKind::bad_file);  // no .txt
  EXPECT_EQ(kind(written("one", "a single line\n")), ErrorKind::bad_file);
  EXPECT_EQ(kind(written("binary", std::string("two\nli\0nes", 10))), ErrorKind::bad_file);
  const fs::path directory = scratch_dir() / "empty";
  fs::create_directories(directory);
  for (const char* name : {"a.txt", "b.txt"}) std::ofstream(directory / name) << "";
  EXPECT_EQ(kind(directory), ErrorKind::bad_file);
  EXPECT_THROW(parse_packing("pack"), Error);
  EXPECT_EQ(parse_packing("starts"), Packing::starts);
}

std::string bytes_of(const at::Tensor& ids, std::int64_t row, std::int64_t from) {
  std::string text;
  for (std::int64_t t = from; t < ids.size(1); ++t)
    text += static_cast<char>(ids[row][t].item<std::int64_t>());
  return text;
}

TEST(Corpus, SequencesAreCutAsThePackingSays) {
  constexpr std::int64_t sequences = 200;
  constexpr std::int64_t length = 20;
  const auto corpus = std::make_shared<const Corpus>(twelve());
  // Twice, since what reaches past the last document goes on in the first.
  std::string joined;
  std::string held_out;
  for (int copy = 0; copy < 2; ++copy) {
    for (const std::string& text : corpus->training) joined += text + "\n";
    for (const std::string& text : corpus->held_out) held_out += text + "\n";
  }
  for (const Packing packing : {Packing::stream, Packing::starts}) {
    const TaskOptions options{.task = TrainTask::text,
                              .vocab = 256,
                              .length = length,
                              .bos = packing == Packing::starts,
                              .corpus = corpus,
                              .packing = packing};
    const std::int64_t from = options.bos ? 1 : 0;
    const TaskBatch batch = Task(options).training(0, sequences);
    EXPECT_FALSE(batch.active.any().item<bool>());
    std::set<std::string> beginnings;
    for (std::int64_t b = 0; b < sequences; ++b) {
      const std::string text = bytes_of(batch.ids, b, from);
      EXPECT_NE(joined.find(text), std::string::npos) << text;
      if (options.bos) {
        EXPECT_EQ(batch.ids[b][0].item<std::int64_t>(), 0);
      }
      beginnings.insert(text.substr(0, 2));
    }
    // Of documents' beginnings there are eleven: a0 to a9, and a1 again for a10.
    if (packing == Packing::starts) {
      EXPECT_EQ(beginnings.size(), 10U);
      EXPECT_EQ(beginnings.begin()->front(), 'a');
    } else {
      EXPECT_GT(beginnings.size(), 20U);
    }
    const TaskBatch other = Task(options).held_out(0, 10);
    for (std::int64_t b = 0; b < 10; ++b)
      EXPECT_NE(held_out.find(bytes_of(other.ids, b, from)), std::string::npos);
    EXPECT_TRUE(at::equal(batch.ids.narrow(0, 0, 3), Task(options).training(0, 3).ids));
    EXPECT_FALSE(at::equal(batch.ids.narrow(0, 0, 3), Task(options).training(1, 3).ids));
  }
}

TEST(Corpus, TextTrainsAndItsStateIsThatOfItsTexts) {
  TrainOptions options;
  options.config = model_config(
      ModelStyle::llama,
      {.layers = 1, .heads = 2, .d_model = 16, .d_mlp = 24, .vocab = 256, .context = 16});
  options.task = {.task = TrainTask::text,
                  .vocab = 256,
                  .length = 16,
                  .corpus = std::make_shared<const Corpus>(twelve())};
  options.steps = 60;
  options.warm_up = 5;
  options.rate = 1e-2;
  Training training(options);
  while (!training.finished()) training.advance();
  EXPECT_GT(training.history().front().loss, 5.0);            // log 256 is 5.5
  EXPECT_LT(training.history().back().loss, std::log(20.0));  // of the ids that occur
  TrainOptions other = options;
  other.task.packing = Packing::starts;
  EXPECT_NE(describe(other), describe(options));
  auto changed = std::make_shared<Corpus>(*options.task.corpus);
  changed->sha256 = "other";
  other = options;
  other.task.corpus = changed;
  EXPECT_NE(describe(other), describe(options));
}

TEST(Corpus, WrongTasksAreRefused) {
  const auto corpus = std::make_shared<const Corpus>(twelve());
  const auto refused = [](const TaskOptions& options) {
    try {
      const Task task(options);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::bad_argument;
    }
    return false;
  };
  EXPECT_TRUE(refused({.task = TrainTask::text, .vocab = 256}));
  EXPECT_TRUE(refused({.task = TrainTask::text, .vocab = 128, .corpus = corpus}));
  EXPECT_TRUE(refused({.corpus = corpus}));
  EXPECT_TRUE(
      refused({.task = TrainTask::text, .vocab = 256, .corpus = std::make_shared<Corpus>()}));
}

}  // namespace
}  // namespace plumb::test
