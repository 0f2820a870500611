#include "conf/command/evaluate_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "pipeline/evaluate/pictures.h"
#include "pipeline/evaluate/summary.h"
#include "pipeline/evaluate/tables.h"
#include "pipeline/outputs/png_file.h"

namespace cardionode {
namespace {

constexpr const char* kWhat = "evaluation.json";
constexpr const char* kCases = "cases.jsonl";

Result<void> same_evaluation(const std::filesystem::path& file, const nlohmann::json& what) {
    const auto text = read_file(file);
    if (!text) return text.error();
    const auto there = nlohmann::json::parse(*text, nullptr, false);
    if (there.is_discarded()) return config_error(file.string() + ": damaged; delete the folder or name another one");
    if (there == what) return {};
    std::string differing;
    for (const auto& [key, value] : what.items()) {
        if (there.contains(key) && there[key] == value) continue;
        differing += (differing.empty() ? "" : ", ") + key + " was " +
                     (there.contains(key) ? there[key].dump() : std::string("not there")) + ", is " + value.dump();
    }
    return config_error(file.parent_path().string() + " holds another evaluation (" + differing +
                        "); name another folder, or delete this one");
}

}  // namespace

Result<std::unique_ptr<EvaluationFolder>> EvaluationFolder::open(std::filesystem::path folder,
                                                                 const nlohmann::json& what) {
    if (auto made = make_folder(folder); !made) return std::move(made).error();
    const auto what_file = folder / kWhat, cases_file = folder / kCases;
    std::error_code no_matter;
    if (std::filesystem::exists(what_file, no_matter)) {
        if (auto same = same_evaluation(what_file, what); !same) return std::move(same).error();
    } else if (auto written = write_file_durably(what_file, what.dump(2) + "\n"); !written) {
        return std::move(written).error();
    }
    std::unique_ptr<EvaluationFolder> evaluation(new EvaluationFolder(std::move(folder)));
    evaluation->file_ = FileDescriptor(::open(cases_file.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!evaluation->file_.valid()) return file_error("opening", cases_file, errno);
    const auto text = read_file(cases_file);
    if (!text) return text.error();
    std::size_t begin = 0;
    for (std::size_t end; (end = text->find('\n', begin)) != std::string::npos; begin = end + 1) {
        const auto line = nlohmann::json::parse(text->substr(begin, end - begin), nullptr, false);
        auto score = case_score_from(line);
        if (!score) {
            return std::move(score).error().in(cases_file.string() + ": line " +
                                               std::to_string(evaluation->cases_.size() + 1));
        }
        evaluation->cases_.push_back(std::move(*score));
    }
    if (begin < text->size() && ::ftruncate(evaluation->file_.get(), static_cast<off_t>(begin)) != 0) {
        return file_error("cutting the unfinished line of", cases_file, errno);
    }
    return evaluation;
}

bool EvaluationFolder::has(const std::string& name) const {
    return std::any_of(cases_.begin(), cases_.end(), [&](const CaseScore& c) { return c.name == name; });
}

Result<void> EvaluationFolder::add(CaseScore score) {
    const std::string line = to_json(score).dump() + "\n";
    const std::scoped_lock lock(mutex_);
    if (auto written = write_all(file_.get(), std::as_bytes(std::span(line)), folder_ / kCases); !written) {
        return written;
    }
    cases_.push_back(std::move(score));
    return {};
}

Result<void> EvaluationFolder::write_summary(const std::string& title) {
    std::sort(cases_.begin(), cases_.end(), [](const CaseScore& a, const CaseScore& b) { return a.name < b.name; });
    const Summary summary = summarise(cases_);
    if (auto r = write_file_durably(folder_ / "summary.json", to_json(summary).dump(2) + "\n"); !r) return r;
    if (auto r = write_file_durably(folder_ / "table.md", markdown(summary)); !r) return r;
    return write_png(distribution_picture(cases_, title), folder_ / "distribution.png");
}

}  // namespace cardionode
