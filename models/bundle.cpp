#include "models/bundle.h"

#include <algorithm>
#include <optional>
#include <set>

#include "conf/base/hash.h"
#include "conf/base/settings.h"

namespace cardionode {
namespace {

constexpr std::string_view kManifestFile = "manifest.yaml";

bool is_word(std::string_view text, std::string_view others, std::size_t longest) {
    if (text.empty() || text.size() > longest) return false;
    return std::all_of(text.begin(), text.end(), [&](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               others.find(c) != std::string_view::npos;
    });
}

bool is_identifier(std::string_view text) { return is_word(text, "_", 64); }
bool is_name(std::string_view text) { return is_word(text, "._-", 64); }
/// DICOM LO, which holds 64 characters.
bool is_title(std::string_view text) { return !text.empty() && text.size() <= 64; }
bool is_weights_name(std::string_view text) {
    return is_word(text, "._-", 128) && text.front() != '.' && text.size() > 12 &&
           text.substr(text.size() - 12) == ".safetensors";
}
bool is_sha256(std::string_view text) {
    return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// "2x2x1" -> {2, 2, 1}
std::optional<std::array<std::int64_t, 3>> stride_from(std::string_view text) {
    if (text.size() != 5 || text[1] != 'x' || text[3] != 'x') return std::nullopt;
    std::array<std::int64_t, 3> stride{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        stride[axis] = text[2 * axis] - '0';
        if (stride[axis] < 1 || stride[axis] > 4) return std::nullopt;
    }
    return stride;
}

/// What each side of the window must be a multiple of.
std::array<std::int64_t, 3> multiple_of(const ArchitectureManifest& a) {
    if (a.type == "swin_unetr") return {32, 32, 32};
    std::array<std::int64_t, 3> product = {1, 1, 1};
    for (const auto& stride : a.strides) {
        for (std::size_t axis = 0; axis < 3; ++axis) product[axis] *= stride[axis];
    }
    return product;
}

void read_architecture(Section s, ArchitectureManifest& a) {
    s.required("type", "swin_unetr or plain_conv_unet");
    s.one_of("type", a.type, {"swin_unetr", "plain_conv_unet"});
    if (a.type == "swin_unetr") {
        s.required("feature_size", "a multiple of 12");
        s.integer("feature_size", a.feature_size, 12, 192);
        if (a.feature_size % 12 != 0) s.problem("feature_size", "expected a multiple of 12");
        s.required("patch_merging", "monai_0_9, monai_1_5 or v2");
        s.one_of("patch_merging", a.patch_merging, {"monai_0_9", "monai_1_5", "v2"});
    } else if (a.type == "plain_conv_unet") {
        s.required("features", "channels of each stage");
        s.integers("features", a.features);
        const bool sane =
            std::all_of(a.features.begin(), a.features.end(), [](std::int64_t f) { return f >= 1 && f <= 2048; });
        if (s.has("features") && (!sane || a.features.size() < 2 || a.features.size() > 10)) {
            s.problem("features", "expected 2 to 10 stages of 1 to 2048 channels");
        }
        s.required("strides", "one a stage, like [1x1x1, 2x2x2]");
        std::vector<std::string> words;
        s.texts(
            "strides", words, [](std::string_view word) { return stride_from(word).has_value(); },
            "one stride a stage, like [1x1x1, 2x2x2], each 1 to 4");
        for (const std::string& word : words) a.strides.push_back(*stride_from(word));
        if (!words.empty() && words.size() != a.features.size()) {
            s.problem("strides", "expected as many strides as features");
        }
        if (!words.empty() && words[0] != "1x1x1") s.problem("strides", "expected 1x1x1 for the first stage");
    }
    s.no_other_keys();
}

/// Three numbers, each in [lowest, highest].
template <class Number, class Target>
void read_three(Section& s, std::string_view key, std::vector<Number> values, std::array<Target, 3>& target,
                double lowest, double highest) {
    if (!s.has(key)) return;
    const bool sane = values.size() == 3 && std::all_of(values.begin(), values.end(), [&](Number v) {
                          return static_cast<double>(v) >= lowest && static_cast<double>(v) <= highest;
                      });
    if (!sane) {
        s.problem(key, "expected three numbers from " + std::to_string(lowest) + " to " + std::to_string(highest));
        return;
    }
    for (std::size_t i = 0; i < 3; ++i) target[i] = static_cast<Target>(values[i]);
}

void read_input(Section s, InputManifest& in) {
    s.required("spacing_mm", "three lengths in mm");
    std::vector<double> spacing;
    s.numbers("spacing_mm", spacing);
    read_three(s, "spacing_mm", spacing, in.spacing_mm, 0.1, 20);
    s.one_of("orientation", in.orientation, {"LPS"});
    for (const char* key : {"hu_low", "hu_high", "mean", "sd"})
        s.required(key, "a number: intensities are never guessed");
    s.number("hu_low", in.hu_low, -32768, 32767);
    s.number("hu_high", in.hu_high, -32768, 32767);
    if (in.hu_low >= in.hu_high) s.problem("hu_high", "expected more than hu_low");
    s.number("mean", in.mean, -32768, 32767);
    s.number("sd", in.sd, 1e-3, 32767);
    s.integer("channels", in.channels, 1, 2);
    s.no_other_keys();
}

void read_window_size(Section& s, const ArchitectureManifest& a, std::array<std::int64_t, 3>& target) {
    s.required("size", "three sides in voxels");
    std::vector<std::int64_t> size;
    s.integers("size", size);
    read_three(s, "size", size, target, 8, 1024);
    const auto multiple = multiple_of(a);
    for (std::size_t axis = 0; axis < 3; ++axis) {
        if (target[axis] % multiple[axis] == 0) continue;
        s.problem("size", "each side must be a multiple of the network's " + std::to_string(multiple[axis]));
        break;
    }
}

void read_window(Section s, const ArchitectureManifest& a, WindowManifest& w) {
    read_window_size(s, a, w.size);
    s.number("overlap", w.overlap, 0, 0.9);
    s.one_of("blending", w.blending, {"gaussian", "constant"});
    s.number("sigma", w.sigma, 0.01, 10);
    s.no_other_keys();
}

void read_code(Section& parent, std::string_view key, bool required, CodeManifest& code) {
    if (required) parent.required(key, "a code: {value, scheme, meaning}");
    if (!parent.has(key)) {
        (void)parent.section(key);  // known, but absent
        return;
    }
    Section s = parent.section(key);
    for (const char* part : {"value", "scheme", "meaning"}) s.required(part, "a text");
    const auto up_to_16 = [](std::string_view text) { return !text.empty() && text.size() <= 16; };
    s.text("value", code.value, up_to_16, "a code value of 1 to 16 characters");
    s.text("scheme", code.scheme, up_to_16, "a coding scheme of 1 to 16 characters");
    s.text("meaning", code.meaning, is_title, "1 to 64 characters");
    s.no_other_keys();
}

void read_class(Section s, const std::string& kind, int expected_value, ClassManifest& c) {
    s.required("value", "the head's channel");
    s.integer("value", c.value, 1, 255);
    if (c.value != expected_value) {
        s.problem("value", "expected " + std::to_string(expected_value) + ": classes stand in order, without gaps");
    }
    s.required("name", "a word");
    s.text("name", c.name, is_identifier, "letters, digits and _");
    c.title = c.name;
    s.text("title", c.title, is_title, "1 to 64 characters");
    read_code(s, "category", kind == "labels", c.category);
    read_code(s, "code", true, c.code);
    read_code(s, "site", kind == "points", c.site);
    std::vector<std::int64_t> rgb;
    s.integers("rgb", rgb);
    read_three(s, "rgb", rgb, c.rgb, 0, 255);
    s.no_other_keys();
}

void read_head(Section s, HeadManifest& head) {
    s.required("name", "a word");
    s.text("name", head.name, is_identifier, "letters, digits and _");
    s.required("kind", "labels or points");
    s.one_of("kind", head.kind, {"labels", "points"});
    head.title = head.name;
    s.text("title", head.title, is_title, "1 to 64 characters");
    s.integer("min_component_voxels", head.min_component_voxels, 1, 1'000'000);
    s.number("min_peak_probability", head.min_peak_probability, 0, 1);
    s.required("classes", "one or more classes");
    std::set<std::string> seen;
    std::vector<Section> classes = s.sections("classes");
    for (Section& each : classes) {
        ClassManifest c;
        read_class(each, head.kind, static_cast<int>(head.classes.size()) + 1, c);
        if (!seen.insert(c.name).second) each.problem("name", "another class of this head has this name");
        head.classes.push_back(std::move(c));
    }
    if (head.classes.empty() && s.has("classes")) s.problem("classes", "expected one or more classes");
    if (head.classes.size() > 254) s.problem("classes", "expected at most 254 classes");
    s.no_other_keys();
}

void read_weights(Section s, WeightsManifest& weights) {
    s.required("file", "a file name");
    s.text("file", weights.file, is_weights_name, "a name in this folder that ends with .safetensors");
    s.required("sha256", "the file's SHA-256");
    s.text("sha256", weights.sha256, is_sha256, "64 lower-case hexadecimal digits");
    s.no_other_keys();
}

void read_second_look(Section s, const BundleManifest& m, SecondLookManifest& second) {
    for (const char* part : {"architecture", "input", "window", "heads", "weights"}) s.required(part, "a mapping");
    read_architecture(s.section("architecture"), second.architecture);
    read_input(s.section("input"), second.input);
    Section window = s.section("window");
    read_window_size(window, second.architecture, second.window);
    window.no_other_keys();
    s.texts("heads", second.heads, is_identifier, "names of heads");
    std::set<std::string> seen;
    for (const std::string& name : second.heads) {
        if (!m.head(name)) s.problem("heads", "'" + name + "' is none of this bundle's heads");
        if (!seen.insert(name).second) s.problem("heads", "'" + name + "' stands there twice");
    }
    if (s.has("heads") && second.heads.empty()) s.problem("heads", "expected one or more heads");
    if (second.input.channels == 2 && !m.head("heart")) {
        s.section("input").problem("channels", "a second channel needs a head \"heart\" in the bundle");
    }
    read_weights(s.section("weights"), second.weights);
    if (!second.weights.file.empty() && second.weights.file == m.weights.file) {
        s.section("weights").problem("file", "the first network has this file already");
    }
    s.no_other_keys();
}

void check_weights_file(const std::filesystem::path& folder, const WeightsManifest& expected, Section weights) {
    if (expected.file.empty()) return;
    const std::filesystem::path file = folder / expected.file;
    auto hash = sha256_of_file(file);
    if (!hash) {
        weights.problem("file", "the weights cannot be read: " + hash.error().message);
    } else if (!expected.sha256.empty() && *hash != expected.sha256) {
        weights.problem("sha256", "expected " + expected.sha256 + ", but " + file.string() + " has " + *hash +
                                      ": the weights are damaged or belong to another manifest");
    }
}

void read_manifest(Section s, BundleManifest& m) {
    s.required("name", "a name");
    s.text("name", m.name, is_name, "1 to 64 letters, digits, . _ -");
    s.required("version", "a version");
    s.text("version", m.version, is_name, "1 to 64 letters, digits, . _ -");
    s.required("intended_use", "a sentence");
    s.text("intended_use", m.intended_use);
    s.one_of("content_qualification", m.content_qualification, {"RESEARCH", "PRODUCT"});
    for (const char* part : {"architecture", "input", "window", "weights"}) s.required(part, "a mapping");
    read_architecture(s.section("architecture"), m.architecture);
    read_input(s.section("input"), m.input);
    read_window(s.section("window"), m.architecture, m.window);
    s.required("heads", "one or more heads");
    std::set<std::string> seen;
    std::vector<Section> heads = s.sections("heads");
    for (Section& each : heads) {
        HeadManifest head;
        read_head(each, head);
        if (!seen.insert(head.name).second) each.problem("name", "another head has this name");
        m.heads.push_back(std::move(head));
    }
    if (m.heads.empty() && s.has("heads")) s.problem("heads", "expected one or more heads");
    Section calcium = s.section("calcium");
    calcium.one_of("rule", m.calcium.rule, {"fixed", "lumen_plus", "by_lumen"});
    calcium.number("threshold_hu", m.calcium.threshold_hu, -1024, 4000);
    calcium.number("dilate_mm", m.calcium.dilate_mm, 0, 20);
    calcium.no_other_keys();
    read_weights(s.section("weights"), m.weights);
    Section second = s.section("second_look");
    if (s.has("second_look")) read_second_look(second, m, m.second_look.emplace());
    Section training = s.section("training");
    for (const std::string& key : training.keys()) training.text(key, m.training[key]);
    training.no_other_keys();
    s.no_other_keys();
}

}  // namespace

Result<Bundle> load_bundle(const std::filesystem::path& named) {
    // A link (`current`, see fedclient/round/promotion.h) is followed once: manifest and weights are of one version.
    std::error_code error;
    std::filesystem::path folder = std::filesystem::canonical(named, error);
    if (error || !std::filesystem::is_symlink(named, error)) folder = named;
    Bundle bundle;
    bundle.folder = folder;
    Problems problems;
    const std::filesystem::path file = folder / kManifestFile;
    const SettingsFile manifest = SettingsFile::load(file, problems);
    if (!problems.empty()) return std::move(problems.result()).error();  // unreadable: the keys would only add noise
    read_manifest(manifest.root(), bundle.manifest);
    check_weights_file(folder, bundle.manifest.weights, manifest.root().section("weights"));
    if (bundle.manifest.second_look) {
        check_weights_file(folder, bundle.manifest.second_look->weights,
                           manifest.root().section("second_look").section("weights"));
    }
    if (!problems.empty()) return std::move(problems.result()).error();
    return bundle;
}

std::string weights_identity(const BundleManifest& manifest) {
    if (!manifest.second_look) return manifest.weights.sha256;
    return sha256_hex(manifest.weights.sha256 + manifest.second_look->weights.sha256);
}

}  // namespace cardionode
