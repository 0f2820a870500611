// measure_on_phantoms [phantoms [voxel_mm [label_mm [ragged_mm [first_seed]]]]]
//
// Errors of the measuring on drawn phantoms with true points; with label_mm the labels are those of a coarse network
// whose border wanders by about ragged_mm. What is printed is the table of pipeline/measure/README.md.
// Phantoms are phantoms: no figure here is one of patients.
#include <cmath>
#include <cstdlib>
#include <map>

#include <fmt/format.h>

#include "pipeline/measure/measure.h"
#include "tests/pipeline/measure/phantom_root.h"

using namespace cardionode;
using namespace cardionode::test;

int main(int argc, char** argv) {
    const auto number = [&](int i, double otherwise) { return argc > i ? std::atof(argv[i]) : otherwise; };
    const int phantoms = static_cast<int>(number(1, 20));
    const auto spacing = static_cast<float>(number(2, 0.8)), label_mm = static_cast<float>(number(3, 0)),
               ragged = static_cast<float>(number(4, 0));
    const auto first = static_cast<std::uint64_t>(number(5, 9000));
    const auto atlas = train::PhantomAtlas::load(std::string(CARDIONODE_SOURCE_DIR) + "/models/train/shapes");
    if (!atlas) {
        fmt::print(stderr, "{}\n", atlas.error().message);
        return 1;
    }
    std::map<std::string, std::vector<double>> errors;
    std::map<std::string, int> none;
    for (int i = 0; i < phantoms; ++i) {
        const auto root = phantom_root(*atlas, first + i, spacing, static_cast<int>(100 / spacing), label_mm, ragged);
        const auto truth = truth_of(root);
        MeasureRules rules;
        rules.samples = 0;
        const Measured measured = measure(root.findings, root.ct, {"not asked", 0, ""}, rules);
        fmt::print("{:3} blood {:3.0f} HU, blur {:.1f} mm, noise {:2.0f} HU:", first + i, root.scene.levels.aorta,
                   root.scene.acquisition.blur, root.scene.acquisition.noise);
        for (const Measurement& m : measured.measurements) {
            const auto known = truth.find(m.name);
            if (known == truth.end()) continue;
            if (!m.value) {
                ++none[m.name];
                fmt::print(" {} -", m.name);
                continue;
            }
            const bool relative = m.unit.value == "mm2";
            const double error = relative ? 100 * (*m.value / known->second - 1) : *m.value - known->second;
            errors[m.name].push_back(error);
            fmt::print(" {} {:.1f} ({:+.1f}{})", m.name, *m.value, error, relative ? "%" : "");
            if (m.name == "annulus_area_mm2") fmt::print(" [{}]", m.rests_on.substr(m.rests_on.find_last_of(',') + 2));
        }
        fmt::print("\n");
        std::fflush(stdout);
    }
    fmt::print("\n{:34} {:>8} {:>8} {:>8} {:>5} {:>5}\n", "error (mm; areas in %)", "mean", "sd", "worst", "n", "none");
    for (const auto& [name, e] : errors) {
        double mean = 0, squares = 0, worst = 0;
        for (const double v : e) mean += v / static_cast<double>(e.size());
        for (const double v : e) {
            squares += (v - mean) * (v - mean);
            if (std::abs(v) > std::abs(worst)) worst = v;
        }
        fmt::print("{:34} {:8.2f} {:8.2f} {:8.2f} {:5} {:5}\n", name, mean,
                   std::sqrt(squares / std::max<double>(1, static_cast<double>(e.size()) - 1)), worst, e.size(),
                   none[name]);
    }
    return 0;
}
