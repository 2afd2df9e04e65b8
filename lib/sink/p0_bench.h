// Where the experiments of the catalogue are run: interventions with their controls, read in full.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "plumb/p0_catalogue.h"
#include "sink/p0_context.h"

namespace plumb {

class P0Bench {
 public:
  P0Bench(P0Context& context, std::size_t wave, P0Experiment& into);

  P0Context& context;
  const std::size_t w;
  const Wave& wave() const { return context.waves[w]; }
  /// The control position, and a random one that is neither it nor 0.
  std::int64_t other() const { return context.control_position(); }
  std::int64_t random_position() const { return random_position_; }
  std::int64_t batch() const { return context.inputs.tokens.batch(); }
  std::int64_t length() const { return context.inputs.length(); }

  /// A site's tensor in the clean run, whole.
  const at::Tensor& clean(Site site);
  /// The stream at a half layer: 2l enters block l, 2l + 1 lies between its attention and MLP.
  Site half_layer(int j) const;
  /// Half layers up to the wave's onset: all where there are at most nine, else the first three and
  /// the last three.
  std::vector<int> half_layers() const;

  /// Runs the edits through all layers and keeps the reading.
  const P0Reading& run(const std::string& name, const std::string& role, const std::string& where,
                       const std::vector<Intervention>& edits, std::int64_t column = 0);
  /// The same on other tokens or position ids.
  const P0Reading& run_tokens(const std::string& name, const std::string& role,
                              const std::string& where, const Tokens& tokens,
                              const std::vector<Intervention>& edits, std::int64_t column = 0);
  /// Of an outcome made elsewhere, read at column 0.
  const P0Reading& keep_outcome(const Outcome& outcome, const std::string& name,
                                const std::string& role, const std::string& where) {
    return keep(outcome, name, role, where, 0);
  }
  /// What was read so far.
  const P0Reading& at(std::size_t index) const { return into_.readings.at(index); }
  /// The sink of the last reading's column over the wave's layers, sequence by sequence: [B].
  const at::Tensor& last_values() const { return last_values_; }

  /// What is put at a position of a site, from the clean tensor there [B, 1, ...].
  using Change = std::function<at::Tensor(const at::Tensor& own, Site site, std::int64_t position)>;
  /// The change at position 0; with `controls` also the same at another and at a random position,
  /// and a random vector of the change's size at position 0. All are read at column 0.
  void change(const std::string& name, const std::vector<Site>& sites, const Change& make,
              bool controls = true);
  /// The change at the control position, read there; with `controls` also a random vector of the
  /// change's size there.
  void make(const std::string& name, const std::vector<Site>& sites, const Change& make,
            bool controls = true);

  void array(const std::string& name, const std::vector<std::string>& axes,
             const at::Tensor& values, const std::string& note);
  void find(const std::string& sentence) { into_.findings.push_back(sentence); }

  /// A vector of the size of each entry of `difference` along its last axis, in a random direction.
  at::Tensor random_like(const at::Tensor& difference);

 private:
  const P0Reading& keep(const Outcome& outcome, const std::string& name, const std::string& role,
                        const std::string& where, std::int64_t column);
  std::vector<Intervention> puts(const std::vector<Site>& sites, const Change& make,
                                 std::int64_t position, bool random);

  P0Experiment& into_;
  std::int64_t random_position_ = 1;
  std::uint64_t draws_ = 0;
  std::map<Site, at::Tensor> kept_;
  at::Tensor last_values_;
};

/// "t = 40"
std::string at_position(std::int64_t position);

/// Mean over t > 0 of [B, T, ...], as [B, 1, ...]; positions past a sequence's end left out.
at::Tensor mean_over_others(const P0Context& context, const at::Tensor& values);

}  // namespace plumb
