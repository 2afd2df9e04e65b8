#include "archive/pen.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>

#if __has_include(<H5FDdevelop.h>)
#include <H5FDdevelop.h>  // from HDF5 1.14 on, drivers are declared here
#endif

namespace plumb::h5 {
namespace {

constexpr haddr_t kLargestFile = std::numeric_limits<off_t>::max();

struct PenFile {
  H5FD_t base = {};  // HDF5 sees only this part
  Pen* pen = nullptr;
  haddr_t allocated = 0;
  haddr_t end = 0;
};

PenFile& of(H5FD_t* file) { return *reinterpret_cast<PenFile*>(file); }
const PenFile& of(const H5FD_t* file) { return *reinterpret_cast<const PenFile*>(file); }

void remember(Pen& pen) {
  if (pen.error == 0) pen.error = errno != 0 ? errno : EIO;
}

H5FD_t* open(const char*, unsigned, hid_t access, haddr_t) {
  const auto* given = static_cast<Pen* const*>(H5Pget_driver_info(access));
  if (given == nullptr) return nullptr;
  struct stat status = {};
  if (fstat((*given)->descriptor, &status) != 0) return nullptr;
  auto file = std::make_unique<PenFile>();
  file->pen = *given;
  file->end = static_cast<haddr_t>(status.st_size);
  return &file.release()->base;
}

herr_t close(H5FD_t* file) {
  delete &of(file);
  return 0;
}

herr_t query(const H5FD_t*, unsigned long* flags) {
  *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
           H5FD_FEAT_AGGREGATE_SMALLDATA;
  return 0;
}

haddr_t get_allocated(const H5FD_t* file, H5FD_mem_t) { return of(file).allocated; }

herr_t set_allocated(H5FD_t* file, H5FD_mem_t, haddr_t address) {
  of(file).allocated = address;
  return 0;
}

haddr_t get_end(const H5FD_t* file, H5FD_mem_t) { return of(file).end; }

// Beyond the end of the file, zeros are read.
herr_t read(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, size_t size, void* buffer) {
  auto* to = static_cast<char*>(buffer);
  while (size > 0) {
    const ssize_t got = pread(of(file).pen->descriptor, to, size, static_cast<off_t>(address));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    to += got;
    address += static_cast<haddr_t>(got);
    size -= static_cast<size_t>(got);
  }
  std::memset(to, 0, size);
  return 0;
}

herr_t write(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, size_t size, const void* buffer) {
  Pen& pen = *of(file).pen;
  const auto* from = static_cast<const char*>(buffer);
  of(file).end = std::max(of(file).end, address + size);
  while (size > 0 && pen.error == 0) {
    errno = 0;
    const ssize_t put = pwrite(pen.descriptor, from, size, static_cast<off_t>(address));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) {
      remember(pen);
      break;
    }
    from += put;
    address += static_cast<haddr_t>(put);
    size -= static_cast<size_t>(put);
  }
  return 0;
}

herr_t truncate(H5FD_t* file, hid_t, hbool_t) {
  PenFile& self = of(file);
  if (self.allocated == self.end) return 0;
  if (self.pen->error == 0 &&
      ftruncate(self.pen->descriptor, static_cast<off_t>(self.allocated)) != 0) {
    remember(*self.pen);
  }
  self.end = self.allocated;
  return 0;
}

H5FD_class_t make_class() {
  H5FD_class_t driver = {};
#ifdef H5FD_CLASS_VERSION
  driver.version = H5FD_CLASS_VERSION;
  driver.value = static_cast<H5FD_class_value_t>(420);  // the range 256..511 is for private use
#endif
  driver.name = "plumb_pen";
  driver.maxaddr = kLargestFile;
  driver.fc_degree = H5F_CLOSE_STRONG;
  driver.fapl_size = sizeof(Pen*);
  driver.open = open;
  driver.close = close;
  driver.query = query;
  driver.get_eoa = get_allocated;
  driver.set_eoa = set_allocated;
  driver.get_eof = get_end;
  driver.read = read;
  driver.write = write;
  driver.truncate = truncate;
  const H5FD_mem_t map[] = H5FD_FLMAP_DICHOTOMY;
  std::copy(std::begin(map), std::end(map), std::begin(driver.fl_map));
  return driver;
}

}  // namespace

herr_t write_through(hid_t file_access, Pen& pen) {
  static const H5FD_class_t driver = make_class();
  static hid_t id = H5I_INVALID_HID;
  if (H5Iis_valid(id) <= 0) id = H5FDregister(&driver);
  if (id < 0) return -1;
  Pen* info = &pen;
  return H5Pset_driver(file_access, id, &info);
}

}  // namespace plumb::h5
