#include "tests/pipeline/outputs/read_back.h"

#include <array>
#include <cstdio>
#include <fstream>
#include <stdexcept>

#include <sys/wait.h>

#include <nlohmann/json.hpp>

namespace cardionode::test {

std::pair<int, std::string> run_command(const std::string& command) {
    FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
    if (pipe == nullptr) throw std::runtime_error("cannot run " + command);
    std::string printed;
    std::array<char, 4096> buffer;
    for (std::size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
        printed.append(buffer.data(), n);
    }
    const int status = ::pclose(pipe);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128, printed};
}

std::string read_back(const std::filesystem::path& ct_folder, const Findings& findings, const WrittenOutputs& outputs,
                      const std::filesystem::path& work_folder) {
    nlohmann::json expected;
    expected["ct"] = ct_folder.string();
    for (const SegmentGroup& group : findings.groups) {
        const auto raw = work_folder / (group.name + ".raw");
        std::ofstream(raw, std::ios::binary)
            .write(reinterpret_cast<const char*>(group.labels.voxels.data()),
                   static_cast<std::streamsize>(group.labels.voxels.size()));
        nlohmann::json one{{"name", group.name}, {"raw", raw.string()}, {"files", nlohmann::json::array()}};
        for (const Segment& segment : group.segments) {
            one["segments"][segment.title] = segment.label;
            if (segment.volume_ml) {
                expected["volumes"].push_back({{"title", segment.title}, {"ml", *segment.volume_ml}});
            }
        }
        for (const OutputFile& file : outputs.files) {
            const std::string name = std::filesystem::path(file.file).filename().string();
            if (name.starts_with("seg_" + group.name + ".") || name.starts_with("seg_" + group.name + "_")) {
                one["files"].push_back((work_folder / file.file).string());
            }
        }
        expected["groups"].push_back(one);
    }
    for (const Landmark& landmark : findings.landmarks) {
        nlohmann::json one{{"title", landmark.title}, {"lps", nullptr}};
        if (landmark.position) one["lps"] = landmark.position->lps_mm;
        expected["landmarks"].push_back(one);
    }
    for (const OutputFile& file : outputs.files) {
        if (file.file.ends_with("sr_landmarks.dcm")) expected["sr_landmarks"] = (work_folder / file.file).string();
        if (file.file.ends_with("sr_volumes.dcm")) expected["sr_volumes"] = (work_folder / file.file).string();
    }
    const auto json = work_folder / "expected.json";
    std::ofstream(json) << expected;
    const auto [status, printed] =
        run_command("/usr/bin/python3 " CARDIONODE_SOURCE_DIR "/tests/pipeline/outputs/read_back.py " + json.string());
    return status == 0 ? std::string{} : printed;
}

}  // namespace cardionode::test
