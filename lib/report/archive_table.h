// A list of structs in an archive: one column for each member.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "report/archive_pieces.h"

namespace plumb::report {

/// Columns of a list of structs, written one after the other under a group.
template <typename Row>
class Table {
 public:
  Table(ArchiveWriter& file, std::string group, const std::vector<Row>& rows, std::string axis)
      : file_(file), group_(std::move(group)), rows_(rows), axis_(std::move(axis)) {}

  template <typename Get>
  void strings(const std::string& name, Get get, const std::string& note) {
    std::vector<std::string> values;
    for (const Row& row : rows_) values.emplace_back(get(row));
    put_column(file_, group_ + "/" + name, values, axis_, note);
  }
  template <typename Get>
  void numbers(const std::string& name, Get get, const std::string& unit, const std::string& note) {
    std::vector<double> values;
    for (const Row& row : rows_) values.push_back(get(row));
    put_column(file_, group_ + "/" + name, values, axis_, unit, note);
  }
  template <typename Get>
  void whole(const std::string& name, Get get, const std::string& unit, const std::string& note) {
    std::vector<std::int64_t> values;
    for (const Row& row : rows_) values.push_back(get(row));
    put_column(file_, group_ + "/" + name, values, axis_, unit, note);
  }
  template <typename Get>
  void estimates(const std::string& name, Get get, const std::string& unit,
                 const std::string& note) {
    std::vector<double> values;
    for (const Row& row : rows_) {
      const Estimate estimate = get(row);
      values.insert(values.end(), {estimate.mean, estimate.low, estimate.high});
    }
    const at::Tensor table =
        at::tensor(values, at::kDouble).reshape({static_cast<std::int64_t>(rows_.size()), 3});
    file_.dataset(group_ + "/" + name, table, {{axis_, "mean_low_high"}, unit, note});
  }
  /// Lists of unequal length, filled up with NaN.
  template <typename Get>
  void profiles(const std::string& name, Get get, const std::string& unit,
                const std::string& note) {
    std::size_t longest = 0;
    for (const Row& row : rows_) longest = std::max(longest, get(row).size());
    at::Tensor table =
        at::full({static_cast<std::int64_t>(rows_.size()), static_cast<std::int64_t>(longest)},
                 std::nan(""), at::kDouble);
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const std::vector<double>& list = get(rows_[i]);
      if (list.empty()) continue;
      table.select(0, static_cast<std::int64_t>(i))
          .narrow(0, 0, static_cast<std::int64_t>(list.size()))
          .copy_(at::tensor(list, at::kDouble));
    }
    file_.dataset(group_ + "/" + name, table, {{axis_, "layer"}, unit, note});
  }

 private:
  ArchiveWriter& file_;
  std::string group_;
  const std::vector<Row>& rows_;
  std::string axis_;
};

}  // namespace plumb::report
