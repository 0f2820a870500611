// The second step of FedKD on a hospital's study files: teachers label once what people did not. Internal to
// fedclient/methods (torch in the signature).
//
// Each study that may be trained on gets a file of its own in <work>/students, with people's labels and the teachers';
// those held out are never asked about. A killed call goes on with the studies that have no file yet. Other teachers or
// another recipe begin anew. Thread safety: one call a work folder. Errors: Config for teachers, weights or studies
// that do not fit; Retry when stopped or the disk is full; Reject when no study is there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "models/network.h"
#include "models/train/recipe.h"

namespace cardionode::fed {

struct StudentStudies {
    train::Recipe recipe;                                   ///< of the student; its data.studies are asked about
    std::filesystem::path teacher_recipe;                   ///< a teacher's network: this with one head alone
    std::map<std::string, std::filesystem::path> teachers;  ///< by head
    std::filesystem::path work;                             ///< gets students/ and answers/
    std::int64_t most_studies = 500;
    std::uint64_t cache_bytes = std::uint64_t{4} << 30;
    torch::Device device = torch::kCPU;
    std::function<bool()> stop;  ///< asked after each study
    std::function<void(std::string)> print;
};

struct StudentFolder {
    std::filesystem::path folder;
    std::int64_t studies = 0;         ///< files with at least one label
    std::int64_t without_people = 0;  ///< of them those whose labels are all the teachers'
};

Result<StudentFolder> label_studies(const StudentStudies& wanted);

}  // namespace cardionode::fed
