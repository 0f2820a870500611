// The manifest as text. Quoted texts are YAML's double-quoted scalars, so that no content can change the structure.
#include <fmt/format.h>

#include "models/bundle.h"

namespace cardionode {
namespace {

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += {'\\', c};
        else if (c == '\n') out += "\\n";
        else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
            out += fmt::format("\\x{:02x}", static_cast<int>(c));
        else out += c;
    }
    return out + "\"";
}

std::string code_line(const std::string& indent, const char* key, const CodeManifest& code) {
    if (code.value.empty() && code.scheme.empty() && code.meaning.empty()) return {};
    return fmt::format("{}{}: {{value: {}, scheme: {}, meaning: {}}}\n", indent, key, quoted(code.value),
                       quoted(code.scheme), quoted(code.meaning));
}

/// Each part below begins with a line of its name, all lines indented by `in`.
std::string architecture_text(const ArchitectureManifest& a, const std::string& in = {}) {
    std::string out = fmt::format("{0}architecture:\n{0}  type: {1}\n", in, a.type);
    if (a.type == "swin_unetr") {
        return out +
               fmt::format("{0}  feature_size: {1}\n{0}  patch_merging: {2}\n", in, a.feature_size, a.patch_merging);
    }
    std::vector<std::string> strides;
    for (const auto& stride : a.strides) strides.push_back(fmt::format("{}", fmt::join(stride, "x")));
    return out + fmt::format("{0}  features: [{1}]\n{0}  strides: [{2}]\n", in, fmt::join(a.features, ", "),
                             fmt::join(strides, ", "));
}

std::string input_text(const InputManifest& input, const std::string& in = {}) {
    return fmt::format(
        "{0}input:\n{0}  spacing_mm: [{1}]\n{0}  orientation: {2}\n{0}  hu_low: {3}\n{0}  hu_high: {4}\n"
        "{0}  mean: {5}\n{0}  sd: {6}\n{0}  channels: {7}\n",
        in, fmt::join(input.spacing_mm, ", "), input.orientation, input.hu_low, input.hu_high, input.mean, input.sd,
        input.channels);
}

std::string weights_text(const WeightsManifest& weights, const std::string& in = {}) {
    return fmt::format("{0}weights:\n{0}  file: {1}\n{0}  sha256: {2}\n", in, quoted(weights.file),
                       quoted(weights.sha256));
}

std::string second_look_text(const SecondLookManifest& second) {
    const std::string in = "  ";
    return "second_look:\n" + architecture_text(second.architecture, in) + input_text(second.input, in) +
           fmt::format("{0}window:\n{0}  size: [{1}]\n{0}heads: [{2}]\n", in, fmt::join(second.window, ", "),
                       fmt::join(second.heads, ", ")) +
           weights_text(second.weights, in);
}

std::string head_text(const HeadManifest& head) {
    std::string out = fmt::format(
        "  - name: {}\n    kind: {}\n    title: {}\n    min_component_voxels: {}\n    min_peak_probability: {}\n"
        "    classes:\n",
        head.name, head.kind, quoted(head.title), head.min_component_voxels, head.min_peak_probability);
    for (const ClassManifest& c : head.classes) {
        const std::string indent(8, ' ');
        out += fmt::format("      - value: {}\n{}name: {}\n{}title: {}\n", c.value, indent, c.name, indent,
                           quoted(c.title));
        out += code_line(indent, "category", c.category) + code_line(indent, "code", c.code) +
               code_line(indent, "site", c.site);
        out += fmt::format("{}rgb: [{}]\n", indent, fmt::join(c.rgb, ", "));
    }
    return out;
}

}  // namespace

std::string to_yaml(const BundleManifest& m) {
    std::string out = fmt::format("name: {}\nversion: {}\nintended_use: {}\ncontent_qualification: {}\n\n",
                                  quoted(m.name), quoted(m.version), quoted(m.intended_use), m.content_qualification);
    out += architecture_text(m.architecture);
    out += "\n" + input_text(m.input);
    out += fmt::format("\nwindow:\n  size: [{}]\n  overlap: {}\n  blending: {}\n  sigma: {}\n",
                       fmt::join(m.window.size, ", "), m.window.overlap, m.window.blending, m.window.sigma);
    out += "\nheads:\n";
    for (const HeadManifest& head : m.heads) out += head_text(head);
    out += fmt::format("\ncalcium:\n  rule: {}\n  threshold_hu: {}\n  dilate_mm: {}\n", m.calcium.rule,
                       m.calcium.threshold_hu, m.calcium.dilate_mm);
    out += "\n" + weights_text(m.weights);
    if (m.second_look) out += "\n" + second_look_text(*m.second_look);
    if (!m.training.empty()) {
        out += "\ntraining:\n";
        for (const auto& [key, value] : m.training) out += fmt::format("  {}: {}\n", quoted(key), quoted(value));
    }
    return out;
}

}  // namespace cardionode
