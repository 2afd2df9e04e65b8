// Archives and the HDF5 library itself, without plumb's wrapping in between.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <filesystem>
#include <numeric>

#include "plumb/archive.h"
#include "plumb/error.h"
#include "support/paths.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

ErrorKind kind_of(const std::function<void()>& call) {
  H5E_auto2_t report = nullptr;
  void* data = nullptr;
  H5Eget_auto2(H5E_DEFAULT, &report, &data);
  try {
    call();
  } catch (const Error& error) {
    H5E_auto2_t after = nullptr;
    H5Eget_auto2(H5E_DEFAULT, &after, &data);
    EXPECT_EQ(report, after) << "the caller's own error reporting was changed";
    return error.kind();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorKind::internal;
}

hid_t create(const fs::path& file, std::int64_t format) {
  const hid_t id = H5Fcreate(file.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t space = H5Screate(H5S_SCALAR);
  const hid_t attribute =
      H5Acreate2(id, "plumb_format", H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
  H5Awrite(attribute, H5T_NATIVE_INT64, &format);
  H5Aclose(attribute);
  H5Sclose(space);
  return id;
}

template <typename T>
void add(hid_t file, const char* path, hid_t stored, hid_t given, std::vector<hsize_t> dims,
         const std::vector<T>& values) {
  const hid_t space = H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr);
  const hid_t set = H5Dcreate2(file, path, stored, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Dwrite(set, given, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
  H5Dclose(set);
  H5Sclose(space);
}

TEST(ArchiveExchange, IsReadByPlainHdf5) {
  const fs::path path = test::scratch_dir() / "x.h5";
  ArchiveWriter writer(path);
  writer.dataset("/sink/mean", at::arange(6, at::kFloat).reshape({2, 3}),
                 {{"layer", "head"}, "share", ""});
  writer.dataset("/big", at::arange(100'000, at::kLong));
  writer.attribute("/provenance", "model", "smollm2");
  writer.close();

  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  const hid_t mean = H5Dopen2(file, "/sink/mean", H5P_DEFAULT);
  std::vector<float> values(6);
  ASSERT_GE(H5Dread(mean, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
  EXPECT_EQ(values, (std::vector<float>{0, 1, 2, 3, 4, 5}));
  const hid_t type = H5Dget_type(mean);
  EXPECT_GT(H5Tequal(type, H5T_IEEE_F32LE), 0);

  const hid_t axes = H5Aopen(mean, "axes", H5P_DEFAULT);
  const hid_t text = H5Aget_type(axes);
  EXPECT_EQ(H5Tget_cset(text), H5T_CSET_UTF8);
  ASSERT_EQ(H5Tget_size(text), 5U);
  std::string names(10, '?');
  ASSERT_GE(H5Aread(axes, text, names.data()), 0);
  EXPECT_EQ(names, std::string("layerhead\0", 10));

  const hid_t big = H5Dopen2(file, "/big", H5P_DEFAULT);
  std::vector<std::int64_t> numbers(100'000);
  ASSERT_GE(H5Dread(big, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, numbers.data()), 0);
  EXPECT_EQ(std::accumulate(numbers.begin(), numbers.end(), std::int64_t{0}), 4'999'950'000);
  const hsize_t raw = 100'000 * sizeof(std::int64_t);
  EXPECT_LT(H5Dget_storage_size(big), raw / 4) << "large data were not deflated";

  for (const hid_t id : {axes, mean, big}) H5Idec_ref(id);
  H5Tclose(text);
  H5Tclose(type);
  EXPECT_EQ(H5Fclose(file), 0);
}

TEST(ArchiveExchange, ReadsWhatPlainHdf5Wrote) {
  const fs::path path = test::scratch_dir() / "x.h5";
  const hid_t file = create(path, 1);
  add<double>(file, "/f64be", H5T_IEEE_F64BE, H5T_NATIVE_DOUBLE, {2, 2}, {1.5, -2, 3, 4});
  add<float>(file, "/f32", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, {3}, {1, 2, 3});
  add<int>(file, "/i8", H5T_STD_I8LE, H5T_NATIVE_INT, {2}, {-128, 127});
  add<int>(file, "/u32", H5T_STD_U32BE, H5T_NATIVE_INT, {1}, {5});
  add<int>(file, "/u64", H5T_STD_U64LE, H5T_NATIVE_INT, {1}, {5});
  const hid_t padded = H5Tcopy(H5T_FORTRAN_S1);
  H5Tset_size(padded, 4);
  add<char>(file, "/fortran", padded, padded, {2}, {'a', 'b', ' ', ' ', 'a', 'b', 'c', 'd'});
  const hid_t flag = H5Tenum_create(H5T_NATIVE_INT8);
  const std::int8_t one = 1;
  H5Tenum_insert(flag, "TRUE", &one);
  add<std::int8_t>(file, "/enum", flag, flag, {1}, {1});
  const hid_t variable = H5Tcopy(H5T_C_S1);
  H5Tset_size(variable, H5T_VARIABLE);
  add<const char*>(file, "/variable", variable, variable, {1}, {"text"});
  H5Tclose(padded);
  H5Tclose(flag);
  H5Tclose(variable);
  ASSERT_EQ(H5Fclose(file), 0);

  const Archive archive(path);
  EXPECT_TRUE(at::equal(archive.tensor("/f64be"),
                        at::tensor({1.5, -2.0, 3.0, 4.0}).to(at::kDouble).reshape({2, 2})));
  EXPECT_TRUE(at::equal(archive.tensor("/f32"), at::arange(1, 4, at::kFloat)));
  EXPECT_EQ(archive.tensor("/i8").select(0, 0).item<std::int64_t>(), -128);
  EXPECT_EQ(archive.tensor("/u32").item<std::int64_t>(), 5);
  EXPECT_EQ(archive.strings("/fortran"), (std::vector<std::string>{"ab", "abcd"}));
  EXPECT_EQ(kind_of([&] { (void)archive.tensor("/u64"); }), ErrorKind::unsupported);
  EXPECT_EQ(kind_of([&] { (void)archive.tensor("/enum"); }), ErrorKind::unsupported);
  EXPECT_EQ(kind_of([&] { (void)archive.strings("/variable"); }), ErrorKind::unsupported);
}

TEST(ArchiveExchange, RefusesFilesThatAreNotPlumbs) {
  const fs::path dir = test::scratch_dir();
  const hid_t plain =
      H5Fcreate((dir / "plain.h5").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  H5Fclose(plain);
  H5Fclose(create(dir / "later.h5", 2));
  EXPECT_EQ(kind_of([&] { Archive{dir / "plain.h5"}; }), ErrorKind::bad_file);
  EXPECT_EQ(kind_of([&] { Archive{dir / "later.h5"}; }), ErrorKind::unsupported);
  EXPECT_EQ(kind_of([&] { Archive{dir / "absent.h5"}; }), ErrorKind::bad_file);
  EXPECT_EQ(kind_of([&] { Archive{dir}; }), ErrorKind::bad_file);
}

TEST(ArchiveExchange, DoesNotLeaveTheFileOrItsSize) {
  const fs::path dir = test::scratch_dir();
  const hid_t file = create(dir / "x.h5", 1);
  // Claims a terabyte of which nothing is stored.
  hsize_t huge = hsize_t{1} << 37;
  hsize_t chunk = 1024;
  hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(creation, 1, &chunk);
  hid_t space = H5Screate_simple(1, &huge, nullptr);
  H5Dclose(H5Dcreate2(file, "/huge", H5T_IEEE_F64LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
  H5Pclose(creation);
  H5Sclose(space);
  // Keeps its data in another file.
  hsize_t four = 4;
  creation = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_external(creation, "/etc/hostname", 0, 4);
  space = H5Screate_simple(1, &four, nullptr);
  H5Dclose(H5Dcreate2(file, "/external", H5T_STD_I8LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
  H5Pclose(creation);
  H5Sclose(space);
  // Contains itself, and points elsewhere.
  const hid_t group = H5Gcreate2(file, "/loop", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_external("other.h5", "/x", file, "/link", H5P_DEFAULT, H5P_DEFAULT);
  H5Gclose(group);
  ASSERT_EQ(H5Fclose(file), 0);

  const Archive archive(dir / "x.h5");
  EXPECT_EQ(archive.datasets(), (std::vector<std::string>{"/external", "/huge"}));
  EXPECT_EQ(kind_of([&] { (void)archive.tensor("/huge"); }), ErrorKind::bad_file);
  EXPECT_EQ(kind_of([&] { (void)archive.tensor("/external"); }), ErrorKind::unsupported);
  EXPECT_EQ(kind_of([&] { (void)archive.tensor("/link"); }), ErrorKind::bad_file);

  const hid_t again = create(dir / "loop.h5", 1);
  const hid_t loop = H5Gcreate2(again, "/loop", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_hard(again, "/loop", loop, "self", H5P_DEFAULT, H5P_DEFAULT);
  H5Gclose(loop);
  ASSERT_EQ(H5Fclose(again), 0);
  EXPECT_EQ(kind_of([&] { (void)Archive(dir / "loop.h5").datasets(); }), ErrorKind::bad_file);
}

}  // namespace
}  // namespace plumb
