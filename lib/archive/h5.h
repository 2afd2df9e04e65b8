// The C interface of HDF5, one small checked function for each call that the archive needs.
//
// Every function takes `where`, the beginning of an error message ("cannot read 'a.h5': /x"), and
// throws bad_file with it and the innermost reason that HDF5 knows. A Session must be alive.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace plumb::h5 {

/// Holds the one lock on HDF5, which is not safe to use from two threads, and keeps it from
/// printing its error stack. Not re-entrant.
class Session {
 public:
  Session();
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  std::unique_lock<std::mutex> lock_;
  H5E_auto2_t report_ = nullptr;
  void* report_data_ = nullptr;
};

/// Owns an identifier of HDF5.
class Handle {
 public:
  Handle() = default;
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  ~Handle() { reset(); }
  Handle(Handle&& other) noexcept;
  Handle& operator=(Handle&& other) noexcept;

  operator hid_t() const { return id_; }  // NOLINT(google-explicit-constructor): stands for the id
  herr_t reset() noexcept;                ///< closes now; negative if that failed

 private:
  hid_t id_ = H5I_INVALID_HID;
  herr_t (*close_)(hid_t) = nullptr;
};

using Dims = std::vector<hsize_t>;
using Where = const std::string&;

/// Closes now, where a failure matters: closing may write.
void close(Handle& handle, Where where);

// Files.
bool looks_like_hdf5(const std::string& file, Where where);
Handle create_file(const std::string& name, hid_t creation, hid_t access, Where where);
Handle open_file_to_read(const std::string& name, Where where);
Handle open_file_to_change(const std::string& name, hid_t access, Where where);
void flush(hid_t file, Where where);  ///< hands all that was written to the driver

// Property lists.
Handle file_creation(Where where);  ///< without time stamps
Handle file_access(Where where);    ///< newest format, whose metadata carries checksums
/// A format whose files need no repair after a writer that was killed while it had them open.
Handle lasting_file_access(Where where);
Handle group_creation(Where where);      ///< without time stamps
Handle link_creation(Where where);       ///< names in UTF-8
Handle attribute_creation(Where where);  ///< names in UTF-8
Handle dataset_creation(Where where);    ///< without time stamps
void set_compact(hid_t creation, Where where);
void set_allocated_at_once(hid_t creation, Where where);  ///< in one piece, filled with zeros
void set_chunks(hid_t creation, const Dims& chunk, bool deflate, Where where);

// Types and extents.
Handle string_type(std::size_t width, Where where);  ///< UTF-8, of fixed width, padded with NUL
Handle half_type(Where where);                       ///< float16, little-endian
Handle extent(const Dims& dims, Where where);        ///< a scalar if there are none
Handle growing_extent(const Dims& dims, const Dims& most, Where where);
Dims dims_of_dataset(hid_t dataset, Where where);
Dims dims_of_attribute(hid_t attribute, Where where);
Handle type_of_dataset(hid_t dataset, Where where);
Handle type_of_attribute(hid_t attribute, Where where);

// Links and objects. Only hard links are followed: others may lead out of the file.
bool has_child(hid_t group, const std::string& name, Where where);
std::vector<std::string> children(hid_t group, Where where);
Handle open_object(hid_t file, const std::string& path, Where where);
bool is_group(hid_t object);
bool is_dataset(hid_t object);
Handle create_group(hid_t file, const std::string& path, Where where);

// Datasets.
Handle create_dataset(hid_t file, const std::string& path, hid_t type, hid_t extent, hid_t creation,
                      Where where);
void write(hid_t dataset, hid_t memory_type, const void* from, Where where);
void set_extent(hid_t dataset, const Dims& dims, Where where);
/// Writes `count` entries along each axis, from `first` of the first axis and 0 of the others on.
void write_rows(hid_t dataset, hid_t memory_type, hsize_t first, const Dims& count,
                const void* from, Where where);
void read(hid_t dataset, hid_t memory_type, void* to, Where where);
/// Of a dataset of one axis, `count` elements from `first` on.
void write_range(hid_t dataset, hid_t memory_type, std::int64_t first, std::int64_t count,
                 const void* from, Where where);
void read_range(hid_t dataset, hid_t memory_type, std::int64_t first, std::int64_t count, void* to,
                Where where);
/// Bytes of one chunk (0 if not chunked). Throws unsupported if the data lie outside the file.
std::uint64_t chunk_bytes(hid_t dataset, std::uint64_t element_bytes, Where where);

// Attributes.
bool has_attribute(hid_t object, const std::string& name, Where where);
std::vector<std::string> attribute_names(hid_t object, Where where);
Handle open_attribute(hid_t object, const std::string& name, Where where);
/// Replaces an attribute of the same name.
void write_attribute(hid_t object, const std::string& name, hid_t type, hid_t memory_type,
                     hid_t extent, const void* from, Where where);
void read_attribute(hid_t attribute, hid_t memory_type, void* to, Where where);

}  // namespace plumb::h5
