// The model bundle: everything about a model that is not a weight, read from manifest.yaml. Nothing of it is a
// constant in code.
//
// A bundle is a folder: manifest.yaml, weights (*.safetensors, SHA-256 in the manifest), card.md for people.
// Thread safety: values. Errors of load_bundle: Config, with file:line: key for every problem of the manifest, for a
// missing weight file and for one whose SHA-256 is not the manifest's.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "conf/base/result.h"

namespace cardionode {

/// The input a network was trained on.
struct InputManifest {
    std::array<double, 3> spacing_mm = {2, 2, 2};  ///< along patient x (left), y (back), z (head)
    std::string orientation = "LPS";       ///< axes of the tensor [D, H, W] = z (to head), y (to back), x (to left)
    double hu_low = -1024, hu_high = 696;  ///< clip, HU
    double mean = 0, sd = 1;               ///< of clipped HU: (hu - mean) / sd
    int channels = 1;                      ///< 1: CT; 2: CT and the chamber label map as raw values
};

struct WindowManifest {
    std::array<std::int64_t, 3> size = {64, 64, 64};  ///< D, H, W in voxels of the network's grid
    double overlap = 0.5;                             ///< of neighbouring windows, 0..0.9
    std::string blending = "gaussian";                ///< gaussian | constant
    double sigma = 0.125;                             ///< of the window side, for gaussian
};

struct ArchitectureManifest {
    std::string type;                         ///< swin_unetr | plain_conv_unet
    std::int64_t feature_size = 12;           ///< swin_unetr
    std::string patch_merging = "monai_1_5";  ///< monai_0_9 | monai_1_5 | v2 (facts: order of the eight slices)
    std::vector<std::int64_t> features;       ///< plain_conv_unet: channels per stage
    std::vector<std::array<std::int64_t, 3>> strides;  ///< plain_conv_unet: per stage
};

struct CodeManifest {
    std::string value, scheme, meaning;
};

/// One class of a head: a structure (kind labels) or the ball around a point (kind points).
struct ClassManifest {
    int value = 0;          ///< channel of the head, >= 1; channel 0 is background
    std::string name;       ///< "left_ventricle", "hinge_left"
    std::string title;      ///< for people
    CodeManifest category;  ///< labels only
    CodeManifest code;      ///< type of the structure, or finding of the point
    CodeManifest site;      ///< points only: finding site
    std::array<std::uint8_t, 3> rgb = {200, 200, 200};
};

struct HeadManifest {
    std::string name;                    ///< "heart", "hps", "ms", "calc"
    std::string kind;                    ///< labels | points
    std::string title;                   ///< series description of the SEG
    std::vector<ClassManifest> classes;  ///< without background, by value
    int min_component_voxels = 1;        ///< smaller components count as not found
    double min_peak_probability = 0.3;   ///< below it a point counts as not found
};

/// How calcium is measured inside the region that the calc head marks.
struct CalciumRule {
    std::string rule = "fixed";  ///< fixed | lumen_plus | by_lumen (450/850)
    double threshold_hu = 850;   ///< fixed: HU; lumen_plus: HU above the lumen's mean
    double dilate_mm = 2;        ///< of the mask before the threshold is applied on the native grid
};

struct WeightsManifest {
    std::string file;  ///< name inside the bundle folder
    std::string sha256;
};

/// A second network that looks once more, at finer voxels, at one window round the aortic root. The window is centred
/// on the centroid of the hinge points and ostia that the first network found.
struct SecondLookManifest {
    ArchitectureManifest architecture;
    InputManifest input;  ///< channels 2: CT and the first look's heart labels as raw values 0..7
    std::array<std::int64_t, 3> window = {64, 64, 64};  ///< D, H, W in voxels of input.spacing_mm
    std::vector<std::string> heads;                     ///< in the network's order; of the bundle's heads, same classes
    WeightsManifest weights;
};

struct BundleManifest {
    std::string name;
    std::string version;
    std::string intended_use;
    std::string content_qualification = "RESEARCH";  ///< RESEARCH | PRODUCT
    ArchitectureManifest architecture;
    InputManifest input;
    WindowManifest window;
    std::vector<HeadManifest> heads;
    CalciumRule calcium;
    WeightsManifest weights;
    std::optional<SecondLookManifest> second_look;
    std::map<std::string, std::string> training;  ///< data, commit, seed, steps, metrics: as written by the trainer

    const HeadManifest* head(const std::string& head_name) const {
        for (const HeadManifest& h : heads) {
            if (h.name == head_name) return &h;
        }
        return nullptr;
    }
};

struct Bundle {
    std::filesystem::path folder;
    BundleManifest manifest;
    std::filesystem::path weights_file() const { return folder / manifest.weights.file; }
    /// Only where the manifest has a second look.
    std::filesystem::path second_weights_file() const { return folder / manifest.second_look->weights.file; }
};

/// Reads and checks manifest.yaml and the weights' SHA-256. The weights are not loaded. A folder that is a link is
/// followed once: Bundle::folder is where it led.
Result<Bundle> load_bundle(const std::filesystem::path& folder);
/// The manifest as YAML, as load_bundle reads it.
std::string to_yaml(const BundleManifest& manifest);
/// What tells this model's weights from any other's: the SHA-256 of the weights; where there is a second look, the
/// SHA-256 of both digests' hexadecimal digits, one after the other.
std::string weights_identity(const BundleManifest& manifest);

}  // namespace cardionode
