// The folder of an evaluation: cases as JSON lines that survive a kill, and the summary over them.
//
// Thread safety: add() may be called from several threads at once; the rest belongs to one.
#pragma once

#include <filesystem>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "conf/base/files.h"
#include "conf/base/result.h"
#include "pipeline/evaluate/case_score.h"

namespace cardionode {

class EvaluationFolder {
public:
    /// Makes the folder, or goes on with it: cases that stand in cases.jsonl whole are kept, a line that was cut off by
    /// a kill is cut away. @param what  evaluation.json: everything that the cases depend on
    /// Config: the folder holds an evaluation of something else, or a damaged one.
    static Result<std::unique_ptr<EvaluationFolder>> open(std::filesystem::path folder, const nlohmann::json& what);

    const std::vector<CaseScore>& cases() const { return cases_; }
    bool has(const std::string& name) const;
    /// One line, on disk when this returns. Retry: disk full.
    Result<void> add(CaseScore score);
    /// summary.json, table.md, distribution.png over all cases, by name.
    Result<void> write_summary(const std::string& title);
    const std::filesystem::path& path() const { return folder_; }

private:
    explicit EvaluationFolder(std::filesystem::path folder) : folder_(std::move(folder)) {}
    std::filesystem::path folder_;
    FileDescriptor file_;
    std::mutex mutex_;
    std::vector<CaseScore> cases_;
};

}  // namespace cardionode
