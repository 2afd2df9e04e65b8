#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <thread>

#include "plumb/archive.h"
#include "plumb/error.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The message of the plumb::Error of this kind that `call` throws.
template <typename Call>
std::string message_of(ErrorKind kind, const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

void expect_returns(const at::Tensor& value) {
  const fs::path file = test::scratch_dir() / "x.h5";
  ArchiveWriter writer(file);
  writer.dataset("/a/value", value);
  writer.close();
  const at::Tensor back = Archive(file).tensor("/a/value");
  EXPECT_EQ(back.scalar_type(), value.scalar_type());
  ASSERT_EQ(back.sizes(), value.sizes());
  EXPECT_TRUE(at::equal(back, value.contiguous()));
}

TEST(Archive, ReturnsEveryKeptDtypeBitForBit) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kLong}) {
    expect_returns(at::arange(24, at::kLong).sub(7).reshape({2, 3, 4}).to(dtype));
  }
  expect_returns(at::full({}, std::numeric_limits<std::int64_t>::min(), at::kLong));
  expect_returns(at::full({3}, std::numeric_limits<float>::denorm_min(), at::kFloat));
}

TEST(Archive, ReturnsScalarsAndEmptyTensors) {
  expect_returns(at::full({}, 2.5));
  expect_returns(at::empty({0}));
  expect_returns(at::empty({3, 0, 5}, at::kDouble));
}

TEST(Archive, ReturnsTensorsOfEveryLayoutOnDisk) {
  for (const std::int64_t count : {1, 511, 512, 513, 20'000, 300'000}) {
    expect_returns(at::arange(count, at::kFloat));
    expect_returns(at::arange(count, at::kFloat).reshape({1, 1, count}));
    expect_returns(at::arange(2 * count, at::kDouble).reshape({count, 2}));
  }
}

TEST(Archive, KeepsTheValuesOfViewsInRowMajorOrder) {
  const at::Tensor whole = at::arange(60, at::kFloat).reshape({5, 12});
  expect_returns(whole.t());
  expect_returns(whole.slice(1, 1, 12, 3));
  expect_returns(whole.select(0, 2).expand({4, 12}));
  expect_returns(whole.clone().requires_grad_().detach().flip(0));
}

TEST(Archive, KeepsNanAndInfinity) {
  const fs::path file = test::scratch_dir() / "x.h5";
  ArchiveWriter writer(file);
  writer.dataset("/x", at::full({2}, std::numeric_limits<double>::infinity())
                           .div(at::tensor({1.0, 0.0}).mul(0).add(1)));
  writer.dataset("/y", at::full({2}, std::numeric_limits<double>::quiet_NaN()));
  writer.close();
  const Archive archive(file);
  EXPECT_TRUE(at::isinf(archive.tensor("/x")).all().item<bool>());
  EXPECT_TRUE(at::isnan(archive.tensor("/y")).all().item<bool>());
}

TEST(Archive, RefusesWhatItDoesNotKeep) {
  ArchiveWriter writer(test::scratch_dir() / "x.h5");
  for (const at::ScalarType dtype :
       {at::kBool, at::kInt, at::kHalf, at::kBFloat16, at::kComplexFloat}) {
    const std::string message =
        message_of(ErrorKind::bad_shape, [&] { writer.dataset("/x", at::ones({2}, dtype)); });
    EXPECT_NE(message.find("/x"), std::string::npos) << message;
    EXPECT_NE(message.find(c10::toString(dtype)), std::string::npos) << message;
  }
  message_of(ErrorKind::bad_shape, [&] { writer.dataset("/x", at::eye(3).to_sparse()); });
  message_of(ErrorKind::bad_argument, [&] { writer.dataset("/x", at::Tensor()); });
  message_of(ErrorKind::bad_argument,
             [&] { writer.dataset("/x", std::vector<std::string>{std::string("a\0b", 3)}); });
}

TEST(Archive, ReturnsStringsOfUtf8) {
  const std::vector<std::string> few = {"", "plain", "Größe", "ĠThe", "水槽", "🚰 drain", " end "};
  std::vector<std::string> many;
  for (int i = 0; i < 5000; ++i) many.push_back("token " + std::to_string(i));
  const fs::path file = test::scratch_dir() / "x.h5";
  ArchiveWriter writer(file);
  writer.dataset("/few", few, {{"token"}, "", "mixed scripts: 水"});
  writer.dataset("/many", many);
  writer.dataset("/none", std::vector<std::string>{});
  writer.dataset("/größe", std::vector<std::string>{"x"});
  writer.close();
  const Archive archive(file);
  EXPECT_EQ(archive.strings("/few"), few);
  EXPECT_EQ(archive.strings("/many"), many);
  EXPECT_TRUE(archive.strings("/none").empty());
  EXPECT_EQ(archive.label("/few").note, "mixed scripts: 水");
  EXPECT_EQ(archive.datasets(), (std::vector<std::string>{"/few", "/größe", "/many", "/none"}));
}

TEST(Archive, ReturnsLabelsAndAttributes) {
  const fs::path file = test::scratch_dir() / "x.h5";
  const std::string options(100'000, 'x');  // longer than an object header holds
  ArchiveWriter writer(file);
  writer.dataset("/sink/mean", at::ones({2, 3}),
                 {{"layer", "head"}, "share", "attention to key 0"});
  writer.attribute("/provenance", "options", options);
  writer.attribute("/provenance", "seed", std::int64_t{-3});
  writer.attribute("/provenance", "seed", std::int64_t{7});
  writer.attribute("/provenance", "scale", 0.1);
  writer.attribute("/provenance", "note", std::string());
  writer.close();
  const Archive archive(file);
  const Label label = archive.label("/sink/mean");
  EXPECT_EQ(label.axes, (std::vector<std::string>{"layer", "head"}));
  EXPECT_EQ(label.unit, "share");
  EXPECT_EQ(label.note, "attention to key 0");
  EXPECT_EQ(archive.attribute("/sink/mean", "axes"), "layer, head");
  EXPECT_EQ(archive.attribute("/provenance", "options"), options);
  const std::map<std::string, std::string> rest = {
      {"note", ""}, {"options", options}, {"scale", "0.1"}, {"seed", "7"}};
  EXPECT_EQ(archive.attributes("/provenance"), rest);
  EXPECT_EQ(archive.attribute("/", "plumb_format"), "1");
  EXPECT_TRUE(archive.has("/sink"));
  EXPECT_FALSE(archive.has("/sink/mean/more"));
  EXPECT_FALSE(archive.has("/sink/rate"));
}

TEST(Archive, RefusesPathsThatAreTakenOrMalformed) {
  ArchiveWriter writer(test::scratch_dir() / "x.h5");
  const at::Tensor value = at::ones({2});
  writer.dataset("/a/b", value);
  for (const char* path :
       {"", "a", "/", "//", "/a/", "/a//c", "/a/./c", "/a/../c", "/a/b", "/a", "/a/b/c"}) {
    message_of(ErrorKind::bad_argument, [&] { writer.dataset(path, value); });
  }
  message_of(ErrorKind::bad_argument, [&] { writer.attribute("a", "name", 1.0); });
  message_of(ErrorKind::bad_argument, [&] { writer.dataset("/c", value, {{"layer", "head"}}); });
  EXPECT_NO_THROW(writer.dataset("/c", value, {{"layer"}}));
}

TEST(Archive, NamesWhatIsThereWhenSomethingIsMissing) {
  const fs::path file = test::scratch_dir() / "x.h5";
  ArchiveWriter writer(file);
  writer.dataset("/sink/mean", at::ones({2}));
  writer.close();
  const Archive archive(file);
  for (const char* path : {"/sink/median", "/sink", "sink/mean", "/sink/mean/x", ""}) {
    const std::string message =
        message_of(ErrorKind::bad_file, [&] { (void)archive.tensor(path); });
    EXPECT_NE(message.find("/sink/mean"), std::string::npos) << message;
    EXPECT_NE(message.find("x.h5"), std::string::npos) << message;
  }
  const std::string message =
      message_of(ErrorKind::bad_file, [&] { (void)archive.attribute("/", "plumb"); });
  EXPECT_NE(message.find("plumb_version"), std::string::npos) << message;
  message_of(ErrorKind::unsupported, [&] { (void)archive.strings("/sink/mean"); });
}

TEST(Archive, OfEqualContentHasEqualBytes) {
  const fs::path dir = test::scratch_dir();
  for (const char* name : {"a.h5", "b.h5"}) {
    ArchiveWriter writer(dir / name);
    writer.dataset("/g/x", at::arange(30'000, at::kFloat), {{"position"}, "1", ""});
    writer.dataset("/g/y", std::vector<std::string>{"a", "b"});
    writer.attribute("/h", "seed", std::int64_t{1});
    writer.close();
  }
  EXPECT_EQ(bytes_of(dir / "a.h5"), bytes_of(dir / "b.h5"));
}

TEST(Archive, IsWrittenAndReadFromSeveralThreads) {
  const fs::path dir = test::scratch_dir();
  constexpr int kThreads = 4;
  std::vector<int> good(kThreads, 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const fs::path file = dir / (std::to_string(t) + ".h5");
      ArchiveWriter writer(file);
      for (int i = 0; i < 20; ++i) writer.dataset("/" + std::to_string(i), at::full({700}, t));
      writer.close();
      const Archive archive(file);
      for (int i = 0; i < 20; ++i) {
        good[static_cast<std::size_t>(t)] +=
            at::equal(archive.tensor("/" + std::to_string(i)), at::full({700}, t)) ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, std::vector<int>(kThreads, 20));
}

TEST(Archive, CanBeMoved) {
  const fs::path dir = test::scratch_dir();
  ArchiveWriter first(dir / "a.h5");
  ArchiveWriter second(std::move(first));
  message_of(ErrorKind::bad_argument, [&] { first.close(); });  // NOLINT(bugprone-use-after-move)
  second.dataset("/x", at::ones({1}));
  second.close();
  message_of(ErrorKind::bad_argument, [&] { second.close(); });
  message_of(ErrorKind::bad_argument, [&] { second.dataset("/y", at::ones({1})); });
  Archive archive(dir / "a.h5");
  const Archive moved = std::move(archive);
  EXPECT_EQ(moved.datasets(), std::vector<std::string>{"/x"});
}

}  // namespace
}  // namespace plumb
