// The node's own studies on their way from the queue to study files.
#include "fedclient/round/local_data.h"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dctk.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>

#include "conf/base/files.h"
#include "fedclient/round/clinic.h"
#include "fedclient/round/round.h"
#include "models/bundle.h"
#include "models/train/study_file.h"
#include "pipeline/outputs/outputs.h"
#include "scp/queue/queue.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/written_ct.h"

namespace cardionode::fed {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

template <class T>
T must(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message);
    return *std::move(result);
}
void must(Result<void> result) {
    if (!result) throw std::runtime_error(result.error().message);
}

constexpr const char* kRecipe = R"(
window: [16, 16, 16]
architecture: {type: plain_conv_unet, features: [4, 8], strides: [1, 2]}
input: {spacing_mm: 2, hu_low: -250, hu_high: 1000, mean: 100, sd: 250}
heads: [{name: heart, classes: 3}]
)";

class LocalData : public testing::Test {
protected:
    void SetUp() override {
        node.node.node.spool = folder / "spool";
        node.node.node.database = folder / "queue.db";
        node.node.series.min_slices = 5;
        node.node.series.min_coverage_mm = 10, node.node.series.min_field_of_view_mm = 10;
        node.federated.state = folder / "state";
        node.federated.least_free_mib = 0;
        std::ofstream(folder / "recipe.yaml") << kRecipe;
        model.id = "tavi";
        model.recipe = folder / "recipe.yaml";
        model.bundle = folder / "bundle";
        make_bundle();
        node.federated.models = {model};
        fs::create_directories(folder / "spool");
        ct = std::make_unique<CtSeries>(test::write_ct(folder / "spool", {}));
        findings = test::findings_for(*ct);
        queue = std::make_unique<Queue>(must(Queue::open(folder / "queue.db", clock)));
    }
    void make_bundle() {
        auto quick = must(load_bundle(fs::path(CARDIONODE_SOURCE_DIR) / "tests/data/quick_bundle"));
        fs::create_directories(model.bundle);
        fs::copy_file(quick.weights_file(), model.bundle / quick.manifest.weights.file);
        HeadManifest heart = quick.manifest.heads.front();
        heart.name = "heart", heart.kind = "labels";
        heart.classes.resize(3);
        const char* codes[] = {"87878005", "15825003", "73829009"};
        for (int i = 0; i < 3; ++i) heart.classes[static_cast<std::size_t>(i)].code = {codes[i], "SCT", "x"};
        quick.manifest.heads = {heart};
        must(write_file_durably(model.bundle / "manifest.yaml", to_yaml(quick.manifest)));
        must(load_bundle(model.bundle));
    }
    ReceivedInstance instance(const std::string& study, const std::string& sop, const fs::path& file,
                              const std::string& sop_class, const std::string& modality) {
        ReceivedInstance r;
        r.study_instance_uid = study, r.series_instance_uid = study + "." + modality, r.sop_instance_uid = sop;
        r.sop_class_uid = sop_class, r.transfer_syntax_uid = "1.2.840.10008.1.2.1", r.modality = modality;
        r.sha256 = "sha of " + sop, r.file = fs::relative(file, folder / "spool").string(), r.bytes = 10;
        r.calling_ae_title = "CT1", r.received_at = clock.now();
        return r;
    }
    /// The CT's files as a study of this UID; done. @return its key
    std::string add_study(const std::string& uid, bool with_images = true) {
        std::vector<ReceivedInstance> instances;
        int n = 0;
        for (const SourceSlice& slice : ct->slices) {
            const fs::path copy = folder / "spool" / (uid + "-" + std::to_string(n++) + ".dcm");
            if (with_images) fs::copy_file(slice.file, copy);
            else std::ofstream(copy) << "no DICOM";
            instances.push_back(instance(uid, uid + "." + std::to_string(n), copy, slice.sop_class_uid, "CT"));
        }
        const std::string key = must(queue->add_instances(instances)).front().study_key;
        must(queue->force_complete(key));
        auto claim = must(queue->claim_study("w", Milliseconds(1000)));
        auto written = must(write_outputs(*ct, findings, test::request_for(folder / "work")));
        for (OutputFile& file : written.files) {
            if (file.kind == "SEG" && file.file.find("heart") != std::string::npos) seg = folder / "work" / file.file;
            file.sop_instance_uid += "." + uid;  // an output belongs to one study
        }
        EXPECT_TRUE(must(queue->finish_study(*claim, {"ok", "{}"}, written.files, {})));
        clock.advance(std::chrono::hours(1));
        return key;
    }
    /// A radiologist's correction of the heart comes in.
    void add_correction(const std::string& uid) {
        DcmFileFormat file;
        ASSERT_TRUE(file.loadFile(seg.c_str()).good());
        DcmDataset& d = *file.getDataset();
        d.putAndInsertString(DCM_SOPInstanceUID, "1.2.3.77");
        d.putAndInsertString(DCM_Manufacturer, "Workstation");
        DcmSequenceOfItems* segments = nullptr;
        d.findAndGetSequence(DCM_SegmentSequence, segments);
        for (unsigned long i = 0; i < segments->card(); ++i)
            segments->getItem(i)->putAndInsertString(DCM_SegmentAlgorithmType, "MANUAL");
        const fs::path path = folder / "spool/corrected.dcm";
        ASSERT_TRUE(file.saveFile(path.c_str(), EXS_LittleEndianExplicit).good());
        const auto one = instance(uid, "1.2.3.77", path, UID_SegmentationStorage, "SEG");
        must(queue->add_instances({&one, 1}));
    }
    LocalDataReport refresh() {
        LocalDataHooks hooks;
        hooks.print = [this](const std::string& line) { said += line + "\n"; };
        hooks.pause = [](Milliseconds) {};
        return must(refresh_local_data(node, model, hooks, clock));
    }
    fs::path study_file(const std::string& key) const {
        return studies_folder(node.federated, model) / (key + ".safetensors");
    }

    test::TemporaryFolder folder;
    test::FakeClock clock;
    FederatedNode node;
    ModelSettings model;
    std::unique_ptr<CtSeries> ct;
    Findings findings;
    std::unique_ptr<Queue> queue;
    fs::path seg;
    std::string said;
};

TEST_F(LocalData, AFinishedStudyBecomesAStudyFileOnce) {
    const std::string key = add_study("1.2.3.5");
    const LocalDataReport first = refresh();
    EXPECT_EQ(first.studies, 1) << said;
    EXPECT_EQ(first.made, 1);
    EXPECT_TRUE(first.labelled.empty()) << "the node's own result is no label";
    auto file = must(train::StudyFile::open(study_file(key)));
    EXPECT_TRUE(file.facts().heads.empty());
    EXPECT_EQ(file.facts().patient_hash.size(), 64U);
    EXPECT_EQ(refresh().made, 0) << "nothing changed: nothing is read again";
}

TEST_F(LocalData, ARadiologistsCorrectionBecomesALabelWithItsOrigin) {
    const std::string key = add_study("1.2.3.5");
    refresh();
    add_correction("1.2.3.5");
    EXPECT_EQ(must(queue->study(key))->state, StudyState::Done) << "a correction does not run the pipeline again";
    const LocalDataReport report = refresh();
    EXPECT_EQ(report.made, 1);
    EXPECT_EQ(report.labelled.at("heart"), 1) << said;
    auto file = must(train::StudyFile::open(study_file(key)));
    EXPECT_THAT(file.facts().heads, testing::ElementsAre("heart"));
    const std::string note = must(read_file(studies_folder(node.federated, model) / (key + ".json")));
    EXPECT_THAT(note, HasSubstr("\"author\": \"person\""));
    EXPECT_THAT(note, HasSubstr("\"sop_class_uid\": \"1.2.840.10008.5.1.4.1.1.66.4\""));
}

TEST_F(LocalData, NothingOfAPatientStandsBesideTheStudies) {
    add_study("1.2.3.5");
    add_correction("1.2.3.5");
    refresh();
    for (const auto& entry : fs::directory_iterator(studies_folder(node.federated, model))) {
        if (entry.path().extension() != ".json") continue;
        const std::string text = must(read_file(entry.path()));
        for (const char* secret : {"Phantom", "1.2.3.5", "1.2.3.77"})
            EXPECT_EQ(text.find(secret), std::string::npos) << secret << " in " << text;
    }
    EXPECT_EQ(said.find("1.2.3"), std::string::npos) << said;
}

TEST_F(LocalData, TheNewestStayWithinTheBounds) {
    const std::string old = add_study("1.2.3.5"), fresh = add_study("1.2.3.6");
    EXPECT_EQ(refresh().studies, 2);
    node.federated.data.max_studies = 1;
    const LocalDataReport one = refresh();
    EXPECT_EQ(one.studies, 1);
    EXPECT_EQ(one.removed, 1);
    EXPECT_FALSE(fs::exists(study_file(old)));
    EXPECT_TRUE(fs::exists(study_file(fresh)));
    clock.advance(std::chrono::hours(24 * 400));
    EXPECT_EQ(refresh().studies, 0) << "older than max_age_days";
}

TEST_F(LocalData, SendersCanBeChosen) {
    add_study("1.2.3.5");
    node.federated.data.calling_ae_titles = {"CT2"};
    EXPECT_EQ(refresh().studies, 0);
    node.federated.data.calling_ae_titles = {"CT2", "CT1"};
    EXPECT_EQ(refresh().studies, 1);
}

TEST_F(LocalData, AStudyOfNoUseIsNotReadEachNight) {
    add_study("1.2.3.5", false);
    const LocalDataReport first = refresh();
    EXPECT_EQ(first.studies, 0);
    EXPECT_EQ(first.of_no_use, 1);
    EXPECT_EQ(refresh().made, 0);
}

TEST_F(LocalData, AFileWithoutItsNoteIsMadeAnew) {
    const std::string key = add_study("1.2.3.5");
    refresh();
    fs::remove(studies_folder(node.federated, model) / (key + ".json"));  // killed in between
    EXPECT_EQ(refresh().made, 1);
    std::ofstream(studies_folder(node.federated, model) / "S0ZZZ.safetensors") << "left over";
    refresh();
    EXPECT_FALSE(fs::exists(study_file("S0ZZZ")));
}

TEST_F(LocalData, WithoutAQueueWhatIsThereStays) {
    add_study("1.2.3.5");
    EXPECT_EQ(refresh().studies, 1);
    node.node.node.database = folder / "gone.db";
    EXPECT_EQ(refresh().studies, 1);
}

TEST_F(LocalData, TheClinicIsBusyWhileAStudyWaitsOrIsWorkedOn) {
    ClinicWatch watch(folder / "queue.db", Milliseconds(0));
    EXPECT_FALSE(watch.busy());
    const auto one = instance("1.2.3.8", "1.2.3.8.1", folder / "spool/x.dcm", "1.2.840.10008.5.1.4.1.1.2", "CT");
    const std::string key = must(queue->add_instances({&one, 1})).front().study_key;
    EXPECT_FALSE(watch.busy()) << "images that arrive need no model yet";
    must(queue->force_complete(key));
    EXPECT_TRUE(watch.busy());
    auto claim = must(queue->claim_study("w", Milliseconds(1000)));
    EXPECT_TRUE(watch.busy());
    must(queue->finish_study(*claim, {"ok", "{}"}, {}, {}));
    EXPECT_FALSE(watch.busy());
    ClinicWatch none(folder / "gone.db", Milliseconds(0));
    EXPECT_FALSE(none.busy());
}

}  // namespace
}  // namespace cardionode::fed
