// The sentence about a wave, and the report of `plumb inspect`.
#include "plumb/report_text.h"

#include <fmt/format.h>

#include "report/inspection.h"
#include "report/text_pieces.h"

namespace plumb {
namespace {

const char* describe(Verdict verdict) {
  switch (verdict) {
    case Verdict::positional: return "positional sink, made at position 0 whatever the token";
    case Verdict::token: return "sink of the beginning-of-sequence token";
    case Verdict::learned_position: return "sink made by the learned position table";
    case Verdict::secondary: return "secondary sink, not position 0's own circuit";
    case Verdict::sink_logits: return "learned sink logits take the attention";
    case Verdict::none: return "a sink, but no circuit was shown to make it";
  }
  return "";
}

std::string sets_of(const std::vector<std::vector<std::string>>& sets) {
  std::vector<std::string> parts;
  for (const auto& set : sets) parts.push_back("{" + fmt::format("{}", fmt::join(set, ", ")) + "}");
  return report::list_of(parts);
}

std::string show_shape(const std::vector<std::int64_t>& shape,
                       const std::vector<std::string>& axes) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    parts.push_back(shape[i] > 0 ? fmt::format("{} {}", axes[i], shape[i]) : axes[i]);
  }
  return fmt::format("[{}]", fmt::join(parts, ", "));
}

std::string show_work(const PlannedWork& work) {
  using namespace report;
  std::string text = heading(fmt::format("plumb {} would take", work.command));
  const auto row = [&](const char* name, const std::string& value) {
    text += fmt::format("  {:<12} {}\n", name, value);
  };
  row("inputs", fmt::format("{} sequences of {} positions", show_count(work.sequences),
                            show_count(work.length)));
  if (!work.assuming.empty()) row("assuming", work.assuming + "; an estimate");
  row("evaluations", show_count(work.evaluations) + " (one position through one block)");
  row("weights", show_bytes(work.weight_bytes));
  row("activations", show_bytes(work.activation_bytes));
  row("results", show_bytes(work.result_bytes));
  row("peak memory", show_bytes(work.peak_bytes));
  if (work.written_bytes > 0) row("on disk", show_bytes(work.written_bytes));
  return text;
}

}  // namespace

std::string wave_sentence(const WaveReport& wave) {
  using report::list_of;
  std::string text = report::show_layers(wave.wave.onset, wave.wave.last) + ": ";
  text.front() = 'L';
  text += describe(wave.verdict);
  if (!wave.writers.empty()) text += ", written by " + list_of(wave.writers);
  if (!wave.upstream.empty())
    text += fmt::format(", which need{} {}", wave.writers.size() == 1 ? "s" : "",
                        list_of(wave.upstream));
  if (wave.blocks.size() == 1) text += fmt::format(" (block {})", wave.blocks.front());
  if (wave.blocks.size() > 1) text += fmt::format(" (blocks {})", fmt::join(wave.blocks, ", "));
  if (!wave.erasers.empty()) text += "; erased by " + list_of(wave.erasers);
  if (!wave.backups.empty()) text += "; alternatives for each other: " + sets_of(wave.backups);
  return text + ".";
}

std::string inspect_text(const RunInfo& run, const Checkpoint& checkpoint,
                         const Tokenizer* tokenizer, const PlannedWork* work) {
  using namespace report;
  const Inspection found = look_at(checkpoint);
  const std::int64_t block_bytes = found.parameters_per_block * (run.dtype == "f64" ? 8 : 4);

  const std::string hash = run.sha256();
  std::string text = show_run(run, nullptr);
  text += fmt::format("{} file{}, {} {}\n", checkpoint.format(),
                      checkpoint.format() == "gguf" ? "" : "s",
                      hash.empty() ? "weights not hashed; sha256 of the headers" : "sha256",
                      hash.empty() ? run.headers_sha256 : hash);
  text += heading("Architecture");
  for (const auto& [name, value] : found.switches)
    text += fmt::format("  {:<12} {}\n", name, value);
  text += fmt::format("  {:<12} {}\n", "context", show_count(run.config.context));
  text += fmt::format("  {:<12} {}\n", "vocabulary", show_count(run.config.vocab));
  text += heading("Size");
  text += fmt::format("  {:<12} {} ({} in {} block)\n", "parameters",
                      show_count(checkpoint.parameters()), show_count(found.parameters_per_block),
                      run.config.experts.layers.empty() ? "each" : "the largest");
  for (const auto& [name, elements] : found.parameters) {
    text += fmt::format("  {:<12} {}\n", name, show_count(elements));
  }
  text += fmt::format("  {:<12} {} in {}\n", "a block", show_bytes(block_bytes), run.dtype);
  for (const auto& [dtype, bytes] : found.stored) {
    text += fmt::format("  {:<12} {}\n", dtype, show_bytes(static_cast<std::int64_t>(bytes)));
  }
  text += heading("Tokenizer");
  if (tokenizer == nullptr) {
    text += "  none beside the weights: give token ids (--tokens) or random ones (--random)\n";
  } else {
    const auto token = [&](const std::optional<std::int64_t>& id) {
      return id ? fmt::format("{} (id {})", show_token(*id, tokenizer), *id) : std::string("none");
    };
    text += fmt::format("  {} ids; BOS {}{}; EOS {}\n", show_count(tokenizer->size()),
                        token(tokenizer->bos()),
                        tokenizer->adds_bos() ? ", added to every text" : ", not added to texts",
                        token(tokenizer->eos()));
  }
  if (work != nullptr) text += show_work(*work);
  text += heading("Sites, in the order of the forward pass");
  std::vector<std::vector<std::string>> rows;
  for (const SiteShape& site : found.sites) {
    rows.push_back({(site.per_layer ? "L*." : "") + site.name, show_shape(site.shape, site.axes),
                    site.tl_name});
  }
  return text + columns({"<site", "<axes", "<in TransformerLens"}, rows);
}

}  // namespace plumb
