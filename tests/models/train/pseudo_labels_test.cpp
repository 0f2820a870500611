#include "models/train/pseudo_labels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "models/train/pseudo_labels_decode.h"
#include "models/train/pseudo_labels_files.h"
#include "models/train/study_file.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::train {
namespace {

constexpr std::array<double, 3> kTwoMm = {2, 2, 2};

DecodedPoint at(double z, double y, double x) { return {1, {z, y, x}}; }

TEST(DecodePoints, TakesTheCentreOfTheLargestComponentOfEachClass) {
    torch::Tensor labels = torch::zeros({8, 8, 8}, torch::kByte);
    labels[0][0][0] = 1;
    labels[1][1][1] = 1;  // touches at a corner: one component of two
    labels[5][5][7] = 1;
    labels[5][5][6] = 1;
    labels[5][6][6] = 1;
    labels[3][3][3] = 3;
    const auto points = decode_points(labels, 3);
    EXPECT_EQ(points[0].voxels, 3);
    EXPECT_NEAR(points[0].at[0], 5, 1e-9);
    EXPECT_NEAR(points[0].at[1], 16.0 / 3, 1e-9);
    EXPECT_NEAR(points[0].at[2], 19.0 / 3, 1e-9);
    EXPECT_FALSE(points[1].found());
    EXPECT_EQ(points[2].at, (std::array<double, 3>{3, 3, 3})) << "a missing point shifts no other";
}

TEST(DecodePoints, BallsAndCentresAreInverse) {
    const std::vector<DecodedPoint> points = {at(4.3, 5.1, 6.6), {}, at(11, 10, 9)};
    const torch::Tensor labels = draw_balls(points, {16, 16, 16}, kTwoMm, 5);
    const auto decoded = decode_points(labels.to(torch::kByte), 3);
    EXPECT_FALSE(decoded[1].found());
    for (const std::size_t i : {0U, 2U}) EXPECT_LT(distance_mm(decoded[i].at, points[i].at, kTwoMm), 0.6);
    // 5 mm at 2 mm a voxel: the volume of a ball of 2.5 voxels.
    EXPECT_NEAR(static_cast<double>(decoded[2].voxels), 4.0 / 3 * 3.14159 * 2.5 * 2.5 * 2.5, 17);
    EXPECT_EQ(draw_balls({at(2, 2, 2), at(2, 2, 3)}, {6, 6, 6}, kTwoMm, 4)[2][2][2].item<int>(), 2)
        << "later points lie over earlier ones";
    EXPECT_EQ(draw_balls({at(0, 0, 0)}, {4, 4, 4}, {1, 1, 4}, 2)[0][0][1].item<int>(), 0) << "mm, not voxels";
}

TeacherAnswer drawn(const std::vector<DecodedPoint>& points) {
    TeacherAnswer answer;
    answer.labels = draw_balls(points, {24, 24, 24}, kTwoMm, 5).to(torch::kByte);
    answer.uncertainty = torch::zeros({24, 24, 24}, torch::kByte);
    return answer;
}

const PseudoHead kHinges{"hps", 3, true, 5, true};

TEST(PseudoLabels, ATriangleThatNoRootHasIsLeftOut) {
    Sample sample;
    EXPECT_EQ(add_target(drawn({at(5, 5, 5), at(5, 15, 5), at(15, 10, 10)}), kHinges, kTwoMm, {}, sample), "");
    EXPECT_EQ(sample.targets.at("hps").max().item<int>(), 3);
    // 20 mm and more apart is a root; 8 mm is none.
    EXPECT_NE(add_target(drawn({at(10, 10, 10), at(10, 14, 10), at(10, 10, 19)}), kHinges, kTwoMm, {}, sample)
                  .find("too short"),
              std::string::npos);
    EXPECT_NE(
        add_target(drawn({at(2, 2, 2), at(21, 21, 21), at(10, 10, 10)}), kHinges, kTwoMm, {}, sample).find("too long"),
        std::string::npos);
    EXPECT_EQ(add_target(drawn({at(5, 5, 5), {}, at(15, 10, 10)}), kHinges, kTwoMm, {}, sample), "point 2 is missing");
}

/// Says what the image says: channel c of the input is the logit of class c.
class Parrot final : public Network {
public:
    Parrot(std::vector<HeadChannels> heads, double dropout) : Network(std::move(heads), 1), dropout_(dropout) {
        scale_ = register_parameter("scale", torch::full({1}, 8.0F));
    }
    std::vector<HeadLogits> forward(const torch::Tensor& x, std::int64_t = 1) override {
        ++calls;
        std::vector<HeadLogits> outputs;
        for (const HeadChannels& head : heads()) {
            std::vector<torch::Tensor> logits;
            for (std::int64_t c = 0; c < head.channels; ++c)
                logits.push_back(scale_ * (0.5 - (x - static_cast<double>(c)).abs()));
            torch::Tensor all = torch::cat(logits, 1);
            if (dropout_ > 0) all = torch::dropout(all, dropout_, is_training());
            outputs.push_back({head.name, {all}});
        }
        return outputs;
    }
    std::array<std::int64_t, 3> multiple() const override { return {1, 1, 1}; }
    std::int64_t max_levels() const override { return 1; }
    int calls = 0;

private:
    double dropout_;
    torch::Tensor scale_;
};

/// Studies whose voxels are the labels that a Parrot sees.
class Drawn final : public StudiesToLabel {
public:
    void add(const std::vector<DecodedPoint>& points) {
        StudyToLabel s;
        s.sample.image = draw_balls(points, {24, 24, 24}, kTwoMm, 5).to(torch::kFloat).unsqueeze(0);
        s.hash = study_hash(s.sample.image);
        studies.push_back(s);
    }
    std::size_t count() const override { return studies.size(); }
    Result<StudyToLabel> study(std::size_t i) const override { return studies[i]; }
    std::vector<StudyToLabel> studies;
};

struct Class {
    std::shared_ptr<Parrot> network;
    Teacher teacher;
    explicit Class(double dropout = 0) : network(std::make_shared<Parrot>(heads(), dropout)) {
        WindowManifest window;
        window.size = {16, 16, 16};  // smaller than the study: windows are put together
        Result<Teacher> made = make_teacher(network, {kHinges, {"calc", 1}}, window);
        if (!made) throw std::runtime_error(made.error().message);
        teacher = *std::move(made);
    }
    static std::vector<HeadChannels> heads() { return {{"hps", 4}, {"calc", 2}}; }
};

struct Taken {
    std::vector<Sample> samples;
    Result<PseudoLabelReport> report = PseudoLabelReport{};
    Taken(const std::vector<Teacher>& teachers, const StudiesToLabel& studies, PseudoLabelCache* cache,
          const PseudoLabelOptions& options = {}) {
        report = make_pseudo_labels(teachers, studies, cache, options, [&](std::size_t, Sample s) -> Result<void> {
            samples.push_back(std::move(s));
            return {};
        });
    }
};

Drawn two_studies() {
    Drawn studies;
    studies.add({at(5, 5, 5), at(5, 15, 5), at(15, 10, 10)});
    studies.add({at(5, 5, 5), at(5, 15, 5), {}});
    return studies;
}

TEST(PseudoLabels, AFailedHeadLeavesTheOthersAlone) {
    const Class c;
    const Taken taken({c.teacher}, two_studies(), nullptr);
    ASSERT_TRUE(taken.report.ok()) << taken.report.error().message;
    EXPECT_EQ(taken.report->studies, 2);
    EXPECT_EQ(taken.report->labelled, (std::map<std::string, std::int64_t>{{"calc", 2}, {"hps", 1}}));
    ASSERT_EQ(taken.report->left_out.size(), 1U);
    EXPECT_EQ(taken.report->left_out[0].head, "hps");
    EXPECT_NE(taken.report->summary().find("left out 1 of hps: point 3 is missing"), std::string::npos)
        << taken.report->summary();
    EXPECT_EQ(taken.samples[1].targets.count("hps"), 0U);
    EXPECT_EQ(taken.samples[1].targets.count("calc"), 1U);
    // The parrot saw the balls: they come back.
    const auto points = decode_points(taken.samples[0].targets.at("hps").to(torch::kByte), 3);
    EXPECT_LT(distance_mm(points[1].at, {5, 15, 5}, kTwoMm), 0.5);
}

TEST(PseudoLabels, PeoplesLabelsStay) {
    const Class c;
    Drawn studies = two_studies();
    const torch::Tensor mine = torch::full({24, 24, 24}, 1, torch::kLong);
    studies.studies[0].sample.targets["hps"] = mine;
    const Taken taken({c.teacher}, studies, nullptr);
    EXPECT_TRUE(torch::equal(taken.samples[0].targets.at("hps"), mine));
    EXPECT_EQ(taken.samples[0].targets.count("calc"), 1U);
}

TEST(PseudoLabels, ATeacherIsAskedOnceAboutAStudy) {
    test::TemporaryFolder folder;
    Result<PseudoLabelCache> cache = PseudoLabelCache::open(folder / "answers", 1 << 30);
    ASSERT_TRUE(cache.ok());
    const Class c;
    const Taken first({c.teacher}, two_studies(), &*cache);
    const int calls = c.network->calls;
    EXPECT_GT(calls, 2);
    const Taken again({c.teacher}, two_studies(), &*cache);
    EXPECT_EQ(c.network->calls, calls);
    EXPECT_EQ(again.report->from_cache, 2);
    EXPECT_EQ(first.report->predicted, 2);
    EXPECT_TRUE(torch::equal(first.samples[0].targets.at("hps"), again.samples[0].targets.at("hps")));
    // Another teacher, or another way to ask, is another answer.
    PseudoLabelOptions soft;
    soft.soft = true;
    EXPECT_EQ(Taken({c.teacher}, two_studies(), &*cache, soft).report->predicted, 2);
    Class other;
    torch::NoGradGuard no_grad;
    other.network->parameters()[0].fill_(7);
    Result<Teacher> changed = make_teacher(other.network, c.teacher.heads, c.teacher.window);
    EXPECT_NE(changed->hash, c.teacher.hash);
    EXPECT_EQ(Taken({*changed}, two_studies(), &*cache).report->predicted, 2);
}

TEST(PseudoLabels, DamagedAnswersAreMadeAgain) {
    test::TemporaryFolder folder;
    Result<PseudoLabelCache> cache = PseudoLabelCache::open(folder / "answers", 1 << 30);
    const Class c;
    const Taken first({c.teacher}, two_studies(), &*cache);
    for (const auto& entry : std::filesystem::directory_iterator(folder / "answers")) {
        std::filesystem::resize_file(entry.path(), 100);
        break;
    }
    const Taken again({c.teacher}, two_studies(), &*cache);
    ASSERT_TRUE(again.report.ok());
    EXPECT_EQ(again.report->damaged, 1);
    EXPECT_EQ(again.report->predicted, 1);
    EXPECT_EQ(again.report->from_cache, 1);
    EXPECT_TRUE(torch::equal(first.samples[1].targets.at("calc"), again.samples[1].targets.at("calc")));
    EXPECT_EQ(Taken({c.teacher}, two_studies(), &*cache).report->from_cache, 2);
}

TEST(PseudoLabels, TheOldestAnswersGoWhenTheFolderIsFull) {
    test::TemporaryFolder folder;
    TeacherAnswer answer;
    answer.labels = answer.uncertainty = torch::zeros({10, 10, 10}, torch::kByte);
    Result<PseudoLabelCache> cache = PseudoLabelCache::open(folder / "answers", 5000);  // two of 2 kB fit
    for (const char* key : {"one", "two", "three"}) {
        ASSERT_TRUE(cache->store(key, {{"calc", answer}}).ok());
        std::error_code none;
        for (const auto& entry : std::filesystem::directory_iterator(folder / "answers")) {
            // An hour older at each turn: file times may be coarse.
            std::filesystem::last_write_time(
                entry.path(), std::filesystem::last_write_time(entry.path()) - std::chrono::hours(1), none);
        }
    }
    EXPECT_FALSE(cache->find("one"));
    EXPECT_TRUE(cache->find("two"));
    EXPECT_TRUE(cache->find("three"));
    EXPECT_EQ(cache->damaged(), 0) << "gone is not damaged";
    std::ofstream(folder.path() / "answers" / "x.safetensors.part-1-0") << "half";
    std::filesystem::last_write_time(folder.path() / "answers" / "x.safetensors.part-1-0",
                                     std::filesystem::file_time_type::clock::now() - std::chrono::hours(2));
    ASSERT_TRUE(PseudoLabelCache::open(folder / "answers", 5000).ok());
    EXPECT_FALSE(std::filesystem::exists(folder.path() / "answers" / "x.safetensors.part-1-0"));
}

TEST(PseudoLabels, SoftTargetsAreTheProbabilitiesAndUncertainVoxelsDoNotCount) {
    const Class c;
    PseudoLabelOptions options;
    options.soft = options.leave_out_uncertain = true;
    options.highest_uncertainty = 0.9;
    Drawn studies = two_studies();
    studies.studies[0].sample.image[0][20] = 0.5;  // half way between two classes
    const Taken taken({c.teacher}, studies, nullptr, options);
    ASSERT_TRUE(taken.report.ok());
    const torch::Tensor soft = taken.samples[0].targets.at("calc"), counts = taken.samples[0].counts.at("calc");
    EXPECT_EQ(soft.scalar_type(), torch::kHalf);
    EXPECT_EQ(soft.sizes(), (std::vector<std::int64_t>{2, 24, 24, 24}));
    EXPECT_LE((soft.to(torch::kFloat).sum(0) - 1).abs().max().item<double>(), 2e-3);
    EXPECT_FALSE(counts[20].any().item<bool>());
    EXPECT_TRUE(counts[1].all().item<bool>());
}

TEST(PseudoLabels, DropoutIsRepeatableAndDisturbsNobody) {
    const Class c(0.5);
    PseudoLabelOptions options;
    options.look = "dropout";
    options.soft = true;
    torch::manual_seed(11);
    const torch::Tensor expected = torch::rand({3});
    torch::manual_seed(11);
    const Taken first({c.teacher}, two_studies(), nullptr, options),
        again({c.teacher}, two_studies(), nullptr, options);
    EXPECT_TRUE(torch::equal(torch::rand({3}), expected));
    EXPECT_TRUE(torch::equal(first.samples[0].targets.at("calc"), again.samples[0].targets.at("calc")));
    EXPECT_FALSE(c.network->is_training());
    const Class sober;
    const Taken refused({sober.teacher}, two_studies(), nullptr, options);
    ASSERT_FALSE(refused.report.ok());
    EXPECT_EQ(refused.report.error().kind, ErrorKind::Config);
    EXPECT_NE(refused.report.error().message.find("no dropout"), std::string::npos);
}

TEST(PseudoLabels, FlipsNeverMirrorPoints) {
    const Class c;
    PseudoLabelOptions flips, once;
    flips.look = "flips";
    const Taken a({c.teacher}, two_studies(), nullptr, flips), b({c.teacher}, two_studies(), nullptr, once);
    ASSERT_TRUE(a.report.ok());
    EXPECT_TRUE(torch::equal(a.samples[0].targets.at("hps"), b.samples[0].targets.at("hps")));
    EXPECT_TRUE(torch::equal(a.samples[0].targets.at("calc"), b.samples[0].targets.at("calc")))
        << "a parrot says the same of a mirrored image";
    flips.look = "sideways";
    EXPECT_EQ(Taken({c.teacher}, two_studies(), nullptr, flips).report.error().kind, ErrorKind::Config);
}

TEST(PseudoLabels, StudyFilesAreAskedAboutWithTheirOwnLabels) {
    test::TemporaryFolder folder;
    Study study;
    study.facts.size = {24, 20, 16};
    study.facts.spacing_mm = {1, 2, 3};
    study.facts.source = "a test";
    study.facts.patient_hash = std::string(64, 'a');
    study.facts.input = input_words({});
    study.image.resize(24 * 20 * 16);
    study.labels["calc"].resize(study.image.size());
    study.image[(5 * 20 + 6) * 16 + 7] = 2.5F;
    study.labels["calc"][(5 * 20 + 6) * 16 + 7] = 1;
    const Result<void> written = write_study(folder / "s.safetensors", study);
    ASSERT_TRUE(written.ok()) << written.error().message;
    const StudyFilesToLabel files({folder / "s.safetensors", folder / "nowhere.safetensors"});
    EXPECT_EQ(files.count(), 2U);
    const Result<StudyToLabel> read = files.study(0);
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->hash, hash_of_voxels(study.image));
    EXPECT_EQ(read->spacing_mm, (std::array<double, 3>{3, 2, 1})) << "along D, H, W";
    EXPECT_EQ((read->sample.image[0][5][6][7].item<float>()), 2.5F);
    EXPECT_EQ((read->sample.targets.at("calc")[5][6][7].item<int>()), 1);
    EXPECT_EQ(read->sample.targets.at("calc").sum().item<int>(), 1);
    EXPECT_EQ(files.study(1).error().kind, ErrorKind::Config);
}

TEST(PseudoLabels, TwoTeachersForOneHeadAreRefused) {
    const Class c, d;
    EXPECT_EQ(Taken({c.teacher, d.teacher}, two_studies(), nullptr).report.error().kind, ErrorKind::Config);
    EXPECT_FALSE(make_teacher(c.network, {{"ms", 2}}, {}).ok());
}

}  // namespace
}  // namespace cardionode::train
