#include "archive/h5.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "plumb/error.h"

namespace plumb::h5 {
namespace {

std::mutex& the_lock() {
  static std::mutex lock;
  return lock;
}

// HDF5 loses small pieces of memory when it meets a damaged file, and complains of an "infinite
// loop closing library" when the program ends. Handlers run in reverse order, so this one, set
// after HDF5 has set its own, comes first and silences that.
bool silence_exit() {
  H5open();
  return std::atexit([] { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }) == 0;
}

// Keeps the description of the innermost error, the first one met on the way up.
herr_t keep_first(unsigned index, const H5E_error2_t* error, void* data) {
  if (index == 0 && error->desc != nullptr) *static_cast<std::string*>(data) = error->desc;
  return 0;
}

// HDF5 wraps the system's reason in a sentence of its own: "..., error message = 'No space left on
// device', buf = ...".
std::string innermost_reason() {
  std::string reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &reason);
  const std::string mark = "error message = '";
  if (const auto begin = reason.find(mark); begin != std::string::npos) {
    const auto end = reason.find('\'', begin + mark.size());
    reason = reason.substr(begin + mark.size(), end - begin - mark.size());
  }
  std::replace_if(
      reason.begin(), reason.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  return reason.empty() ? "HDF5 gives no reason" : reason;
}

[[noreturn]] void fail(Where where) {
  throw Error(ErrorKind::bad_file, where + ": " + innermost_reason());
}

// Identifiers, statuses, answers and counts of HDF5 all mean failure when negative.
template <typename Result>
Result checked(Result result, Where where) {
  if (result < 0) fail(where);
  return result;
}

Handle property_list(hid_t cls, Where where) { return {checked(H5Pcreate(cls), where), H5Pclose}; }

Dims dims_of(hid_t space, Where where) {
  if (H5Sget_simple_extent_type(space) == H5S_NULL) return {0};
  const int rank = checked(H5Sget_simple_extent_ndims(space), where);
  Dims dims(static_cast<std::size_t>(rank));
  if (rank > 0) checked(H5Sget_simple_extent_dims(space, dims.data(), nullptr), where);
  return dims;
}

// The extent in memory and the place in the dataset of elements in a row.
std::pair<Handle, Handle> range_of(hid_t dataset, std::int64_t first, std::int64_t count,
                                   Where where) {
  const auto start = static_cast<hsize_t>(first);
  const auto size = static_cast<hsize_t>(count);
  Handle memory(checked(H5Screate_simple(1, &size, nullptr), where), H5Sclose);
  Handle place(checked(H5Dget_space(dataset), where), H5Sclose);
  checked(H5Sselect_hyperslab(place, H5S_SELECT_SET, &start, nullptr, &size, nullptr), where);
  return {std::move(memory), std::move(place)};
}

// HDF5's pattern for names: asked with no buffer it tells the length.
template <typename Get>
std::string text(Get get, Where where) {
  constexpr ssize_t kLongest = 1 << 20;
  const ssize_t length = checked(get(nullptr, 0), where);
  if (length > kLongest) throw Error(ErrorKind::bad_file, where + ": a name is too long");
  std::string name(static_cast<std::size_t>(length), '\0');
  checked(get(name.data(), name.size() + 1), where);
  return name;
}

}  // namespace

Session::Session() : lock_(the_lock()) {
  static const bool quiet_at_exit = silence_exit();
  (void)quiet_at_exit;
  H5Eget_auto2(H5E_DEFAULT, &report_, &report_data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Session::~Session() { H5Eset_auto2(H5E_DEFAULT, report_, report_data_); }

Handle::Handle(Handle&& other) noexcept
    : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}

Handle& Handle::operator=(Handle&& other) noexcept {
  if (this != &other) {
    reset();
    id_ = std::exchange(other.id_, H5I_INVALID_HID);
    close_ = other.close_;
  }
  return *this;
}

herr_t Handle::reset() noexcept {
  const hid_t id = std::exchange(id_, H5I_INVALID_HID);
  return id >= 0 ? close_(id) : 0;
}

void close(Handle& handle, Where where) { checked(handle.reset(), where); }

bool looks_like_hdf5(const std::string& file, Where where) {
  return checked(H5Fis_hdf5(file.c_str()), where) > 0;
}

Handle create_file(const std::string& name, hid_t creation, hid_t access, Where where) {
  return {checked(H5Fcreate(name.c_str(), H5F_ACC_TRUNC, creation, access), where), H5Fclose};
}

Handle open_file_to_read(const std::string& name, Where where) {
  const Handle access = property_list(H5P_FILE_ACCESS, where);
  checked(H5Pset_fclose_degree(access, H5F_CLOSE_STRONG), where);
  return {checked(H5Fopen(name.c_str(), H5F_ACC_RDONLY, access), where), H5Fclose};
}

Handle open_file_to_change(const std::string& name, hid_t access, Where where) {
  return {checked(H5Fopen(name.c_str(), H5F_ACC_RDWR, access), where), H5Fclose};
}

void flush(hid_t file, Where where) { checked(H5Fflush(file, H5F_SCOPE_LOCAL), where); }

Handle file_creation(Where where) {
  Handle list = property_list(H5P_FILE_CREATE, where);
  checked(H5Pset_obj_track_times(list, false), where);
  return list;
}

Handle file_access(Where where) {
  Handle list = property_list(H5P_FILE_ACCESS, where);
  checked(H5Pset_fclose_degree(list, H5F_CLOSE_STRONG), where);
  checked(H5Pset_libver_bounds(list, H5F_LIBVER_V110, H5F_LIBVER_V110), where);
  return list;
}

Handle lasting_file_access(Where where) {
  // From 1.10 on, files are marked while they are open for writing, and refused if they still are.
  Handle list = property_list(H5P_FILE_ACCESS, where);
  checked(H5Pset_fclose_degree(list, H5F_CLOSE_STRONG), where);
  checked(H5Pset_libver_bounds(list, H5F_LIBVER_V18, H5F_LIBVER_V18), where);
  return list;
}

Handle group_creation(Where where) {
  Handle list = property_list(H5P_GROUP_CREATE, where);
  checked(H5Pset_obj_track_times(list, false), where);
  return list;
}

Handle link_creation(Where where) {
  Handle list = property_list(H5P_LINK_CREATE, where);
  checked(H5Pset_char_encoding(list, H5T_CSET_UTF8), where);
  return list;
}

Handle attribute_creation(Where where) {
  Handle list = property_list(H5P_ATTRIBUTE_CREATE, where);
  checked(H5Pset_char_encoding(list, H5T_CSET_UTF8), where);
  return list;
}

Handle dataset_creation(Where where) {
  Handle list = property_list(H5P_DATASET_CREATE, where);
  checked(H5Pset_obj_track_times(list, false), where);
  return list;
}

void set_compact(hid_t creation, Where where) {
  checked(H5Pset_layout(creation, H5D_COMPACT), where);
}

void set_allocated_at_once(hid_t creation, Where where) {
  checked(H5Pset_layout(creation, H5D_CONTIGUOUS), where);
  checked(H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY), where);
  checked(H5Pset_fill_time(creation, H5D_FILL_TIME_ALLOC), where);
}

void set_chunks(hid_t creation, const Dims& chunk, bool deflate, Where where) {
  constexpr unsigned kFastest = 1;  // activations barely shrink further at higher levels
  checked(H5Pset_chunk(creation, static_cast<int>(chunk.size()), chunk.data()), where);
  if (deflate) {
    checked(H5Pset_shuffle(creation), where);
    checked(H5Pset_deflate(creation, kFastest), where);
  }
  checked(H5Pset_fletcher32(creation), where);
}

Handle string_type(std::size_t width, Where where) {
  Handle type(checked(H5Tcopy(H5T_C_S1), where), H5Tclose);
  checked(H5Tset_size(type, std::max<std::size_t>(width, 1)), where);
  checked(H5Tset_strpad(type, H5T_STR_NULLPAD), where);
  checked(H5Tset_cset(type, H5T_CSET_UTF8), where);
  return type;
}

Handle half_type(Where where) {
  Handle type(checked(H5Tcopy(H5T_IEEE_F32LE), where), H5Tclose);
  // Sign at bit 15, five bits of exponent from bit 10, ten of mantissa; then the type can shrink.
  checked(H5Tset_fields(type, 15, 10, 5, 0, 10), where);
  checked(H5Tset_ebias(type, 15), where);
  checked(H5Tset_size(type, 2), where);
  return type;
}

Handle growing_extent(const Dims& dims, const Dims& most, Where where) {
  const auto rank = static_cast<int>(dims.size());
  return {checked(H5Screate_simple(rank, dims.data(), most.data()), where), H5Sclose};
}

Handle extent(const Dims& dims, Where where) {
  if (dims.empty()) return {checked(H5Screate(H5S_SCALAR), where), H5Sclose};
  const auto rank = static_cast<int>(dims.size());
  return {checked(H5Screate_simple(rank, dims.data(), nullptr), where), H5Sclose};
}

Dims dims_of_dataset(hid_t dataset, Where where) {
  return dims_of(Handle(checked(H5Dget_space(dataset), where), H5Sclose), where);
}

Dims dims_of_attribute(hid_t attribute, Where where) {
  return dims_of(Handle(checked(H5Aget_space(attribute), where), H5Sclose), where);
}

Handle type_of_dataset(hid_t dataset, Where where) {
  return {checked(H5Dget_type(dataset), where), H5Tclose};
}

Handle type_of_attribute(hid_t attribute, Where where) {
  return {checked(H5Aget_type(attribute), where), H5Tclose};
}

bool has_child(hid_t group, const std::string& name, Where where) {
  if (checked(H5Lexists(group, name.c_str(), H5P_DEFAULT), where) == 0) return false;
  H5L_info_t info = {};
  checked(H5Lget_info(group, name.c_str(), &info, H5P_DEFAULT), where);
  return info.type == H5L_TYPE_HARD;
}

std::vector<std::string> children(hid_t group, Where where) {
  H5G_info_t info = {};
  checked(H5Gget_info(group, &info), where);
  std::vector<std::string> names;
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    names.push_back(text(
        [&](char* to, std::size_t size) {
          return H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, to, size,
                                    H5P_DEFAULT);
        },
        where));
  }
  return names;
}

Handle open_object(hid_t file, const std::string& path, Where where) {
  return {checked(H5Oopen(file, path.c_str(), H5P_DEFAULT), where), H5Oclose};
}

bool is_group(hid_t object) { return H5Iget_type(object) == H5I_GROUP; }
bool is_dataset(hid_t object) { return H5Iget_type(object) == H5I_DATASET; }

Handle create_group(hid_t file, const std::string& path, Where where) {
  return {checked(H5Gcreate2(file, path.c_str(), link_creation(where), group_creation(where),
                             H5P_DEFAULT),
                  where),
          H5Gclose};
}

Handle create_dataset(hid_t file, const std::string& path, hid_t type, hid_t extent, hid_t creation,
                      Where where) {
  return {checked(H5Dcreate2(file, path.c_str(), type, extent, link_creation(where), creation,
                             H5P_DEFAULT),
                  where),
          H5Dclose};
}

void write(hid_t dataset, hid_t memory_type, const void* from, Where where) {
  checked(H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, from), where);
}

void set_extent(hid_t dataset, const Dims& dims, Where where) {
  checked(H5Dset_extent(dataset, dims.data()), where);
}

void write_rows(hid_t dataset, hid_t memory_type, hsize_t first, const Dims& count,
                const void* from, Where where) {
  const Handle space(checked(H5Dget_space(dataset), where), H5Sclose);
  Dims start(count.size(), 0);
  start.front() = first;
  checked(H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr),
          where);
  checked(H5Dwrite(dataset, memory_type, extent(count, where), space, H5P_DEFAULT, from), where);
}

void read(hid_t dataset, hid_t memory_type, void* to, Where where) {
  checked(H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, to), where);
}

void write_range(hid_t dataset, hid_t memory_type, std::int64_t first, std::int64_t count,
                 const void* from, Where where) {
  const auto [memory, place] = range_of(dataset, first, count, where);
  checked(H5Dwrite(dataset, memory_type, memory, place, H5P_DEFAULT, from), where);
}

void read_range(hid_t dataset, hid_t memory_type, std::int64_t first, std::int64_t count, void* to,
                Where where) {
  const auto [memory, place] = range_of(dataset, first, count, where);
  checked(H5Dread(dataset, memory_type, memory, place, H5P_DEFAULT, to), where);
}

std::uint64_t chunk_bytes(hid_t dataset, std::uint64_t element_bytes, Where where) {
  const Handle creation(checked(H5Dget_create_plist(dataset), where), H5Pclose);
  const H5D_layout_t layout = H5Pget_layout(creation);
  if (layout == H5D_VIRTUAL || checked(H5Pget_external_count(creation), where) > 0) {
    throw Error(ErrorKind::unsupported, where + ": its data lie in other files");
  }
  if (layout != H5D_CHUNKED) return 0;
  std::array<hsize_t, H5S_MAX_RANK> chunk = {};
  const int rank = checked(H5Pget_chunk(creation, H5S_MAX_RANK, chunk.data()), where);
  std::uint64_t bytes = element_bytes;
  for (int i = 0; i < rank; ++i) {
    if (__builtin_mul_overflow(bytes, chunk[static_cast<std::size_t>(i)], &bytes)) {
      throw Error(ErrorKind::bad_file, where + ": its chunk size overflows");
    }
  }
  return bytes;
}

bool has_attribute(hid_t object, const std::string& name, Where where) {
  return checked(H5Aexists(object, name.c_str()), where) > 0;
}

std::vector<std::string> attribute_names(hid_t object, Where where) {
  std::vector<std::string> names;
  const int count = checked(H5Aget_num_attrs(object), where);
  for (int i = 0; i < count; ++i) {
    names.push_back(text(
        [&](char* to, std::size_t size) {
          return H5Aget_name_by_idx(object, ".", H5_INDEX_NAME, H5_ITER_INC,
                                    static_cast<hsize_t>(i), to, size, H5P_DEFAULT);
        },
        where));
  }
  return names;
}

Handle open_attribute(hid_t object, const std::string& name, Where where) {
  return {checked(H5Aopen(object, name.c_str(), H5P_DEFAULT), where), H5Aclose};
}

void write_attribute(hid_t object, const std::string& name, hid_t type, hid_t memory_type,
                     hid_t extent, const void* from, Where where) {
  if (has_attribute(object, name, where)) checked(H5Adelete(object, name.c_str()), where);
  const Handle attribute(checked(H5Acreate2(object, name.c_str(), type, extent,
                                            attribute_creation(where), H5P_DEFAULT),
                                 where),
                         H5Aclose);
  checked(H5Awrite(attribute, memory_type, from), where);
}

void read_attribute(hid_t attribute, hid_t memory_type, void* to, Where where) {
  checked(H5Aread(attribute, memory_type, to), where);
}

}  // namespace plumb::h5
