#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <system_error>

#include "archive/h5.h"
#include "plumb/archive.h"
#include "plumb/error.h"

namespace plumb {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kFormat = 1;
// Deflate shrinks to no less than 1/1032; the rest is room for small files and partial chunks.
constexpr std::uint64_t kLargestRatio = 1100;
constexpr std::uint64_t kSlack = 16 << 20;
// More than any experiment writes; a file whose groups contain themselves ends here.
constexpr std::size_t kMostObjects = 100'000;
constexpr int kDeepest = 32;

struct Array {
  std::vector<std::int64_t> dims;
  std::uint64_t count = 1;
};

// What a stored number becomes: the tensor's dtype and the same in HDF5's words.
struct Numbers {
  at::ScalarType dtype;
  hid_t in_memory;
};

Numbers numbers(hid_t type, const std::string& where) {
  const H5T_class_t kind = H5Tget_class(type);
  const std::size_t size = H5Tget_size(type);
  if (kind == H5T_FLOAT && size <= 4) return {at::kFloat, H5T_NATIVE_FLOAT};
  if (kind == H5T_FLOAT && size <= 8) return {at::kDouble, H5T_NATIVE_DOUBLE};
  const bool too_wide = size > 8 || (size == 8 && H5Tget_sign(type) == H5T_SGN_NONE);
  if (kind == H5T_INTEGER && !too_wide) return {at::kLong, H5T_NATIVE_INT64};
  throw Error(
      ErrorKind::unsupported,
      where + "its elements are neither floats of up to 8 bytes nor integers that fit int64");
}

void check_strings(hid_t type, const std::string& where) {
  if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0) {
    throw Error(ErrorKind::unsupported, where + "it holds no strings of fixed width");
  }
}

std::vector<std::string> unpack(const std::string& packed, std::size_t width, hid_t type) {
  const H5T_str_t padding = H5Tget_strpad(type);
  std::vector<std::string> values;
  for (std::size_t begin = 0; begin < packed.size(); begin += width) {
    std::string value = packed.substr(begin, width);
    if (padding == H5T_STR_NULLTERM) value = value.substr(0, value.find('\0'));
    const char pad = padding == H5T_STR_SPACEPAD ? ' ' : '\0';
    value.erase(value.find_last_not_of(pad) + 1);
    values.push_back(std::move(value));
  }
  return values;
}

}  // namespace

struct Archive::Impl {
  fs::path path;
  std::uint64_t file_size = 0;
  h5::Handle file;

  explicit Impl(const fs::path& path_) : path(path_) {
    const h5::Session session;
    std::error_code error;
    if (!fs::is_regular_file(path, error)) {
      const bool missing = !fs::exists(path, error);
      throw Error(ErrorKind::bad_file, where() + (missing ? "no such file" : "not a regular file"));
    }
    file_size = fs::file_size(path, error);
    if (error) throw Error(ErrorKind::bad_file, where() + error.message());
    if (!h5::looks_like_hdf5(path.string(), where())) {
      throw Error(ErrorKind::bad_file, where() + "not an HDF5 file");
    }
    file = h5::open_file_to_read(path.string(), where());
    check_format();
  }

  ~Impl() {
    const h5::Session session;
    file.reset();
  }

  std::string where(const std::string& object = {}) const {
    return fmt::format("cannot read '{}': {}{}", path.string(), object, object.empty() ? "" : ": ");
  }

  void check_format() const {
    const h5::Handle root = h5::open_object(file, "/", where());
    if (!h5::has_attribute(root, "plumb_format", where())) {
      throw Error(ErrorKind::bad_file,
                  where() + "an HDF5 file, but not made by plumb (no root attribute plumb_format)");
    }
    const auto found = attribute_values(root, "plumb_format", where());
    if (found != std::vector{std::to_string(kFormat)}) {
      throw Error(ErrorKind::unsupported,
                  fmt::format("{}its plumb_format is {}, this plumb reads {}", where(),
                              fmt::join(found, ", "), kFormat));
    }
  }

  // Whether a path leads to something, over hard links only.
  bool find(const std::string& object) const {
    if (object.empty() || object[0] != '/') return false;
    const std::string here = where(object);
    h5::Handle at = h5::open_object(file, "/", here);
    for (std::size_t begin = 1; begin < object.size();) {
      const std::size_t end = std::min(object.find('/', begin), object.size());
      const std::string name = object.substr(begin, end - begin);
      if (!h5::is_group(at) || name.empty() || name == "." || name == "..") return false;
      if (name.find('\0') != std::string::npos || !h5::has_child(at, name, here)) return false;
      at = h5::open_object(file, object.substr(0, end), here);
      begin = end + 1;
    }
    return true;
  }

  h5::Handle open_object(const std::string& object) const {
    if (!find(object)) {
      throw Error(ErrorKind::bad_file, where(object) + "not there; " + inventory());
    }
    return h5::open_object(file, object, where(object));
  }

  h5::Handle open_dataset(const std::string& object) const {
    h5::Handle found = open_object(object);
    if (!h5::is_dataset(found)) {
      throw Error(ErrorKind::bad_file, where(object) + "it is a group; " + inventory());
    }
    return found;
  }

  std::string inventory() const {
    constexpr std::size_t kShown = 20;
    std::vector<std::string> all = datasets();
    const std::size_t count = all.size();
    all.resize(std::min(count, kShown));
    return fmt::format("the file has {}{}",
                       count == 0 ? "no datasets" : fmt::format("{}", fmt::join(all, ", ")),
                       count > kShown ? fmt::format(" and {} more", count - kShown) : "");
  }

  std::vector<std::string> datasets() const {
    std::vector<std::string> found;
    std::size_t objects = 0;
    walk("/", 0, objects, found);
    std::sort(found.begin(), found.end());
    return found;
  }

  void walk(const std::string& path_of_group, int depth, std::size_t& objects,
            std::vector<std::string>& found) const {
    const std::string here = where(path_of_group);
    const h5::Handle group = h5::open_object(file, path_of_group, here);
    for (const std::string& name : h5::children(group, here)) {
      if (depth == kDeepest || ++objects > kMostObjects) {
        throw Error(ErrorKind::bad_file, fmt::format("{}more than {} objects or {} levels", here,
                                                     kMostObjects, kDeepest));
      }
      if (!h5::has_child(group, name, here)) continue;
      const std::string child = path_of_group + (depth > 0 ? "/" : "") + name;
      const h5::Handle object = h5::open_object(file, child, here);
      if (h5::is_dataset(object)) found.push_back(child);
      if (h5::is_group(object)) walk(child, depth + 1, objects, found);
    }
  }

  // No more than the file can hold: a damaged or hostile header may claim any extent.
  void check_claim(std::uint64_t bytes, const std::string& here) const {
    if (bytes > kLargestRatio * file_size + kSlack) {
      throw Error(ErrorKind::bad_file,
                  fmt::format("{}it claims {} bytes, more than a file of {} can hold", here, bytes,
                              file_size));
    }
  }

  Array array(const h5::Dims& dims, std::uint64_t element_bytes, const std::string& here) const {
    Array result;
    std::uint64_t claimed = element_bytes;  // with empty axes counted as one, to bound each axis
    for (const hsize_t size : dims) {
      if (__builtin_mul_overflow(claimed, std::max<hsize_t>(size, 1), &claimed)) {
        claimed = UINT64_MAX;
        break;
      }
      result.dims.push_back(static_cast<std::int64_t>(size));
      result.count *= size;
    }
    check_claim(claimed, here);
    return result;
  }

  Array array_of_dataset(hid_t set, std::uint64_t element_bytes, const std::string& here) const {
    check_claim(h5::chunk_bytes(set, element_bytes, here), here);
    return array(h5::dims_of_dataset(set, here), element_bytes, here);
  }

  at::Tensor tensor(const std::string& object) const {
    const std::string here = where(object);
    const h5::Handle set = open_dataset(object);
    const h5::Handle type = h5::type_of_dataset(set, here);
    const Numbers kind = numbers(type, here);
    const auto element_bytes =
        std::max<std::uint64_t>(H5Tget_size(type), c10::elementSize(kind.dtype));
    const Array shape = array_of_dataset(set, element_bytes, here);
    at::Tensor value = at::empty(shape.dims, kind.dtype);
    if (shape.count > 0) h5::read(set, kind.in_memory, value.data_ptr(), here);
    return value;
  }

  std::vector<std::string> strings(const std::string& object) const {
    const std::string here = where(object);
    const h5::Handle set = open_dataset(object);
    const h5::Handle type = h5::type_of_dataset(set, here);
    check_strings(type, here);
    const std::size_t width = H5Tget_size(type);
    std::string packed(array_of_dataset(set, width, here).count * width, '\0');
    if (!packed.empty()) h5::read(set, type, packed.data(), here);
    return unpack(packed, width, type);
  }

  std::vector<std::string> attribute_values(hid_t object, const std::string& name,
                                            const std::string& here) const {
    const h5::Handle attribute = h5::open_attribute(object, name, here);
    const h5::Handle type = h5::type_of_attribute(attribute, here);
    const std::size_t width = H5Tget_size(type);
    const h5::Dims dims = h5::dims_of_attribute(attribute, here);
    if (H5Tget_class(type) == H5T_STRING) {
      check_strings(type, here);
      std::string packed(array(dims, width, here).count * width, '\0');
      if (!packed.empty()) h5::read_attribute(attribute, type, packed.data(), here);
      return unpack(packed, width, type);
    }
    std::vector<std::string> values;
    const Numbers kind = numbers(type, here);
    const std::size_t count = array(dims, std::max<std::size_t>(width, 8), here).count;
    if (kind.dtype == at::kLong) {
      std::vector<std::int64_t> numbers(count);
      if (count > 0) h5::read_attribute(attribute, H5T_NATIVE_INT64, numbers.data(), here);
      for (const std::int64_t number : numbers) values.push_back(fmt::format("{}", number));
    } else {
      std::vector<double> numbers(count);
      if (count > 0) h5::read_attribute(attribute, H5T_NATIVE_DOUBLE, numbers.data(), here);
      for (const double number : numbers) values.push_back(fmt::format("{}", number));
    }
    return values;
  }

  std::string attribute(const std::string& object, const std::string& name) const {
    const std::string here = where(object);
    const h5::Handle found = open_object(object);
    if (!h5::has_attribute(found, name, here)) {
      throw Error(ErrorKind::bad_file,
                  fmt::format("{}no attribute '{}'; there are: {}", here, name,
                              fmt::join(h5::attribute_names(found, here), ", ")));
    }
    return fmt::format("{}", fmt::join(attribute_values(found, name, here), ", "));
  }

  std::map<std::string, std::string> attributes(const std::string& object) const {
    const std::string here = where(object);
    const h5::Handle found = open_object(object);
    std::map<std::string, std::string> all;
    for (const std::string& name : h5::attribute_names(found, here)) {
      all[name] = fmt::format("{}", fmt::join(attribute_values(found, name, here), ", "));
    }
    return all;
  }

  Label label(const std::string& object) const {
    const std::string here = where(object);
    const h5::Handle found = open_dataset(object);
    const auto values = [&](const char* name) {
      if (!h5::has_attribute(found, name, here)) return std::vector<std::string>{};
      return attribute_values(found, name, here);
    };
    const auto first = [](const std::vector<std::string>& all) {
      return all.empty() ? std::string() : all.front();
    };
    return {values("axes"), first(values("unit")), first(values("note"))};
  }
};

Archive::Archive(const fs::path& path) : impl_(std::make_unique<Impl>(path)) {}
Archive::~Archive() = default;
Archive::Archive(Archive&&) noexcept = default;
Archive& Archive::operator=(Archive&&) noexcept = default;

const Archive::Impl& Archive::open() const {
  if (!impl_) throw Error(ErrorKind::bad_argument, "this archive was moved from");
  return *impl_;
}

std::vector<std::string> Archive::datasets() const {
  const h5::Session session;
  return open().datasets();
}

bool Archive::has(const std::string& path) const {
  const h5::Session session;
  return open().find(path);
}

at::Tensor Archive::tensor(const std::string& path) const {
  const h5::Session session;
  return open().tensor(path);
}

std::vector<std::string> Archive::strings(const std::string& path) const {
  const h5::Session session;
  return open().strings(path);
}

Label Archive::label(const std::string& path) const {
  const h5::Session session;
  return open().label(path);
}

std::string Archive::attribute(const std::string& path, const std::string& name) const {
  const h5::Session session;
  return open().attribute(path, name);
}

std::map<std::string, std::string> Archive::attributes(const std::string& path) const {
  const h5::Session session;
  return open().attributes(path);
}

}  // namespace plumb
