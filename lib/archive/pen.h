// An HDF5 file driver that writes to a descriptor and survives a full disk.
#pragma once

#include <hdf5.h>

namespace plumb::h5 {

/// The library's own drivers report a failed write back to HDF5, which then can neither close the
/// file nor forget it, and trips over it when the program ends. This one remembers the first
/// failure, drops everything written after it and lets HDF5 close in peace; who writes asks
/// `error` after every step. HDF5 borrows the descriptor and never closes it.
struct Pen {
  int descriptor = -1;
  int error = 0;  ///< errno of the first failure
};

/// Makes files created with this file access property list go through `pen`, which must outlive
/// them. Returns a negative number on failure, as HDF5's own setters do. Call with the lock held.
herr_t write_through(hid_t file_access, Pen& pen);

}  // namespace plumb::h5
