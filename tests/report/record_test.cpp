// Recordings hold what one run gives, however they are cut.
#include "plumb/record.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "plumb/archive.h"
#include "plumb/error.h"
#include "support/paths.h"
#include "support/toy_model.h"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

Inputs inputs_of(const ModelConfig& config) {
  Inputs inputs{.tokens = toy_tokens(config, 23, 40, 1), .kind = "tokens", .sha256 = "none"};
  inputs.tokens.lengths = at::full({23}, 40, at::kLong);
  inputs.tokens.lengths[5] = 2;
  return inputs;
}

std::string message_of(ErrorKind kind, const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

class Recordings : public testing::Test {
 protected:
  RunInfo run_info() const { return start_run(model_, "record", "plumb record", 0); }
  const ModelConfig config_ = random_config(4);
  const Model model_ = toy_model(config_, 1, {.threads = 2});
  const Inputs inputs_ = inputs_of(config_);
  const std::vector<SlicedSite> sites_ =
      parse_sites("L0.z[h=0;t=1-3] L1.pattern resid_pre logits", config_.layers);
  const fs::path file_ = scratch_dir() / "record.h5";
};

TEST_F(Recordings, HoldTheBitsOfOneRunForAnyBatch) {
  Plan plan{.logits = Logits::none};
  for (const SlicedSite& site : sites_) plan.record.emplace_back(site.site, site.slice);
  const plumb::Run expected = run(model_, inputs_.tokens, plan);
  for (const std::int64_t batch : {0, 1, 6, 10, 23, 100}) {
    RunInfo info = run_info();
    const Recording made = record(
        model_, inputs_, {.sites = sites_, .store = at::kDouble, .sequences = batch}, file_, info);
    EXPECT_EQ(made.evaluations, expected.evaluations);
    const Archive archive(file_);
    for (const SlicedSite& site : sites_) {
      const std::string path = "/activations/" + to_string(site.site);
      EXPECT_TRUE(at::equal(archive.tensor(path), expected.cache.at(site.site))) << path << batch;
    }
    EXPECT_TRUE(at::equal(archive.tensor("/inputs/tokens"), inputs_.tokens.ids));
    EXPECT_TRUE(at::equal(archive.tensor("/inputs/lengths"), inputs_.tokens.lengths));
    EXPECT_EQ(archive.attribute("/activations", "complete"), "1");
    EXPECT_EQ(archive.attribute("/activations", "sequences"), "23");
  }
}

TEST_F(Recordings, SayWhatTheirDatasetsAre) {
  RunInfo info = run_info();
  record(model_, inputs_, {.sites = sites_}, file_, info);
  const Archive archive(file_);
  EXPECT_EQ(archive.label("/activations/L1.pattern").axes,
            (std::vector<std::string>{"batch", "head", "query", "key"}));
  EXPECT_EQ(archive.attribute("/activations/L0.z", "site"), "L0.z[h=0;t=1-3]");
  EXPECT_EQ(archive.attribute("/activations/L0.z", "transformer_lens"), "blocks.0.attn.hook_z");
  EXPECT_EQ(archive.tensor("/activations/L0.z").sizes(),
            (c10::IntArrayRef{23, 3, 1, config_.d_head}));
  EXPECT_EQ(archive.tensor("/activations/L0.z").scalar_type(), at::kFloat);
  EXPECT_EQ(archive.attribute("/provenance", "command_line"), "plumb record");
  EXPECT_EQ(archive.attribute("/provenance", "end").size(), 20U);
}

TEST_F(Recordings, RoundToTheTypeAskedFor) {
  const SlicedSite site{.site = {Part::resid_pre, 1}};
  const plumb::Run run = plumb::run(model_, inputs_.tokens, {.record = {site.site}});
  for (const at::ScalarType store : {at::kHalf, at::kFloat}) {
    RunInfo info = run_info();
    record(model_, inputs_, {.sites = {site}, .store = store}, file_, info);
    const at::Tensor expected = run.cache.at(site.site).to(store).to(at::kFloat);
    EXPECT_TRUE(at::equal(Archive(file_).tensor("/activations/L1.resid_pre"), expected));
  }
}

TEST_F(Recordings, RefuseWhatHalfCannotHold) {
  const auto source = [this](Weight weight, int layer) {
    const at::Tensor value = model_.weight(weight, layer);
    return weight == Weight::embed ? value * 1e6 : value;
  };
  const Model large(config_, source, "large", {.dtype = at::kDouble});
  RunInfo info = run_info();
  const auto store = [&](const char* site) {
    record(large, inputs_, {.sites = parse_sites(site, config_.layers), .store = at::kHalf}, file_,
           info);
  };
  const std::string message = message_of(ErrorKind::too_large, [&] { store("L0.resid_pre"); });
  EXPECT_NE(message.find("L0.resid_pre reaches"), std::string::npos) << message;
  EXPECT_FALSE(fs::exists(file_));
  // The infinities of hidden keys are not lost values.
  store("L0.scores[h=0;t=0]");
}

TEST_F(Recordings, RunNoFurtherThanTheLastSite) {
  RunInfo info = run_info();
  const Recording first =
      record(model_, inputs_, {.sites = parse_sites("L0.z", config_.layers)}, file_, info);
  EXPECT_EQ(first.evaluations, 23 * 40);
  const Recording none =
      record(model_, inputs_, {.sites = parse_sites("embed", config_.layers)}, file_, info);
  EXPECT_EQ(none.evaluations, 0);
}

TEST_F(Recordings, AnInterruptedOneKeepsWhatItHas) {
  RunInfo info = run_info();
  const plumb::Run expected = run(model_, inputs_.tokens, {.record = {Site{Part::z, 0}}});
  int told = 0;
  const Progress stop = [&](std::string_view, double) {
    if (++told == 2) throw Error(ErrorKind::interrupted, "stop");
  };
  const RecordOptions options{
      .sites = parse_sites("L0.z", config_.layers), .store = at::kDouble, .sequences = 1};
  const std::string message = message_of(
      ErrorKind::interrupted, [&] { record(model_, inputs_, options, file_, info, stop); });
  const Archive archive(file_);
  const at::Tensor kept = archive.tensor("/activations/L0.z");
  ASSERT_GT(kept.size(0), 0);
  ASSERT_LT(kept.size(0), 23);
  EXPECT_NE(message.find("the first " + std::to_string(kept.size(0)) + " of 23 sequences"),
            std::string::npos)
      << message;
  EXPECT_TRUE(at::equal(kept, expected.cache.at({Part::z, 0}).narrow(0, 0, kept.size(0))));
  EXPECT_EQ(archive.attribute("/activations", "complete"), "0");
  EXPECT_EQ(archive.attribute("/activations", "sequences"), std::to_string(kept.size(0)));
}

TEST_F(Recordings, RefuseSitesThatAreNotThereOrComeTwice) {
  RunInfo info = run_info();
  const auto attempt = [&](const char* sites) {
    record(model_, inputs_, {.sites = parse_sites(sites, config_.layers)}, file_, info);
  };
  EXPECT_NE(message_of(ErrorKind::bad_argument, [&] { attempt("L0.z[h=0] L0.z[h=1]"); })
                .find("L0.z is asked for twice"),
            std::string::npos);
  EXPECT_NE(message_of(ErrorKind::bad_argument, [&] { attempt("L0.router"); })
                .find("L0.router does not exist"),
            std::string::npos);
  message_of(ErrorKind::bad_argument, [&] { attempt("L0.z[t=40]"); });
  message_of(ErrorKind::bad_argument,
             [&] { record(model_, inputs_, RecordOptions{}, file_, info); });
  EXPECT_FALSE(fs::exists(file_));
}

}  // namespace
}  // namespace plumb::test
