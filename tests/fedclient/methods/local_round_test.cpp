#include "fedclient/methods/local_round.h"

#include <gtest/gtest.h>

#include "fedclient/methods/round_training.h"
#include "models/weights/head_of_tensor.h"
#include "tests/fedclient/methods/tiny_hospital.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::fed::test {
namespace {

using cardionode::test::TemporaryFolder;

LocalRound round_of(const TinyHospital& hospital, const std::filesystem::path& work, std::int64_t steps = 8) {
    LocalRound round;
    round.plan.steps = steps;
    round.plan.seed = 3;
    round.recipe = hospital.recipe_file;
    round.pulled = hospital.global;
    round.work = work;
    return round;
}

/// Twelve studies with a label of calc; about a quarter of them are held out.
void fill(const TinyHospital& hospital, const std::vector<std::string>& heads = {"calc"}) {
    for (int i = 0; i < 12; ++i) hospital.add(i, heads);
}

TEST(LocalRound, LearnsFromOwnLabelsAndIsBetterOnItsHeldOutStudies) {
    const TemporaryFolder tmp;
    const TinyHospital hospital(tmp.path());
    fill(hospital);
    const Result<LocalResult> result = run_local_round(round_of(hospital, tmp / "work", 40));
    ASSERT_TRUE(result.ok()) << result.error().message;
    EXPECT_EQ(result->steps, 40);
    EXPECT_GT(result->before.studies, 0);
    EXPECT_EQ(result->after.studies, result->before.studies);
    EXPECT_EQ(result->labelled.at("calc") + result->after.studies, 12) << "who is held out is not learned from";
    EXPECT_EQ(result->patients, result->labelled.at("calc"));
    EXPECT_GT(result->after.dice.at("calc"), result->before.dice.at("calc") + 0.3);
    EXPECT_EQ(result->after.dice.count("other"), 0U) << "no held-out study has a label of it";
    const Result<Validation> again = validate_weights(hospital.recipe_file, result->trained);
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_EQ(again->dice, result->after.dice);
}

TEST(LocalRound, AHeadWithoutLabelsLeavesAsItCameBitForBit) {
    const TemporaryFolder tmp;
    const TinyHospital hospital(tmp.path());
    fill(hospital);
    LocalRound round = round_of(hospital, tmp / "work");
    round.plan.proximal_mu = 0.1;
    const Result<LocalResult> result = run_local_round(round);
    ASSERT_TRUE(result.ok()) << result.error().message;
    EXPECT_EQ(result->labelled.at("other"), 0);
    const NamedTensors before = tensors_of(hospital.global), after = tensors_of(result->trained);
    ASSERT_EQ(before.size(), after.size());
    int others = 0, learned = 0;
    for (const auto& [name, tensor] : before) {
        EXPECT_TRUE(after.at(name).is_floating_point()) << name;
        if (head_of_tensor(name) == "other") {
            ++others;
            EXPECT_TRUE(torch::equal(tensor, after.at(name))) << name;
        } else if (head_of_tensor(name) == "calc") {
            learned += !torch::equal(tensor, after.at(name));
        }
    }
    EXPECT_GT(others, 0);
    EXPECT_GT(learned, 0);
}

TEST(LocalRound, AHeadThatThePlanDoesNotNameDoesNotLearnEither) {
    const TemporaryFolder tmp;
    const TinyHospital hospital(tmp.path());
    fill(hospital, {"calc", "other"});
    LocalRound round = round_of(hospital, tmp / "work");
    round.plan.heads = {"other"};
    const Result<LocalResult> result = run_local_round(round);
    ASSERT_TRUE(result.ok()) << result.error().message;
    EXPECT_EQ(result->labelled.at("calc"), 0);
    EXPECT_GT(result->labelled.at("other"), 0);
    const NamedTensors before = tensors_of(hospital.global), after = tensors_of(result->trained);
    for (const auto& [name, tensor] : before) {
        if (head_of_tensor(name) == "calc") {
            EXPECT_TRUE(torch::equal(tensor, after.at(name))) << name;
        }
    }
}

TEST(LocalRound, StoppedAndGoneOnWithEndsAtTheSameWeights) {
    const TemporaryFolder tmp;
    const TinyHospital hospital(tmp.path());
    fill(hospital);
    const Result<LocalResult> whole = run_local_round(round_of(hospital, tmp / "whole"));
    ASSERT_TRUE(whole.ok()) << whole.error().message;
    LocalRound round = round_of(hospital, tmp / "stopped");
    int asked = 0;
    round.stop = [&] { return ++asked == 6; };  // once before the training, then after each step
    const Result<LocalResult> stopped = run_local_round(round);
    ASSERT_FALSE(stopped.ok());
    EXPECT_EQ(stopped.error().kind, ErrorKind::Retry);
    round.stop = {};
    const Result<LocalResult> gone_on = run_local_round(round);
    ASSERT_TRUE(gone_on.ok()) << gone_on.error().message;
    EXPECT_EQ(gone_on->steps, 8);
    EXPECT_TRUE(same(tensors_of(whole->trained), tensors_of(gone_on->trained)));
    EXPECT_EQ(gone_on->before.dice, whole->before.dice);
}

TEST(LocalRound, ARoundThatIsDoneIsNotTrainedAgain) {
    const TemporaryFolder tmp;
    const TinyHospital hospital(tmp.path());
    fill(hospital);
    LocalRound round = round_of(hospital, tmp / "work");
    ASSERT_TRUE(run_local_round(round).ok());
    int steps = 0;
    round.enough = [&] { return ++steps, false; };
    const Result<LocalResult> again = run_local_round(round);
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_EQ(steps, 0);
    EXPECT_EQ(again->steps, 8);
    EXPECT_GT(again->labelled.at("calc"), 0);
    round.plan.round = 2;  // another round in the same folder begins anew
    ASSERT_TRUE(run_local_round(round).ok());
    EXPECT_EQ(steps, 8);
}

TEST(LocalRound, EnoughEndsTheTrainingEarlyAsIfDone) {
    const TemporaryFolder tmp;
    const TinyHospital hospital(tmp.path());
    fill(hospital);
    LocalRound round = round_of(hospital, tmp / "work");
    int steps = 0;
    round.enough = [&] { return ++steps == 2; };
    const Result<LocalResult> result = run_local_round(round);
    ASSERT_TRUE(result.ok()) << result.error().message;
    EXPECT_EQ(result->steps, 2);
    EXPECT_TRUE(std::filesystem::exists(result->trained));
}

TEST(LocalRound, FedProxKeepsTheWeightsNearerToThosePulled) {
    const TemporaryFolder tmp;
    const TinyHospital hospital(tmp.path());
    fill(hospital);
    const NamedTensors start = tensors_of(hospital.global);
    double moved[2] = {};
    for (int i = 0; i < 2; ++i) {
        LocalRound round = round_of(hospital, tmp / ("mu" + std::to_string(i)), 20);
        round.plan.proximal_mu = i == 0 ? 0 : 100;
        const Result<LocalResult> result = run_local_round(round);
        ASSERT_TRUE(result.ok()) << result.error().message;
        for (const auto& [name, tensor] : tensors_of(result->trained))
            moved[i] += (tensor - start.at(name)).pow(2).sum().item<double>();
    }
    EXPECT_LT(moved[1], 0.5 * moved[0]);
}

TEST(LocalRound, WithoutAnyLabelOfTheHeadsThereIsNothingToLearn) {
    const TemporaryFolder tmp;
    const TinyHospital hospital(tmp.path());
    fill(hospital, {});
    const Result<LocalResult> result = run_local_round(round_of(hospital, tmp / "work"));
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().kind, ErrorKind::Reject);
}

TEST(LocalRound, WeightsOfAnotherArchitectureAreRefused) {
    const TemporaryFolder tmp;
    const TinyHospital hospital(tmp.path());
    fill(hospital);
    train::Recipe wider = hospital.recipe;
    wider.architecture.features = {4, 12};
    TinyHospital::fresh(wider, tmp / "wider.safetensors");
    LocalRound round = round_of(hospital, tmp / "work");
    round.pulled = tmp / "wider.safetensors";
    const Result<LocalResult> result = run_local_round(round);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().kind, ErrorKind::Config);
    train::Recipe fewer = hospital.recipe;
    fewer.heads.pop_back();
    TinyHospital::fresh(fewer, tmp / "fewer.safetensors");
    round.pulled = tmp / "fewer.safetensors";
    const Result<LocalResult> missing = run_local_round(round);
    ASSERT_FALSE(missing.ok()) << "a head that is missing must not start from random weights";
    EXPECT_EQ(missing.error().kind, ErrorKind::Config);
    EXPECT_NE(missing.error().message.find("other"), std::string::npos) << missing.error().message;
}

TEST(LocalRound, ATeacherIsTheNetworkOfOneHead) {
    const TemporaryFolder tmp;
    const TinyHospital hospital(tmp.path());
    fill(hospital, {"calc", "other"});
    train::Recipe one = hospital.recipe;
    one.heads.pop_back();
    TinyHospital::fresh(one, tmp / "teacher.safetensors");
    LocalRound round = round_of(hospital, tmp / "work");
    round.plan.method = Method::FedKdTeacher;
    round.plan.heads = {"calc"};
    round.pulled = tmp / "teacher.safetensors";
    const Result<LocalResult> result = run_local_round(round);
    ASSERT_TRUE(result.ok()) << result.error().message;
    EXPECT_EQ(result->labelled.size(), 1U);
    for (const auto& [name, tensor] : tensors_of(result->trained)) EXPECT_NE(head_of_tensor(name), "other") << name;
    round.plan.heads = {};
    EXPECT_EQ(run_local_round(round).error().kind, ErrorKind::Config) << "a teacher is for one head";
}

TEST(LocalRound, AStudentLearnsFromStudiesThatNobodyLabelled) {
    const TemporaryFolder tmp;
    const TinyHospital school(tmp / "school");  // where the teacher learns
    fill(school);
    train::Recipe one = school.recipe;
    one.heads.pop_back();
    TinyHospital::fresh(one, tmp / "start.safetensors");
    LocalRound teaching = round_of(school, tmp / "teaching", 60);
    teaching.plan.method = Method::FedKdTeacher;
    teaching.plan.heads = {"calc"};
    teaching.pulled = tmp / "start.safetensors";
    const Result<LocalResult> teacher = run_local_round(teaching);
    ASSERT_TRUE(teacher.ok()) << teacher.error().message;

    const TinyHospital hospital(tmp / "hospital");
    for (int i = 100; i < 112; ++i) hospital.add(i, {});
    LocalRound round = round_of(hospital, tmp / "work", 12);
    round.plan.method = Method::FedKdStudent;
    round.teachers = {{"calc", teacher->trained}};
    round.teacher_recipe = school.recipe_file;
    std::vector<std::string> lines;
    round.print = [&](const std::string& line) { lines.push_back(line); };
    const Result<LocalResult> student = run_local_round(round);
    ASSERT_TRUE(student.ok()) << student.error().message;
    EXPECT_GT(student->unlabelled, 0);
    EXPECT_EQ(student->labelled.at("calc"), student->unlabelled);
    EXPECT_EQ(student->labelled.at("other"), 0);
    const NamedTensors before = tensors_of(hospital.global), after = tensors_of(student->trained);
    for (const auto& [name, tensor] : before) {
        if (head_of_tensor(name) == "other") {
            EXPECT_TRUE(torch::equal(tensor, after.at(name))) << name;
        }
        if (head_of_tensor(name) == "calc") {
            EXPECT_FALSE(torch::equal(tensor, after.at(name))) << name;
        }
    }
    // The next round asks nobody again.
    lines.clear();
    round.plan.round = 2;
    ASSERT_TRUE(run_local_round(round).ok());
    for (const std::string& line : lines) EXPECT_EQ(line.find("predicted"), std::string::npos) << line;
}

TEST(Methods, WordsOfThePlan) {
    for (const Method method : {Method::FedAvg, Method::FedKdTeacher, Method::FedKdStudent})
        EXPECT_EQ(*method_of(to_string(method)), method);
    EXPECT_EQ(method_of("fedsgd").error().kind, ErrorKind::Config);
}

TEST(ArchitectureHash, IsOfNamesAndShapesAlone) {
    const TemporaryFolder tmp;
    const TinyHospital a(tmp / "a"), b(tmp / "b", kTwoHeads, "seed: 9\nsteps: 7\n"),
        c(tmp / "c", "[{name: calc, classes: 2}, {name: other, classes: 1}]");
    const Result<std::string> first = architecture_hash(a.recipe_file);
    ASSERT_TRUE(first.ok()) << first.error().message;
    EXPECT_EQ(first->size(), 64U);
    EXPECT_EQ(*first, *architecture_hash(b.recipe_file)) << "seed and steps change no tensor";
    EXPECT_NE(*first, *architecture_hash(c.recipe_file)) << "one class more changes a shape";
}

}  // namespace
}  // namespace cardionode::fed::test
