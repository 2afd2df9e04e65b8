#include <ATen/ATen.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <numeric>

#include "archive/growing.h"
#include "archive/h5.h"
#include "archive/part_file.h"
#include "archive/pen.h"
#include "plumb/archive.h"
#include "plumb/error.h"
#include "plumb/version.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kFormat = 1;
// Up to here data lie in the object header, which carries a checksum of its own and holds 64 KiB.
constexpr std::uint64_t kLargestCompact = 2048;
// Below this, deflating costs more in headers and time than it saves.
constexpr std::uint64_t kSmallestDeflated = 1 << 16;
constexpr std::uint64_t kLargestStrings = 1 << 30;

void check_no_nul(const std::string& text, const char* what) {
  if (text.find('\0') != std::string::npos) {
    throw Error(ErrorKind::bad_argument,
                fmt::format("{} for an archive contains a NUL byte, which HDF5's strings cannot "
                            "keep; escape it: \"{}\"",
                            what, text.substr(0, 40)));
  }
}

// The names along an absolute path: "/a/b" gives a, b; "/" gives none.
std::vector<std::string> split(const std::string& path) {
  const auto refuse = [&] {
    throw Error(ErrorKind::bad_argument,
                fmt::format("'{}' is no path in an archive: expected names after slashes, as in "
                            "/sink/mean",
                            path));
  };
  check_no_nul(path, "a path");
  if (path.empty() || path[0] != '/') refuse();
  std::vector<std::string> names;
  if (path == "/") return names;
  for (std::size_t begin = 1; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    names.push_back(path.substr(begin, end - begin));
    if (names.back().empty() || names.back() == "." || names.back() == "..") refuse();
    begin = end + 1;
  }
  return names;
}

// Packed side by side at the width of the longest.
std::string pack(const std::vector<std::string>& values, std::size_t width) {
  std::string packed(values.size() * width, '\0');
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::memcpy(packed.data() + i * width, values[i].data(), values[i].size());
  }
  return packed;
}

std::size_t width_of(const std::vector<std::string>& values) {
  std::size_t width = 1;
  for (const std::string& value : values) width = std::max(width, value.size());
  return width;
}

Numbers numbers(const at::Tensor& value, const std::string& path) {
  if (!value.defined()) {
    throw Error(ErrorKind::bad_argument, fmt::format("dataset {}: the tensor is undefined", path));
  }
  if (value.layout() == at::kStrided) {
    if (const auto kind = numbers_of(value.scalar_type())) return *kind;
  }
  throw Error(
      ErrorKind::bad_shape,
      fmt::format("dataset {}: an archive keeps dense float32, float64 and int64, not {}{}; "
                  "convert it first",
                  path, value.layout() == at::kStrided ? "" : "sparse ",
                  c10::toString(value.scalar_type())));
}

}  // namespace

struct ArchiveWriter::Impl {
  fs::path path;
  fs::path part;
  h5::Pen pen;
  h5::Handle file;
  std::map<std::string, Growing> growing = {};
  bool closed = false;

  explicit Impl(const fs::path& path_) : path(path_), part(path_.string() + ".part") {
    const h5::Session session;
    std::error_code ignored;
    if (path.filename().empty() || fs::is_directory(path, ignored)) {
      throw Error(ErrorKind::bad_file, where() + "it is a directory");
    }
    pen.descriptor = open_exclusively(part);
    if (pen.descriptor < 0) {
      const char* reason =
          errno == EWOULDBLOCK ? "another process or object is writing it" : std::strerror(errno);
      throw Error(ErrorKind::bad_file, where() + reason);
    }
    try {
      create();
    } catch (...) {
      discard();
      throw;
    }
  }

  ~Impl() {
    if (closed) return;
    const h5::Session session;
    discard();
  }

  std::string where(const std::string& object = {}) const {
    return fmt::format("cannot write '{}': {}{}", path.string(), object,
                       object.empty() ? "" : ": ");
  }

  void create() {
    const std::string here = where("root");
    const h5::Handle access = h5::file_access(here);
    if (h5::write_through(access, pen) < 0) {
      throw Error(ErrorKind::internal, here + "HDF5 does not accept plumb's file driver");
    }
    file = h5::create_file(part.string(), h5::file_creation(here), access, here);
    number_attribute("/", "plumb_format", H5T_STD_I64LE, H5T_NATIVE_INT64, &kFormat);
    text_attribute("/", "plumb_version", {version()}, true);
    check_pen("/");
  }

  void check_pen(const std::string& object) const {
    if (pen.error != 0) {
      throw Error(ErrorKind::bad_file, where(object) + std::strerror(pen.error));
    }
  }

  void check_open() const {
    if (closed) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("the archive '{}' is closed; nothing can be added", path.string()));
    }
  }

  // Makes the groups on the way to an object; returns whether the object is there already.
  bool prepare(const std::string& object) const {
    const std::string here = where(object);
    std::string reached;
    h5::Handle group = h5::open_object(file, "/", here);
    const auto names = split(object);
    for (std::size_t i = 0; i < names.size(); ++i) {
      reached += '/' + names[i];
      const bool there = h5::has_child(group, names[i], here);
      if (i + 1 == names.size()) return there;
      group = there ? h5::open_object(file, reached, here) : h5::create_group(file, reached, here);
      if (!h5::is_group(group)) {
        throw Error(ErrorKind::bad_argument,
                    fmt::format("'{}' of archive '{}' lies under {}, which is a dataset", object,
                                path.string(), reached));
      }
    }
    return true;
  }

  void number_attribute(const std::string& object, const std::string& name, hid_t on_disk,
                        hid_t in_memory, const void* value) const {
    const std::string here = where(object);
    const h5::Handle target = open_or_make(object);
    h5::write_attribute(target, name, on_disk, in_memory, h5::extent({}, here), value, here);
  }

  void text_attribute(const std::string& object, const std::string& name,
                      const std::vector<std::string>& values, bool scalar) const {
    for (const std::string& value : values) check_no_nul(value, "an attribute");
    const std::string here = where(object);
    const h5::Handle target = open_or_make(object);
    const std::size_t width = width_of(values);
    const h5::Handle type = h5::string_type(width, here);
    const h5::Dims dims = scalar ? h5::Dims{} : h5::Dims{values.size()};
    h5::write_attribute(target, name, type, type, h5::extent(dims, here),
                        pack(values, width).c_str(), here);
  }

  h5::Handle open_or_make(const std::string& object) const {
    const std::string here = where(object);
    if (prepare(object)) return h5::open_object(file, object, here);
    return h5::create_group(file, object, here);
  }

  // Sees that such a dataset can be made, and makes the groups above it.
  void make_way(const std::string& object, std::size_t axes, const Label& label) const {
    if (!label.axes.empty() && label.axes.size() != axes) {
      throw Error(ErrorKind::bad_argument, fmt::format("dataset {} has {} axes but {} axis names",
                                                       object, axes, label.axes.size()));
    }
    if (axes > H5S_MAX_RANK) {
      throw Error(ErrorKind::bad_shape, fmt::format("dataset {} has {} axes; HDF5 allows {}",
                                                    object, axes, H5S_MAX_RANK));
    }
    if (object == "/" || prepare(object)) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("archive '{}' already has {}", path.string(), object));
    }
  }

  void put_label(const std::string& object, const Label& label) const {
    if (!label.axes.empty()) text_attribute(object, "axes", label.axes, false);
    if (!label.unit.empty()) text_attribute(object, "unit", {label.unit}, true);
    if (!label.note.empty()) text_attribute(object, "note", {label.note}, true);
    check_pen(object);
  }

  void reserve(const std::string& object, at::ScalarType dtype,
               const std::vector<std::int64_t>& shape, const Label& label) {
    make_way(object, shape.size(), label);
    growing.emplace(object, Growing(file, object, dtype, shape, where(object)));
    put_label(object, label);
  }

  void append(const std::string& object, const at::Tensor& rows) {
    const auto found = growing.find(object);
    if (found == growing.end()) {
      throw Error(ErrorKind::bad_argument,
                  fmt::format("archive '{}' has nothing reserved at {}", path.string(), object));
    }
    found->second.append(rows, object, where(object));
    check_pen(object);
  }

  void dataset(const std::string& object, const h5::Dims& dims, std::uint64_t element_bytes,
               hid_t on_disk, hid_t in_memory, const void* data, const Label& label) const {
    make_way(object, dims.size(), label);
    const std::string here = where(object);
    const std::uint64_t bytes = std::accumulate(dims.begin(), dims.end(), element_bytes,
                                                [](std::uint64_t a, hsize_t b) { return a * b; });
    const h5::Handle creation = h5::dataset_creation(here);
    if (bytes > kLargestCompact) {
      h5::set_chunks(creation, chunk_of(dims, element_bytes), bytes >= kSmallestDeflated, here);
    } else if (bytes > 0) {
      h5::set_compact(creation, here);
    }
    h5::Handle set =
        h5::create_dataset(file, object, on_disk, h5::extent(dims, here), creation, here);
    if (bytes > 0) h5::write(set, in_memory, data, here);
    h5::close(set, here);  // chunks reach the disk only now
    put_label(object, label);
  }

  // Lets go of everything that was written.
  void discard() noexcept {
    closed = true;
    growing.clear();
    file.reset();
    if (pen.descriptor < 0) return;
    unlink(part.c_str());  // before the lock is gone, so that it cannot be another writer's
    ::close(pen.descriptor);
    pen.descriptor = -1;
  }

  void finish() {
    for (auto& [object, rest] : growing) rest.close(where(object));
    growing.clear();
    h5::close(file, where());
    if (pen.error != 0) throw Error(ErrorKind::bad_file, where() + std::strerror(pen.error));
    if (fsync(pen.descriptor) != 0 || rename(part.c_str(), path.c_str()) != 0) {
      throw Error(ErrorKind::bad_file, where() + std::strerror(errno));
    }
    closed = true;
    ::close(pen.descriptor);
    sync_directory(path.parent_path());
  }
};

ArchiveWriter::ArchiveWriter(const fs::path& path) : impl_(std::make_unique<Impl>(path)) {}
ArchiveWriter::~ArchiveWriter() = default;
ArchiveWriter::ArchiveWriter(ArchiveWriter&&) noexcept = default;
ArchiveWriter& ArchiveWriter::operator=(ArchiveWriter&&) noexcept = default;

ArchiveWriter::Impl& ArchiveWriter::open() const {
  if (!impl_) throw Error(ErrorKind::bad_argument, "this archive writer was moved from");
  impl_->check_open();
  return *impl_;
}

void ArchiveWriter::dataset(const std::string& path, const at::Tensor& value, const Label& label) {
  const Numbers kind = numbers(value, path);
  const at::Tensor plain = value.detach().to(at::kCPU).resolve_neg().contiguous();
  const h5::Dims dims(plain.sizes().begin(), plain.sizes().end());
  const h5::Session session;
  open().dataset(path, dims, plain.element_size(), kind.on_disk, kind.in_memory, plain.data_ptr(),
                 label);
}

void ArchiveWriter::dataset(const std::string& path, const std::vector<std::string>& values,
                            const Label& label) {
  for (const std::string& value : values) check_no_nul(value, "a string");
  const std::size_t width = width_of(values);
  if (width > kLargestStrings / std::max<std::size_t>(values.size(), 1)) {
    throw Error(ErrorKind::too_large,
                fmt::format("dataset {}: {} strings of up to {} bytes, stored at equal width, "
                            "exceed 1 GiB",
                            path, values.size(), width));
  }
  const std::string packed = pack(values, width);
  const h5::Session session;
  const h5::Handle type = h5::string_type(width, path);
  open().dataset(path, {values.size()}, width, type, type, packed.data(), label);
}

void ArchiveWriter::reserve(const std::string& path, at::ScalarType dtype,
                            const std::vector<std::int64_t>& shape, const Label& label) {
  const h5::Session session;
  open().reserve(path, dtype, shape, label);
}

void ArchiveWriter::append(const std::string& path, const at::Tensor& rows) {
  if (!rows.defined() || rows.dim() == 0) {
    throw Error(ErrorKind::bad_shape, fmt::format("no rows came for {}", path));
  }
  const at::Tensor plain = rows.detach().to(at::kCPU).resolve_neg().contiguous();
  const h5::Session session;
  open().append(path, plain);
}

void ArchiveWriter::attribute(const std::string& path, const std::string& name,
                              const std::string& value) {
  const h5::Session session;
  Impl& impl = open();
  check_no_nul(name, "an attribute's name");
  impl.text_attribute(path, name, {value}, true);
  impl.check_pen(path);
}

void ArchiveWriter::attribute(const std::string& path, const std::string& name, double value) {
  const h5::Session session;
  Impl& impl = open();
  check_no_nul(name, "an attribute's name");
  impl.number_attribute(path, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
  impl.check_pen(path);
}

void ArchiveWriter::attribute(const std::string& path, const std::string& name,
                              std::int64_t value) {
  const h5::Session session;
  Impl& impl = open();
  check_no_nul(name, "an attribute's name");
  impl.number_attribute(path, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
  impl.check_pen(path);
}

void ArchiveWriter::close() {
  const h5::Session session;
  Impl& impl = open();
  try {
    impl.finish();
  } catch (...) {
    impl.discard();
    throw;
  }
}

}  // namespace plumb
