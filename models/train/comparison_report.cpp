// Tables of a comparison, from its results.
#include <cstdio>

#include "models/train/comparison.h"

namespace cardionode::train {
namespace {

using nlohmann::json;

std::string number(double value, int digits) {
    char text[40];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
}

struct Measure {
    std::string key, title;
    int digits;
};

const char* title_of(const std::string& arm) {
    static const std::map<std::string, const char*> titles = {
        {kTeachers, "teachers: one UNet a label type, labelled alone"},
        {kStudentLabelled, "(a) student SwinUNETR, labelled alone"},
        {kStudentPseudo, "(b) student SwinUNETR, labelled + pseudo-labels"},
        {kBaselineLabelled, "(c) multi-head UNet, labelled alone"},
        {kBaselinePseudo, "(d) multi-head UNet, labelled + pseudo-labels"},
        {kFrozenStudent, "new layer on the frozen body of (b), SwinUNETR"},
        {kFrozenBaseline, "new layer on the frozen body of (d), UNet"}};
    const auto found = titles.find(arm);
    return found == titles.end() ? "" : found->second;
}

std::vector<Measure> measures_of(const json& results) {
    if (results["kind"] == "distillation")
        return {
            {"mean_error_mm", "landmark error, mm", 2}, {"found_share", "found", 3}, {"calc_dice", "calcium Dice", 3}};
    std::vector<Measure> all;
    for (const auto& [key, value] : results["seeds"][0]["arms"].begin().value().items()) {
        if (key.size() > 5 && key.rfind("_dice") == key.size() - 5)
            all.push_back({key, key.substr(0, key.size() - 5) + " Dice", 3});
    }
    return all;
}

}  // namespace

std::string comparison_markdown(const json& results) {
    const json& seeds = results["seeds"];
    const std::vector<Measure> measures = measures_of(results);
    std::string text = "| arm |";
    for (const Measure& m : measures) text += " " + m.title + ": mean (each seed) |";
    text += " CPU s a seed |\n|---|";
    for (std::size_t i = 0; i <= measures.size(); ++i) text += "---|";
    text += "\n";
    std::vector<std::string> arms;
    for (const char* arm : {kTeachers, kStudentLabelled, kStudentPseudo, kBaselineLabelled, kBaselinePseudo,
                            kFrozenStudent, kFrozenBaseline}) {
        if (seeds[0]["arms"].contains(arm)) arms.push_back(arm);
    }
    for (const std::string& arm : arms) {
        text += "| " + std::string(title_of(arm)) + " |";
        for (const Measure& m : measures) {
            double sum = 0;
            std::string each;
            for (const json& seed : seeds) {
                const double value = seed["arms"][arm][m.key];
                sum += value;
                each += (each.empty() ? "" : ", ") + number(value, m.digits);
            }
            text += " **" + number(sum / static_cast<double>(seeds.size()), m.digits) + "** (" + each + ") |";
        }
        double cost = 0;
        for (const json& seed : seeds) cost += seed["arms"][arm]["cpu_seconds"].get<double>();
        text += " " + number(cost / static_cast<double>(seeds.size()), 0) + " |\n";
    }
    text +=
        "\n| comparison | measure | role | mean gain (each seed) | p one-sided | p two-sided "
        "|\n|---|---|---|---|---|---|\n";
    for (const json& test : results["tests"]) {
        const bool dice = test["measure"].get<std::string>().find("dice") != std::string::npos;
        std::string each;
        for (const double gain : test["gains"]) each += (each.empty() ? "" : ", ") + number(gain, dice ? 3 : 2);
        text += "| " + test["arm"].get<std::string>() + " against " + test["against"].get<std::string>() + " | " +
                (dice ? test["measure"].get<std::string>() : "landmark error, mm") + " | " +
                test["role"].get<std::string>() + " | **" + number(test["mean_gain"], dice ? 3 : 2) + "** (" + each +
                ") | " + number(test["p_one_sided"], 4) + " | " + number(test["p_two_sided"], 4) + " |\n";
    }
    return text +
           "\nA gain above 0 speaks for the arm named first. Phantoms are phantoms: none of this is evidence about "
           "patients.\n";
}

}  // namespace cardionode::train
