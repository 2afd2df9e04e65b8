// The paths inside position 0, and which of them carry the projection on the sink direction.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "core/random.h"
#include "sink/p0_pointwise.h"

namespace plumb {

/// How far a pruned graph's projection may lie from the model's, as a share of what the paths
/// carry.
constexpr double graph_tolerance = 0.05;

/// What one cut, or group of cuts, of the first search may change of that share; a path is claimed
/// if it carries as much.
constexpr double claimed_share = 0.01;

class PathGraph {
 public:
  using Edge = std::pair<Component, Component>;  ///< sender, reader

  /// Of a wave's components before its onset; `replaced` ones are so throughout, for all readers.
  PathGraph(P0Context& context, std::size_t wave, std::vector<Component> replaced = {});
  /// The same for other tokens put first, which must outlive it.
  PathGraph(P0Context& context, std::size_t wave, std::vector<Component> replaced,
            const FirstTokens& tokens);

  /// Cuts what is not needed, from the read-out backwards, then the weakest edges one by one as
  /// long as the projection stays within `graph_tolerance`, until no single one can be spared.
  void prune(const std::function<void(double)>& progress);

  /// Cuts what the other graph, of the same wave, has cut; cuts one edge more.
  void cut_as(const PathGraph& other) { cut_again(other.cut_); }
  void drop(const Edge& edge);

  Component read_out() const { return read_out_; }
  /// All paths there are.
  std::vector<Edge> candidates() const;
  /// Those that are left and lie on a way to the read-out, reader by reader from the input on.
  std::vector<Edge> kept() const { return kept(cut_); }

  /// Share of what the paths carry, by sequence: 1 with all, 0 with none. With the graph's alone;
  /// with it less one; with all but the graph's; with a set's; with all but a set's.
  at::Tensor alone() { return carried(current()); }
  at::Tensor without(const Edge& edge);
  at::Tensor complement();
  at::Tensor only(const std::set<Edge>& edges);
  at::Tensor all_but(const std::set<Edge>& edges);
  /// The last for several sets at once.
  std::vector<at::Tensor> all_but(const std::vector<std::set<Edge>>& sets);
  /// Evaluates the graph without each of the edges together, as far as that is not known yet, so
  /// that `without` has them at hand.
  void look_ahead(const std::vector<Edge>& edges);
  /// With the graph's, one of which is changed by as much as its cut changes it, but at random;
  /// mean over so many draws.
  at::Tensor disturbed(const Edge& edge, Random& random, int draws);
  /// All paths but a set's: `only` them is `all_but` those.
  std::set<Edge> others(const std::set<Edge>& edges) const;
  /// The graph's projection, by sequence, over the mean of the model's: a sequence whose own is
  /// near none has no share of its own.
  at::Tensor recovered() { return current() / whole_; }
  /// What the model's projection loses, as a share of its mean, when components are replaced, by
  /// sequence.
  at::Tensor lost_without(const std::vector<Component>& components);

  /// States of position 0 at the onset with the paths of each set cut, [B, 1, d_model].
  std::vector<at::Tensor> states_without(const std::vector<std::set<Edge>>& sets);
  /// How much of its input each path gives its reader: the length of what its cut changes there
  /// over that of the input, mean over sequences.
  std::map<Edge, double> sizes() const;

  double whole() const { return whole_; }

 private:
  struct Evaluated {
    P0System::Writes writes = {};
    at::Tensor projection = {};
  };
  // `known` differs from what is asked for in readers from `from` on alone.
  struct Question {
    std::set<Edge> cut = {};
    const Evaluated* known = nullptr;
    Component from = {};
    std::map<Edge, at::Tensor> added = {};
  };

  PathGraph(P0Context& context, std::size_t wave, std::vector<Component> replaced, P0System system);
  void cut_again(const std::set<Edge>& cut);
  std::vector<Edge> kept(const std::set<Edge>& cut) const;
  std::vector<Evaluated> evaluate(const std::vector<Question>& questions);
  Evaluated evaluate(const std::set<Edge>& cut, const Evaluated* known, Component from);
  at::Tensor current();
  at::Tensor carried(const at::Tensor& projection) const;
  double share(const at::Tensor& projection) const;
  void accept(const std::set<Edge>& cut, Evaluated found);
  void try_cutting(Component reader, const std::vector<Component>& senders);
  bool drop_weakest();

  P0Context& context_;
  P0System system_;
  const at::Tensor& direction_;
  std::vector<Component> components_;
  std::vector<Component> replaced_;
  Component read_out_;
  at::Tensor clean_;
  at::Tensor none_;
  double whole_ = 0.0;
  double carries_ = 1.0;  // whole_ less the projection with every path cut
  std::set<Edge> cut_ = {};
  Evaluated now_ = {};
  std::map<Edge, at::Tensor> without_ = {};  // carried when the graph loses this edge too
  std::set<Component> alive_ = {};           // senders some kept edge starts from
};

/// "m1->m2"; the read-out by its own name.
std::string path_name(const PathGraph& graph, const PathGraph::Edge& edge);

/// Leaves out of the graph, beginning with the weakest, the paths whose effect other tokens do not
/// confirm: tokens of the causal sequences that stand first in none of them are put first, and a
/// path's effect there has to reach `claimed_share` with the sign that it has in the sequences,
/// both intervals leaving out zero; that of the other tokens is corrected for the number of paths.
std::vector<DoubtfulPath> drop_unconfirmed(P0Context& context, std::size_t wave, PathGraph& graph,
                                           const std::vector<Component>& replaced = {});

/// Faithfulness and completeness of the pruned graph, against random graphs of its size. Where
/// there are twice as many paths as it has, that is a contrast of L6.
GraphCheck check_graph(P0Context& context, std::size_t wave, PathGraph& graph,
                       std::vector<Contrast>& contrasts);

/// What the cut of one of its paths loses, beside a random change of that size: a contrast of L6.
Contrast check_link(P0Context& context, std::size_t wave, PathGraph& graph,
                    const PathGraph::Edge& edge);

/// The graph's paths cut one at a time in the order of the forward pass, then all others, each read
/// on the sink of the full model from the onset on.
std::vector<Effect> confirm_paths(P0Context& context, std::size_t wave, PathGraph& graph);

}  // namespace plumb
