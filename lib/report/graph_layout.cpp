#include "report/graph_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

namespace plumb::report {
namespace {

constexpr double row_height = 82.0;
constexpr double box_height = 38.0;
constexpr double letter = 7.4;   // of a name, in its font
constexpr double lane = 9.0;     // room of an edge that passes a row
constexpr double apart = 14.0;   // between boxes
constexpr double margin = 70.0;  // left, where layers are named
constexpr int order_sweeps = 16;
constexpr int place_sweeps = 40;
constexpr double straight = 6.0;  // how much more a long edge wants to be straight than short

// What stands in a row: a node, or the passing of an edge.
struct Item {
  int node = -1;
  double width = lane;
  double x = 0;
  std::vector<std::size_t> above = {};
  std::vector<std::size_t> below = {};
};

int stage(const std::string& kind) {
  if (kind == "sink") return 0;
  if (kind == "head") return 1;
  if (kind == "attention") return 2;
  if (kind == "expert" || kind == "neuron") return 3;
  return kind == "or" ? 5 : 4;
}

std::vector<int> rows_of(const Circuit& circuit, const std::map<std::string, std::size_t>& index) {
  std::vector<int> place(circuit.nodes.size());
  for (std::size_t i = 0; i < place.size(); ++i)
    place[i] = 2 * (8 * circuit.nodes[i].layer + stage(circuit.nodes[i].kind));
  std::vector<int> lowest = place;  // a sink stands below what writes it
  for (const CircuitEdge& edge : circuit.edges) {
    const std::size_t to = index.at(edge.to);
    if (circuit.nodes[to].kind != "sink" || edge.kind == "eraser") continue;
    lowest[to] = std::max(lowest[to], place[index.at(edge.from)] + 1);
  }
  std::set<int> used(lowest.begin(), lowest.end());
  for (int& row : lowest) row = static_cast<int>(std::distance(used.begin(), used.find(row)));
  return lowest;
}

using Rows = std::vector<std::vector<std::size_t>>;

std::vector<double> positions(const Rows& rows, std::size_t items) {
  std::vector<double> at(items);
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i)
      at[row[i]] = (static_cast<double>(i) + 0.5) / static_cast<double>(row.size());
  }
  return at;
}

std::int64_t crossings(const Rows& rows, const std::vector<Item>& items) {
  std::int64_t count = 0;
  std::vector<std::size_t> place(items.size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) place[row[i]] = i;
  }
  for (const auto& row : rows) {
    std::vector<std::size_t> ends;
    for (const std::size_t item : row) {
      std::vector<std::size_t> own;
      for (const std::size_t other : items[item].below) own.push_back(place[other]);
      for (const std::size_t end : own)
        count += std::ranges::count_if(ends, [&](std::size_t before) { return before > end; });
      ends.insert(ends.end(), own.begin(), own.end());
    }
  }
  return count;
}

void order(Rows& rows, const std::vector<Item>& items) {
  Rows best = rows;
  std::int64_t fewest = crossings(rows, items);
  for (int sweep = 0; sweep < order_sweeps && fewest > 0; ++sweep) {
    const bool down = sweep % 2 == 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      auto& row = rows[down ? i : rows.size() - 1 - i];
      const std::vector<double> at = positions(rows, items.size());
      std::vector<std::pair<double, std::size_t>> keyed;
      for (const std::size_t item : row) {
        const auto& others = down ? items[item].above : items[item].below;
        double sum = 0;
        for (const std::size_t other : others) sum += at[other];
        keyed.emplace_back(others.empty() ? at[item] : sum / static_cast<double>(others.size()),
                           item);
      }
      std::ranges::stable_sort(keyed, {}, [](const auto& pair) { return pair.first; });
      for (std::size_t k = 0; k < row.size(); ++k) row[k] = keyed[k].second;
    }
    const std::int64_t now = crossings(rows, items);
    if (now < fewest) {
      fewest = now;
      best = rows;
    }
  }
  rows = best;
}

// Places as near as possible to the wished ones (least squares) with the order and the distances
// kept: isotonic regression by pooling neighbours.
void settle(const std::vector<std::size_t>& row, const std::vector<double>& wish,
            const std::vector<double>& weight, std::vector<Item>& items) {
  struct Pool {
    double sum = 0;
    double weight = 0;
    std::size_t count = 0;
    double mean() const { return sum / weight; }
  };
  std::vector<double> offset(row.size());
  for (std::size_t i = 1; i < row.size(); ++i) {
    const Item& a = items[row[i - 1]];
    const Item& b = items[row[i]];
    const double gap = a.node < 0 && b.node < 0 ? 0.0 : apart / 2;
    offset[i] = offset[i - 1] + 0.5 * (a.width + b.width) + gap;
  }
  std::vector<Pool> pools;
  for (std::size_t i = 0; i < row.size(); ++i) {
    pools.push_back({weight[i] * (wish[i] - offset[i]), weight[i], 1});
    while (pools.size() > 1 && pools[pools.size() - 2].mean() > pools.back().mean()) {
      const Pool last = pools.back();
      pools.pop_back();
      pools.back().sum += last.sum;
      pools.back().weight += last.weight;
      pools.back().count += last.count;
    }
  }
  std::size_t i = 0;
  for (const Pool& pool : pools) {
    for (std::size_t k = 0; k < pool.count; ++k, ++i) items[row[i]].x = pool.mean() + offset[i];
  }
}

void place(const Rows& rows, std::vector<Item>& items) {
  for (const auto& row : rows) {
    double x = 0;
    for (const std::size_t item : row) {
      items[item].x = x + items[item].width / 2;
      x += items[item].width + apart / 2;
    }
  }
  for (int sweep = 0; sweep < place_sweeps; ++sweep) {
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const auto& row = rows[sweep % 2 == 0 ? r : rows.size() - 1 - r];
      std::vector<double> wish;
      std::vector<double> weight;
      for (const std::size_t item : row) {
        double sum = 0.01 * items[item].x;
        double all = 0.01;
        for (const auto* list : {&items[item].above, &items[item].below}) {
          for (const std::size_t other : *list) {
            const double pull = items[item].node < 0 && items[other].node < 0 ? straight : 1.0;
            sum += pull * items[other].x;
            all += pull;
          }
        }
        wish.push_back(sum / all);
        weight.push_back(all);
      }
      settle(row, wish, weight, items);
    }
  }
}

}  // namespace

GraphLayout lay_out(const Circuit& circuit) {
  GraphLayout layout;
  if (circuit.nodes.empty()) return layout;
  std::map<std::string, std::size_t> index;
  for (std::size_t i = 0; i < circuit.nodes.size(); ++i) index[circuit.nodes[i].name] = i;
  const std::vector<int> row_of = rows_of(circuit, index);
  Rows rows(static_cast<std::size_t>(*std::ranges::max_element(row_of)) + 1);
  std::vector<Item> items;
  for (std::size_t i = 0; i < circuit.nodes.size(); ++i) {
    const auto letters =
        static_cast<double>(std::min<std::size_t>(circuit.nodes[i].name.size(), 40));
    items.push_back(
        {.node = static_cast<int>(i), .width = std::max(64.0, letter * letters + 24.0)});
    rows[static_cast<std::size_t>(row_of[i])].push_back(i);
  }
  std::vector<std::vector<std::size_t>> chains;
  for (const CircuitEdge& edge : circuit.edges) {
    const std::size_t from = index.at(edge.from);
    const std::size_t to = index.at(edge.to);
    const bool up = row_of[from] > row_of[to];
    const std::size_t high = up ? to : from;
    const std::size_t low = up ? from : to;
    std::vector<std::size_t> chain = {high};
    for (int row = row_of[high] + 1; row < row_of[low]; ++row) {
      rows[static_cast<std::size_t>(row)].push_back(items.size());
      chain.push_back(items.size());
      items.push_back({});
    }
    chain.push_back(low);
    for (std::size_t i = 0; i + 1 < chain.size() && row_of[high] != row_of[low]; ++i) {
      items[chain[i]].below.push_back(chain[i + 1]);
      items[chain[i + 1]].above.push_back(chain[i]);
    }
    if (up) std::ranges::reverse(chain);
    chains.push_back(std::move(chain));
  }
  order(rows, items);
  place(rows, items);

  double left = items.front().x;
  double right = left;
  for (const Item& item : items) {
    left = std::min(left, item.x - item.width / 2);
    right = std::max(right, item.x + item.width / 2);
  }
  layout.width = right - left + margin + apart;
  layout.height = row_height * static_cast<double>(rows.size());
  std::vector<double> y(items.size());
  int layer = -2;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    layout.row_y.push_back(row_height * (static_cast<double>(r) + 0.5));
    layout.rows.emplace_back();
    for (const std::size_t item : rows[r]) {
      y[item] = layout.row_y.back();
      if (items[item].node < 0) continue;
      const CircuitNode& node = circuit.nodes[static_cast<std::size_t>(items[item].node)];
      if (node.kind == "sink" || node.kind == "input" || node.kind == "logits" ||
          node.layer == layer) {
        continue;
      }
      layer = node.layer;
      layout.rows.back() = fmt::format("layer {}", layer);
    }
  }
  for (std::size_t i = 0; i < circuit.nodes.size(); ++i) {
    layout.nodes.push_back({.x = items[i].x - left + margin,
                            .y = y[i],
                            .width = items[i].width,
                            .height = box_height,
                            .row = row_of[i]});
  }
  for (const auto& chain : chains) {
    PlacedEdge edge;
    const double direction = y[chain.back()] >= y[chain.front()] ? 1.0 : -1.0;
    for (std::size_t i = 0; i < chain.size(); ++i) {
      const double x = items[chain[i]].x - left + margin;
      const double half = direction * box_height / 2;
      const bool first = i == 0;
      const bool last = i + 1 == chain.size();
      if (!first) edge.points.emplace_back(x, y[chain[i]] - half);
      if (!last) edge.points.emplace_back(x, y[chain[i]] + half);
    }
    layout.edges.push_back(std::move(edge));
  }
  return layout;
}

Circuit strongest_part(const Circuit& circuit, std::size_t most) {
  if (circuit.edges.size() <= most && circuit.nodes.size() <= most) return circuit;
  std::vector<std::size_t> by_size(circuit.edges.size());
  std::iota(by_size.begin(), by_size.end(), std::size_t{0});
  std::ranges::stable_sort(by_size, [&](std::size_t a, std::size_t b) {
    return std::abs(circuit.edges[a].score) > std::abs(circuit.edges[b].score);
  });
  by_size.resize(std::min(most, by_size.size()));
  std::ranges::sort(by_size);
  Circuit part = circuit;
  part.edges.clear();
  std::set<std::string> touched;
  for (const std::size_t i : by_size) {
    part.edges.push_back(circuit.edges[i]);
    touched.insert({circuit.edges[i].from, circuit.edges[i].to});
  }
  std::erase_if(part.nodes, [&](const CircuitNode& node) { return !touched.contains(node.name); });
  return part;
}

}  // namespace plumb::report
