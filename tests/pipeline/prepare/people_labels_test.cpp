// What a radiologist corrects in the node's own SEG and SR, and sends back, becomes a label; what the node said does
// not.
#include "pipeline/prepare/people_labels.h"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dctk.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>

#include "pipeline/outputs/outputs.h"
#include "pipeline/read/annotation.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/written_ct.h"

namespace cardionode {
namespace {

using testing::HasSubstr;

class PeopleLabelsOfAStudy : public testing::Test {
protected:
    void SetUp() override {
        ct = std::make_unique<CtSeries>(test::write_ct(folder.path(), test::oblique({})));
        findings = test::findings_for(*ct);
        const auto outputs = write_outputs(*ct, findings, test::request_for(folder / "work"));
        ASSERT_TRUE(outputs.ok()) << outputs.error().message;
        for (const OutputFile& file : outputs->files) {
            own.insert(file.sop_instance_uid);
            const std::filesystem::path path = folder / "work" / file.file;
            if (file.kind == "SEG" && file.file.find("heart") != std::string::npos) seg = path;
            if (file.kind == "SR" && file.file.find("landmarks") != std::string::npos) sr = path;
        }
        // Heads as a bundle describes them: without the left atrium, which the findings did not find.
        HeadManifest heart{"heart", "labels", "Heart", {}};
        heart.classes = {named(1, "left_ventricle", "87878005", "SCT"), named(2, "aorta", "15825003", "SCT"),
                         named(3, "right_atrium", "73829009", "SCT")};
        HeadManifest points{"hps", "points", "Root", {}};
        points.classes = {named(1, "hinge_right", "hinge-rcc", "99CARDIONODE"),
                          named(2, "hinge_left", "hinge-lcc", "99CARDIONODE"),
                          named(3, "hinge_noncoronary", "hinge-ncc", "99CARDIONODE"),
                          named(4, "ostium_right", "56789007", "SCT"), named(5, "ostium_left", "1256091001", "SCT")};
        heads = {heart, points};
    }
    static ClassManifest named(int value, const char* name, const char* code, const char* scheme) {
        ClassManifest c;
        c.value = value, c.name = name, c.code = {code, scheme, name};
        return c;
    }
    /// The object as another program writes it after somebody worked on it.
    StudyFile corrected(const std::filesystem::path& from, const std::string& name,
                        const std::function<void(DcmDataset&)>& change) {
        DcmFileFormat file;
        EXPECT_TRUE(file.loadFile(from.c_str()).good());
        DcmDataset& d = *file.getDataset();
        d.putAndInsertString(DCM_SOPInstanceUID, ("1.2.3.4." + std::to_string(++number)).c_str());
        d.putAndInsertString(DCM_Manufacturer, "Workstation");
        d.putAndInsertString(DCM_ManufacturerModelName, "Editor 5");
        d.putAndInsertString(DCM_ContentDate, "20991231");
        change(d);
        const std::filesystem::path path = folder / name;
        EXPECT_TRUE(file.saveFile(path.c_str(), EXS_LittleEndianExplicit).good());
        OFString uid;
        d.findAndGetOFString(DCM_SOPClassUID, uid);
        return {path, uid.c_str(), "SEG"};
    }
    static void by_hand(DcmDataset& d) {
        DcmSequenceOfItems* segments = nullptr;
        d.findAndGetSequence(DCM_SegmentSequence, segments);
        for (unsigned long i = 0; i < segments->card(); ++i)
            segments->getItem(i)->putAndInsertString(DCM_SegmentAlgorithmType, "SEMIAUTOMATIC");
    }
    static void by_a_person(DcmDataset& d) {
        DcmSequenceOfItems* content = nullptr;
        d.findAndGetSequence(DCM_ContentSequence, content);
        for (unsigned long i = 0; i < content->card(); ++i) {
            DcmItem* name = nullptr;
            DcmItem* value = nullptr;
            OFString code;
            DcmItem& item = *content->getItem(i);
            if (item.findAndGetSequenceItem(DCM_ConceptNameCodeSequence, name).bad()) continue;
            name->findAndGetOFString(DCM_CodeValue, code);
            if (code != "121005") continue;
            item.findAndGetSequenceItem(DCM_ConceptCodeSequence, value);
            value->putAndInsertString(DCM_CodeValue, "121006");
            value->putAndInsertString(DCM_CodeMeaning, "Person");
        }
    }
    PeopleLabels read(const std::vector<StudyFile>& files) {
        auto labels = read_people_labels(files, *ct, heads, own);
        EXPECT_TRUE(labels.ok()) << labels.error().message;
        return labels ? *std::move(labels) : PeopleLabels{};
    }

    test::TemporaryFolder folder;
    std::unique_ptr<CtSeries> ct;
    Findings findings;
    std::filesystem::path seg, sr;
    std::set<std::string> own;
    std::vector<HeadManifest> heads;
    int number = 0;
};

TEST_F(PeopleLabelsOfAStudy, WhatTheNodeSaidItselfIsNoLabel) {
    const PeopleLabels labels = read({{seg, UID_SegmentationStorage, "SEG"}, {sr, UID_Comprehensive3DSRStorage, "SR"}});
    EXPECT_TRUE(labels.origins.empty());
    // Nor is it when its own record is gone, or another node's output comes in.
    own.clear();
    EXPECT_TRUE(
        read({{seg, UID_SegmentationStorage, "SEG"}, {sr, UID_Comprehensive3DSRStorage, "SR"}}).origins.empty());
}

TEST_F(PeopleLabelsOfAStudy, ACorrectedSegmentationIsOneVoxelForVoxel) {
    const PeopleLabels labels = read({corrected(seg, "seg.dcm", by_hand)});
    ASSERT_EQ(labels.origins.size(), 1U);
    EXPECT_EQ(labels.origins[0].head, "heart");
    EXPECT_EQ(labels.origins[0].author, "person");
    EXPECT_EQ(labels.origins[0].software, "Workstation Editor 5");
    const LabelMap& map = labels.labels.maps.at("heart");
    const std::vector<std::uint8_t>& truth = findings.groups[0].labels.voxels;
    ASSERT_EQ(map.voxels.size(), truth.size());
    std::size_t marked = 0;
    for (std::size_t i = 0; i < truth.size(); ++i) {
        const int expected = truth[i] == 4 ? 3 : truth[i];  // by its code: the right atrium is the head's class 3
        ASSERT_EQ(map.voxels[i], expected) << i;
        marked += expected != 0;
    }
    EXPECT_GT(marked, 1000U);
}

TEST_F(PeopleLabelsOfAStudy, ReportsOfPeopleBecomePoints) {
    const PeopleLabels labels = read({corrected(sr, "sr.dcm", by_a_person)});
    ASSERT_EQ(labels.origins.size(), 1U);
    EXPECT_EQ(labels.origins[0].kind, "SR");
    const auto& points = labels.labels.points.at("hps");
    ASSERT_EQ(points.size(), 5U);
    for (const LabelPoint& point : points)
        EXPECT_LT(distance_mm(point.at, *findings.landmarks[static_cast<std::size_t>(point.value) - 1].position), 1e-3);
}

TEST_F(PeopleLabelsOfAStudy, AVerifiedReportCountsWhoeverBeganIt) {
    const auto verified = [](DcmDataset& d) { d.putAndInsertString(DCM_VerificationFlag, "VERIFIED"); };
    EXPECT_EQ(read({corrected(sr, "sr.dcm", verified)}).origins.size(), 1U);
    EXPECT_TRUE(read({corrected(sr, "other.dcm", [](DcmDataset&) {})}).origins.empty()) << "a device's, unverified";
}

TEST_F(PeopleLabelsOfAStudy, AHeadOfWhichAClassIsMissingIsLeftOut) {
    heads[0].classes.push_back(named(4, "left_atrium", "82471001", "SCT"));
    const PeopleLabels labels = read({corrected(seg, "seg.dcm", by_hand)});
    EXPECT_TRUE(labels.origins.empty()) << "nobody drew the left atrium: it must not be learned as absent";
    ASSERT_EQ(labels.remarks.size(), 1U);
    EXPECT_THAT(labels.remarks[0], HasSubstr("marks 3 of 4 of heart"));
}

TEST_F(PeopleLabelsOfAStudy, TheNewestCounts) {
    const StudyFile old = corrected(seg, "old.dcm", [](DcmDataset& d) {
        by_hand(d);
        d.putAndInsertString(DCM_ContentDate, "20200101");
    });
    const PeopleLabels labels = read({old, corrected(seg, "new.dcm", by_hand)});
    ASSERT_EQ(labels.origins.size(), 1U);
    EXPECT_EQ(labels.origins[0].made_at.substr(0, 8), "20991231");
}

TEST_F(PeopleLabelsOfAStudy, ObjectsOfOtherImagesAndDamagedOnesAreLeftOutWithARemark) {
    const StudyFile other = corrected(seg, "other.dcm", [](DcmDataset& d) {
        by_hand(d);
        d.putAndInsertString(DCM_FrameOfReferenceUID, "1.2.3.9");
    });
    const StudyFile cut = corrected(seg, "cut.dcm", [](DcmDataset& d) {
        by_hand(d);
        const Uint8 few[2] = {0, 0};
        d.putAndInsertUint8Array(DCM_PixelData, few, 2);
    });
    const PeopleLabels labels = read({other, cut});
    EXPECT_TRUE(labels.origins.empty());
    EXPECT_EQ(labels.remarks.size(), 2U);
}

TEST_F(PeopleLabelsOfAStudy, NoNameOfAPersonIsKept) {
    const PeopleLabels labels = read({corrected(seg, "seg.dcm", [](DcmDataset& d) {
        by_hand(d);
        d.putAndInsertString(DCM_ContentCreatorName, "Doe^Jane");
    })});
    ASSERT_EQ(labels.origins.size(), 1U);
    const LabelOrigin& o = labels.origins[0];
    EXPECT_EQ((o.software + o.author + o.made_at + o.kind).find("Doe"), std::string::npos);
}

}  // namespace
}  // namespace cardionode
