// Datasets that are written row after row.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "plumb/archive.h"
#include "plumb/error.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

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

TEST(Append, GivesTheSameTensorHoweverItIsCut) {
  // From one row in a chunk to several chunks in a row.
  for (const std::int64_t width : {3, 5'000, 400'000}) {
    const at::Tensor whole = at::arange(30 * width, at::kFloat).reshape({30, 1, width});
    for (const std::int64_t step : {1, 7, 30}) {
      const fs::path file = test::scratch_dir() / "x.h5";
      ArchiveWriter writer(file);
      writer.reserve("/a/x", at::kFloat, {30, 1, width}, {.axes = {"batch", "head", "d_head"}});
      for (std::int64_t first = 0; first < 30; first += step) {
        writer.append("/a/x", whole.narrow(0, first, std::min(step, 30 - first)));
      }
      writer.close();
      const Archive archive(file);
      EXPECT_TRUE(at::equal(archive.tensor("/a/x"), whole)) << width << " " << step;
      EXPECT_EQ(archive.label("/a/x").axes, (std::vector<std::string>{"batch", "head", "d_head"}));
    }
  }
}

TEST(Append, KeepsEveryDtype) {
  const at::Tensor values = at::arange(24, at::kLong).sub(7).reshape({4, 6});
  for (const at::ScalarType dtype : {at::kHalf, at::kFloat, at::kDouble, at::kLong}) {
    const fs::path file = test::scratch_dir() / "x.h5";
    ArchiveWriter writer(file);
    writer.reserve("/x", dtype, {4, 6});
    writer.append("/x", values.to(dtype));
    writer.close();
    const at::Tensor back = Archive(file).tensor("/x");
    EXPECT_TRUE(at::equal(back.to(at::kLong), values));
    EXPECT_EQ(back.scalar_type(), dtype == at::kHalf ? at::kFloat : dtype);
  }
}

TEST(Append, HalfKeepsItsLargestItsSmallestAndInfinity) {
  const at::Tensor values = at::tensor({65504.0F, 5.9604645e-08F, -INFINITY, 0.333251953125F});
  const fs::path file = test::scratch_dir() / "x.h5";
  ArchiveWriter writer(file);
  writer.reserve("/x", at::kHalf, {4});
  writer.append("/x", values.to(at::kHalf));
  writer.close();
  EXPECT_TRUE(at::equal(Archive(file).tensor("/x"), values));
}

TEST(Append, WhatWasAppendedIsAllThatTheFileHolds) {
  const fs::path file = test::scratch_dir() / "x.h5";
  ArchiveWriter writer(file);
  writer.reserve("/x", at::kFloat, {10, 2});
  writer.reserve("/empty", at::kFloat, {10, 2});
  writer.append("/x", at::ones({3, 2}));
  writer.close();
  EXPECT_EQ(Archive(file).tensor("/x").sizes(), (c10::IntArrayRef{3, 2}));
  EXPECT_EQ(Archive(file).tensor("/empty").sizes(), (c10::IntArrayRef{0, 2}));
}

TEST(Append, RefusesRowsThatDoNotFit) {
  ArchiveWriter writer(test::scratch_dir() / "x.h5");
  writer.reserve("/x", at::kFloat, {3, 2});
  EXPECT_NE(message_of(ErrorKind::bad_shape,
                       [&] {
                         writer.append("/x", at::ones({1, 3}));
                       })
                .find("rows of /x must be [2]"),
            std::string::npos);
  message_of(ErrorKind::bad_shape, [&] { writer.append("/x", at::ones({1, 2}, at::kDouble)); });
  message_of(ErrorKind::bad_shape, [&] { writer.append("/x", at::Tensor()); });
  writer.append("/x", at::ones({2, 2}));
  EXPECT_NE(message_of(ErrorKind::bad_argument,
                       [&] {
                         writer.append("/x", at::ones({2, 2}));
                       })
                .find("reserved for 3 rows; 2 are there and 2 more came"),
            std::string::npos);
  EXPECT_NE(message_of(ErrorKind::bad_argument,
                       [&] {
                         writer.append("/y", at::ones({2, 2}));
                       })
                .find("nothing reserved at /y"),
            std::string::npos);
}

TEST(Append, RefusesWhatCannotBeReserved) {
  ArchiveWriter writer(test::scratch_dir() / "x.h5");
  writer.dataset("/taken", at::ones({2}));
  message_of(ErrorKind::bad_argument, [&] { writer.reserve("/taken", at::kFloat, {3, 2}); });
  message_of(ErrorKind::bad_argument, [&] {
    writer.reserve("/x", at::kFloat, {3, 2}, {.axes = {"batch"}});
  });
  message_of(ErrorKind::bad_shape, [&] { writer.reserve("/y", at::kBFloat16, {3, 2}); });
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{}, std::vector<std::int64_t>{0, 2},
        std::vector<std::int64_t>{2, -1}}) {
    message_of(ErrorKind::bad_shape, [&] { writer.reserve("/z", at::kFloat, shape); });
  }
}

}  // namespace
}  // namespace plumb
