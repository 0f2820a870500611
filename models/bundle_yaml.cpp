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

std::string architecture_text(const ArchitectureManifest& a) {
    std::string out = fmt::format("architecture:\n  type: {}\n", a.type);
    if (a.type == "swin_unetr") {
        return out + fmt::format("  feature_size: {}\n  patch_merging: {}\n", a.feature_size, a.patch_merging);
    }
    std::vector<std::string> strides;
    for (const auto& stride : a.strides) strides.push_back(fmt::format("{}", fmt::join(stride, "x")));
    return out +
           fmt::format("  features: [{}]\n  strides: [{}]\n", fmt::join(a.features, ", "), fmt::join(strides, ", "));
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
    out += fmt::format(
        "\ninput:\n  spacing_mm: [{}]\n  orientation: {}\n  hu_low: {}\n  hu_high: {}\n  mean: {}\n  sd: {}\n"
        "  channels: {}\n",
        fmt::join(m.input.spacing_mm, ", "), m.input.orientation, m.input.hu_low, m.input.hu_high, m.input.mean,
        m.input.sd, m.input.channels);
    out += fmt::format("\nwindow:\n  size: [{}]\n  overlap: {}\n  blending: {}\n  sigma: {}\n",
                       fmt::join(m.window.size, ", "), m.window.overlap, m.window.blending, m.window.sigma);
    out += "\nheads:\n";
    for (const HeadManifest& head : m.heads) out += head_text(head);
    out += fmt::format("\ncalcium:\n  rule: {}\n  threshold_hu: {}\n  dilate_mm: {}\n", m.calcium.rule,
                       m.calcium.threshold_hu, m.calcium.dilate_mm);
    out += fmt::format("\nweights:\n  file: {}\n  sha256: {}\n", quoted(m.weights.file), quoted(m.weights.sha256));
    if (!m.training.empty()) {
        out += "\ntraining:\n";
        for (const auto& [key, value] : m.training) out += fmt::format("  {}: {}\n", quoted(key), quoted(value));
    }
    return out;
}

}  // namespace cardionode
