// Writes the bundle of the flows: tests/data/quick_bundle. Run by hand when the manifest's form changes:
//   ninja -C build/dev make_quick_bundle && build/dev/bin/make_quick_bundle tests/data/quick_bundle
// The network has the heads of a real bundle and random weights: it takes the whole way in seconds and finds nonsense.
#include <torch/torch.h>

#include <cstdio>
#include <filesystem>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "models/bundle.h"
#include "models/network.h"

namespace {

using cardionode::BundleManifest;
using cardionode::ClassManifest;
using cardionode::CodeManifest;
using cardionode::HeadManifest;

CodeManifest sct(const char* value, const char* meaning) { return {value, "SCT", meaning}; }

ClassManifest structure(int value, const char* name, const char* title, const CodeManifest& code,
                        std::array<std::uint8_t, 3> rgb) {
    ClassManifest c;
    c.value = value;
    c.name = name;
    c.title = title;
    c.category = sct("91723000", "Anatomical Structure");
    c.code = code;
    c.rgb = rgb;
    return c;
}

ClassManifest point(int value, const char* name, const char* title, const char* code, const CodeManifest& site) {
    ClassManifest c;
    c.value = value;
    c.name = name;
    c.title = title;
    c.code = {code, "99CARDIONODE", title};
    c.site = site;
    return c;
}

BundleManifest manifest() {
    BundleManifest m;
    m.name = "quick";
    m.version = "1";
    m.intended_use = "Tests only: random weights";
    m.architecture.type = "plain_conv_unet";
    m.architecture.features = {4, 8};
    m.architecture.strides = {{1, 1, 1}, {2, 2, 2}};
    m.input.spacing_mm = {4, 4, 4};
    m.input.hu_low = -250;
    m.input.hu_high = 1000;
    m.input.mean = 100;
    m.input.sd = 250;
    m.window.size = {32, 32, 32};
    m.window.overlap = 0.25;

    HeadManifest heart;
    heart.name = "heart";
    heart.kind = "labels";
    heart.title = "Heart (test)";
    heart.classes = {
        structure(1, "myocardium", "Myocardium", sct("49848007", "Myocardium"), {200, 120, 100}),
        structure(2, "left_atrium", "Left atrium", sct("82471001", "Left atrium"), {230, 60, 60}),
        structure(3, "left_ventricle", "Left ventricle", sct("87878005", "Left ventricle"), {250, 0, 0}),
        structure(4, "right_atrium", "Right atrium", sct("73829009", "Right atrium"), {60, 60, 230}),
        structure(5, "right_ventricle", "Right ventricle", sct("53085002", "Right ventricle"), {0, 0, 250}),
        structure(6, "aorta", "Aorta", sct("15825003", "Aorta"), {255, 160, 0}),
        structure(7, "pulmonary_artery", "Pulmonary artery", sct("81040000", "Pulmonary artery"), {0, 160, 255})};
    const CodeManifest annulus = sct("77583004", "Aortic valve ring");
    const CodeManifest root = sct("8128003", "Aortic root");
    const CodeManifest septum = sct("589001", "Interventricular septum");
    HeadManifest hps;
    hps.name = "hps";
    hps.kind = "points";
    hps.title = "Hinge points and ostia (test)";
    hps.classes = {point(1, "hinge_right", "Right coronary cusp nadir", "T1", annulus),
                   point(2, "hinge_left", "Left coronary cusp nadir", "T2", annulus),
                   point(3, "hinge_noncoronary", "Non-coronary cusp nadir", "T3", annulus),
                   point(4, "ostium_right", "Right coronary ostium", "T4", root),
                   point(5, "ostium_left", "Left coronary ostium", "T5", root)};
    HeadManifest ms;
    ms.name = "ms";
    ms.kind = "points";
    ms.title = "Membranous septum (test)";
    ms.classes = {point(1, "septum_upper", "Upper point of the membranous septum", "T6", septum),
                  point(2, "septum_lower", "Lower point of the membranous septum", "T7", septum)};
    HeadManifest calc;
    calc.name = "calc";
    calc.kind = "labels";
    calc.title = "Valve calcium (test)";
    calc.classes = {structure(1, "valve_calcium", "Aortic valve calcification",
                              sct("18115005", "Pathologic calcification"), {255, 255, 0})};
    calc.classes[0].category = sct("49755003", "Morphologically Abnormal Structure");
    m.heads = {heart, hps, ms, calc};
    m.weights.file = "weights.safetensors";
    m.training = {{"data", "none: random weights, seed 7"}};
    return m;
}

int complain(const cardionode::Error& error) {
    std::fprintf(stderr, "make_quick_bundle: %s\n", error.message.c_str());
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: make_quick_bundle FOLDER\n");
        return 2;
    }
    const std::filesystem::path folder = argv[1];
    std::filesystem::create_directories(folder);
    BundleManifest m = manifest();
    torch::manual_seed(7);
    auto network = cardionode::make_network(cardionode::network_options(m));
    if (!network) return complain(network.error());
    {
        const torch::NoGradGuard no_grad;
        for (auto& named : (*network)->named_parameters()) {
            // Large logits: soft noise would be below every threshold, and no output would have content.
            if (named.key().find("seg_layers") != std::string::npos) named.value().mul_(20);
        }
    }
    if (auto saved = cardionode::save_weights(**network, folder / m.weights.file); !saved)
        return complain(saved.error());
    auto hash = cardionode::sha256_of_file(folder / m.weights.file);
    if (!hash) return complain(hash.error());
    m.weights.sha256 = *hash;
    if (auto written = cardionode::write_file_durably(folder / "manifest.yaml", cardionode::to_yaml(m)); !written) {
        return complain(written.error());
    }
    auto checked = cardionode::load_bundle(folder);
    if (!checked) return complain(checked.error());
    std::printf("%s: %ju bytes of weights\n", folder.c_str(),
                static_cast<std::uintmax_t>(std::filesystem::file_size(folder / m.weights.file)));
    return 0;
}
