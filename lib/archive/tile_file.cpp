#include "plumb/tile_file.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "archive/h5.h"
#include "archive/pen.h"
#include "plumb/error.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

constexpr const char* kValues = "/tiles/values";
constexpr const char* kChecks = "/tiles/check";
constexpr const char* kExperiment = "experiment";

// FNV-1a of the tile's number and values; never 0, which means "not finished".
std::int64_t checksum(std::int64_t tile, const double* values, std::int64_t count) {
  constexpr std::uint64_t offset = 14695981039346656037U;
  constexpr std::uint64_t prime = 1099511628211U;
  std::uint64_t hash = offset;
  const auto mix = [&](std::uint64_t word) {
    for (int shift = 0; shift < 64; shift += 8) hash = (hash ^ ((word >> shift) & 255U)) * prime;
  };
  mix(static_cast<std::uint64_t>(tile));
  for (std::int64_t i = 0; i < count; ++i) mix(std::bit_cast<std::uint64_t>(values[i]));
  return std::bit_cast<std::int64_t>(hash | 1U);
}

// Closes the descriptor, and with it gives up the lock.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

}  // namespace

struct TileFile::Impl {
  fs::path path;
  bool resume = false;
  TileLayout layout = {};
  std::vector<std::int64_t> first = {};  // of each tile, its place among all values
  std::vector<std::int64_t> checks = {};
  h5::Pen pen = {};
  std::unique_ptr<Descriptor> descriptor = {};
  h5::Handle file = {};
  h5::Handle values = {};
  h5::Handle stored_checks = {};

  ~Impl() {
    const h5::Session session;
    close_all();
  }

  std::string where(const char* object = "") const {
    return fmt::format("cannot keep tiles in '{}'{}{}", path.string(), *object == '\0' ? "" : ": ",
                       object);
  }

  void close_all() {
    stored_checks.reset();
    values.reset();
    file.reset();
    descriptor.reset();
  }

  [[noreturn]] void fail(const std::string& reason) const {
    throw Error(ErrorKind::bad_file, where() + ": " + reason);
  }

  void check_pen() const {
    if (pen.error != 0) fail(std::strerror(pen.error));
  }

  void open_descriptor(const fs::path& name, int flags) {
    descriptor =
        std::make_unique<Descriptor>(::open(name.c_str(), O_RDWR | O_CLOEXEC | flags, 0666));
    if (descriptor->number() < 0) fail(std::strerror(errno));
    if (flock(descriptor->number(), LOCK_EX | LOCK_NB) != 0) fail("another process is using it");
    pen = {.descriptor = descriptor->number()};
  }

  std::int64_t total() const { return first.back(); }

  // The whole file is made under another name, so that what has the right name is complete.
  void create() {
    const fs::path part = path.string() + ".part";
    open_descriptor(part, O_CREAT | O_TRUNC);
    const std::string here = where();
    const h5::Handle access = h5::lasting_file_access(here);
    if (h5::write_through(access, pen) < 0) fail("HDF5 does not accept plumb's file driver");
    {
      h5::Handle made = h5::create_file(part.string(), h5::file_creation(here), access, here);
      const h5::Handle group = h5::create_group(made, "/tiles", here);
      const h5::Handle creation = h5::dataset_creation(here);
      h5::set_allocated_at_once(creation, here);
      const auto dataset = [&](const char* name, hid_t type, std::int64_t size) {
        const h5::Handle extent = h5::extent({static_cast<hsize_t>(size)}, here);
        h5::Handle data = h5::create_dataset(made, name, type, extent, creation, here);
      };
      dataset(kValues, H5T_IEEE_F64LE, total());
      dataset(kChecks, H5T_STD_I64LE, static_cast<std::int64_t>(layout.sizes.size()));
      const h5::Handle root = h5::open_object(made, "/", here);
      const h5::Handle type = h5::string_type(layout.experiment.size(), here);
      h5::write_attribute(root, kExperiment, type, type, h5::extent({}, here),
                          layout.experiment.data(), here);
      h5::close(made, here);
    }
    check_pen();
    if (fsync(descriptor->number()) != 0) fail(std::strerror(errno));
    if (std::rename(part.c_str(), path.c_str()) != 0) fail(std::strerror(errno));
    descriptor.reset();
  }

  void open_existing() {
    open_descriptor(path, 0);
    const std::string here = where();
    if (!h5::looks_like_hdf5(path.string(), here)) fail("it is no HDF5 file; delete it");
    const h5::Handle access = h5::lasting_file_access(here);
    if (h5::write_through(access, pen) < 0) fail("HDF5 does not accept plumb's file driver");
    file = h5::open_file_to_change(path.string(), access, here);
    const h5::Handle root = h5::open_object(file, "/", here);
    if (!h5::has_attribute(root, kExperiment, here)) fail("it holds no tiles; delete it");
    const h5::Handle attribute = h5::open_attribute(root, kExperiment, here);
    std::string experiment(layout.experiment.size(), '\0');
    const h5::Handle type = h5::string_type(experiment.size(), here);
    h5::read_attribute(attribute, type, experiment.data(), here);
    values = h5::open_object(file, kValues, here);
    stored_checks = h5::open_object(file, kChecks, here);
    const h5::Dims sizes = {static_cast<hsize_t>(total())};
    const h5::Dims tiles = {static_cast<hsize_t>(layout.sizes.size())};
    if (experiment != layout.experiment || h5::dims_of_dataset(values, here) != sizes ||
        h5::dims_of_dataset(stored_checks, here) != tiles) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("'{}' holds tiles of another experiment (other model, inputs, flags "
                              "or version); give another directory, or delete it",
                              path.string()));
    }
    checks.resize(layout.sizes.size());
    h5::read(stored_checks, H5T_NATIVE_INT64, checks.data(), here);
  }
};

TileFile::TileFile(fs::path path, bool resume) : impl_(std::make_unique<Impl>()) {
  impl_->path = std::move(path);
  impl_->resume = resume;
}
TileFile::~TileFile() = default;

void TileFile::open(const TileLayout& layout) {
  const h5::Session session;
  impl_->layout = layout;
  impl_->first.assign(1, 0);
  for (const std::int64_t size : layout.sizes) impl_->first.push_back(impl_->first.back() + size);
  std::error_code ignored;
  const bool there = fs::exists(impl_->path, ignored);
  if (there && !impl_->resume) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("'{}' holds an unfinished run; go on with --resume, or delete it",
                            impl_->path.string()));
  }
  if (!there) impl_->create();
  impl_->open_existing();
}

std::optional<at::Tensor> TileFile::find(std::int64_t tile) {
  const h5::Session session;
  const auto number = static_cast<std::size_t>(tile);
  const std::int64_t check = impl_->checks.at(number);
  if (check == 0) return std::nullopt;
  const std::int64_t count = impl_->layout.sizes[number];
  const at::Tensor found = at::empty({count}, at::TensorOptions().dtype(at::kDouble));
  h5::read_range(impl_->values, H5T_NATIVE_DOUBLE, impl_->first[number], count, found.data_ptr(),
                 impl_->where(kValues));
  // A write that the system's end cut short is as if it had not been.
  if (checksum(tile, found.data_ptr<double>(), count) != check) return std::nullopt;
  return found;
}

void TileFile::keep(std::int64_t tile, const at::Tensor& values) {
  const h5::Session session;
  const auto number = static_cast<std::size_t>(tile);
  const std::int64_t count = impl_->layout.sizes.at(number);
  const at::Tensor dense = values.to(at::kDouble).contiguous();
  if (dense.numel() != count) {
    throw Error(ErrorKind::internal,
                fmt::format("tile {} has {} values, expected {}", tile, dense.numel(), count));
  }
  const std::string here = impl_->where(kValues);
  const std::int64_t check = checksum(tile, dense.data_ptr<double>(), count);
  h5::write_range(impl_->values, H5T_NATIVE_DOUBLE, impl_->first[number], count, dense.data_ptr(),
                  here);
  h5::flush(impl_->file, here);
  h5::write_range(impl_->stored_checks, H5T_NATIVE_INT64, tile, 1, &check, here);
  h5::flush(impl_->file, here);
  impl_->check_pen();
  impl_->checks[number] = check;
}

std::int64_t TileFile::count() const { return static_cast<std::int64_t>(impl_->checks.size()); }

std::int64_t TileFile::finished() const {
  return std::ranges::count_if(impl_->checks, [](std::int64_t check) { return check != 0; });
}

const fs::path& TileFile::path() const { return impl_->path; }

void TileFile::remove() {
  const h5::Session session;
  impl_->close_all();
  std::error_code ignored;
  fs::remove(impl_->path, ignored);
}

}  // namespace plumb
