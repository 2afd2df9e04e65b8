// Tables of an archive, read back column by column.
#pragma once

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "report/archive_view.h"

namespace plumb::report {

inline Estimate estimate(const at::Tensor& table, std::int64_t row) {
  const double* at = table.data_ptr<double>() + 3 * row;
  return {at[0], at[1], at[2]};
}

/// The columns of a table, all as long as `name`, which may be missing with the whole table.
class Columns {
 public:
  Columns(const ArchiveReader& archive, std::string group, const std::string& first)
      : archive_(archive),
        group_(std::move(group)),
        first_(archive.strings(group_ + "/" + first)) {}

  std::size_t rows() const { return first_.size(); }
  const std::vector<std::string>& first() const { return first_; }
  std::vector<std::string> strings(const std::string& name) const {
    return checked(archive_.strings(group_ + "/" + name), name);
  }
  std::vector<double> numbers(const std::string& name) const {
    return checked(archive_.list(group_ + "/" + name), name);
  }
  at::Tensor estimates(const std::string& name) const {
    const auto count = static_cast<std::int64_t>(rows());
    const at::Tensor table = archive_.numbers(group_ + "/" + name, {count, 3});
    return table.defined() ? table : at::full({count, 3}, std::nan(""), at::kDouble);
  }

 private:
  template <typename List>
  List checked(List list, const std::string& name) const {
    if (list.size() != rows()) {
      archive_.refuse(group_ + "/" + name,
                      fmt::format("it has {} rows, the table {}", list.size(), rows()));
    }
    return list;
  }

  const ArchiveReader& archive_;
  std::string group_;
  std::vector<std::string> first_;
};

std::vector<Effect> read_effects(const ArchiveReader& archive, const std::string& group);

/// Into .graph, .paths and .alternatives, as far as the archive has them.
void read_graph(const ArchiveReader& archive, const std::string& group, WaveReport& found);

}  // namespace plumb::report
