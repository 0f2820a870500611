// The demo's way with the bundle that is shipped: what the PACS gives back is what the pipeline computed, and every
// validator that is installed accepts it.
#include <fstream>
#include <sstream>

#include "tests/flows/flow.h"

namespace cardionode::test {
namespace {

constexpr auto kPython = "/usr/bin/python3";  // Debian's, which has pydicom

class ShippedBundle : public ::testing::Test {
protected:
    /// One node, one study, and every output as the PACS gives it back: it takes a minute, so it is done once.
    static void SetUpTestSuite() {
        if (!Orthanc::available()) return;
        folder_ = new TemporaryFolder();
        Orthanc pacs(*folder_ / "pacs");
        pacs.start();
        NodeOptions options = options_with(shipped_bundle(), {destination(pacs)});
        options.lease_seconds = 60;
        Node node(options);
        node.start();
        const auto instances = cta();
        send_accepted(node, instances);
        studies_ = node.wait_until_settled(1, seconds(500));
        const Finished show = node.command({"show", studies_[0].study_key, "--json"});
        ASSERT_TRUE(show.ok()) << show.errors;
        std::ofstream(*folder_ / "study.json") << show.output;
        study_ = nlohmann::json::parse(show.output);
        int number = 0;
        for (const Orthanc::Held& held : pacs.instances()) {
            const auto file = *folder_ / (held.modality + std::to_string(++number) + ".dcm");
            pacs.download(held, file);
            (held.sop_class_uid.rfind("1.2.840.10008.5.1.4.1.1.7", 0) == 0 ? pictures_ : results_).push_back(file);
        }
    }
    static void TearDownTestSuite() {
        delete folder_;
        folder_ = nullptr;
    }
    void SetUp() override {
        if (!Orthanc::available()) GTEST_SKIP() << "Orthanc is not installed";
        ASSERT_EQ(studies_.size(), 1U);
        ASSERT_EQ(studies_[0].state, StudyState::Done) << studies_[0].last_error;
    }
    static std::vector<std::string> command(std::vector<std::string> words,
                                            const std::vector<std::filesystem::path>& files) {
        for (const auto& file : files) words.push_back(file.string());
        return words;
    }

    static inline TemporaryFolder* folder_ = nullptr;
    static inline std::vector<StudyRow> studies_;
    static inline nlohmann::json study_;
    static inline std::vector<std::filesystem::path> results_;   ///< SEG and SR
    static inline std::vector<std::filesystem::path> pictures_;  ///< key images
};

// One TEST, so that the study runs once: ctest starts a process for each.
TEST_F(ShippedBundle, FindsTheHeartAndWhatThePacsGivesBackIsWhatWasComputed) {
    const auto& result = study_["result"];
    EXPECT_EQ(result["landmarks"].size(), 7U) << "each point is decided: found, or not found with a reason";
    for (const auto& landmark : result["landmarks"]) {
        EXPECT_TRUE(landmark["found"].get<bool>() || !landmark["reason"].get<std::string>().empty()) << landmark;
    }

    std::vector<std::filesystem::path> all = results_;
    all.insert(all.end(), pictures_.begin(), pictures_.end());
    if (run({kPython, "-c", "import pydicom, numpy"}).ok()) {
        const Finished check =
            run(command({kPython, std::string(CARDIONODE_SOURCE_DIR) + "/tests/flows/check_outputs.py",
                         cta_folder().string(), (*folder_ / "study.json").string()},
                        all),
                seconds(120));
        std::cout << check.output;
        EXPECT_TRUE(check.ok()) << check.errors;
    } else {
        std::cout << "SKIPPED: python3-pydicom is not installed\n";
    }

    if (installed("dciodvfy")) {
        for (const auto& picture : pictures_) {
            const Finished dciodvfy = run({"dciodvfy", picture.string()});
            EXPECT_EQ((dciodvfy.errors + dciodvfy.output).find("Error"), std::string::npos) << dciodvfy.errors;
        }
    } else {
        std::cout << "SKIPPED: dciodvfy is not installed\n";
    }

    const auto verify = shared("bench/verify_outputs.sh");
    if (std::filesystem::exists(verify)) {
        const Finished verified =
            run(command({"bash", verify.string(), cta_folder().string()}, results_), seconds(400));
        // dcmjs comes from npm, not from Debian: the script counts its absence as a failure, here it is a skip.
        const bool has_dcmjs = run({"sh", "-c", "node -e 'require(\"dcmjs\")'"}).ok();
        if (!has_dcmjs) std::cout << "SKIPPED: dcmjs is not installed\n";
        std::istringstream lines(verified.output);
        int failed = 0;
        for (std::string line; std::getline(lines, line);) {
            if (line.rfind("FAIL", 0) == 0 && (has_dcmjs || line.find("dcmjs") == std::string::npos)) ++failed;
        }
        EXPECT_NE(verified.output.find(" failed\n"), std::string::npos) << "it came to its end";
        EXPECT_EQ(failed, 0) << verified.output;
    } else {
        std::cout << "SKIPPED: absent: " << verify << "\n";
    }

    const auto truth = shared("data/cta");
    if (std::filesystem::exists(truth / "masks")) {
        const Finished report =
            run(command({kPython, std::string(CARDIONODE_SOURCE_DIR) + "/tests/flows/silver_standard.py",
                         cta_folder().string(), truth.string()},
                        results_),
                seconds(120));
        std::cout << report.output;  // a report, never a pass or a fail
        EXPECT_TRUE(report.ok()) << report.errors;
    }
}

}  // namespace
}  // namespace cardionode::test
