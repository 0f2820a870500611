// Writes SEGs for synthetic and real series and lets pydicom and the public validators read them back.
#include <algorithm>
#include <set>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "conf/base/files.h"
#include "pipeline/outputs/check.h"
#include "tests/pipeline/outputs/read_back.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/written_ct.h"

using namespace cardionode;
using namespace cardionode::test;

namespace {

std::vector<OutputFile> of_kind(const WrittenOutputs& outputs, const std::string& kind) {
    std::vector<OutputFile> out;
    for (const OutputFile& file : outputs.files) {
        if (file.kind == kind) out.push_back(file);
    }
    return out;
}

struct Case {
    std::string name;
    CtShape shape;
};

class SegOfShape : public testing::TestWithParam<Case> {};

TEST_P(SegOfShape, IsReadByPydicomVoxelForVoxel) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", GetParam().shape);
    const Findings findings = findings_for(ct);
    const auto outputs = write_outputs(ct, findings, request_for(folder / "work"));
    ASSERT_TRUE(outputs) << outputs.error().message;
    EXPECT_EQ(read_back(folder / "ct", findings, *outputs, folder / "work"), "");
    const auto checked = check_outputs(ct, outputs->files, folder / "work");
    EXPECT_TRUE(checked) << checked.error().message;
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, SegOfShape,
    testing::Values(Case{"Plain", {}}, Case{"Width23", {.columns = 23, .rows = 29, .slices = 15}},
                    Case{"Width129", {.columns = 129, .rows = 67, .slices = 12}}, Case{"Oblique", oblique({})},
                    Case{"FilesBackwards", {.columns = 31, .files_backwards = true}},
                    Case{"RotatedPatient", {.columns = 40, .rows = 23, .row = {0, -1, 0}, .column = {0, 0, -1}}},
                    Case{"SlicesDownwards", {.columns = 33, .row = {-1, 0, 0}, .column = {0, 1, 0}}},
                    Case{"JitteredSlices", {.columns = 17, .jitter_mm = {0, 0.2, -0.15}}}),
    [](const auto& info) { return info.param.name; });

}  // namespace

TEST(Seg, AGroupWithoutVoxelsIsNotWrittenAndTheResultSaysSo) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {});
    Findings findings = findings_for(ct);
    std::fill(findings.groups[1].labels.voxels.begin(), findings.groups[1].labels.voxels.end(), std::uint8_t{0});
    const auto outputs = write_outputs(ct, findings, request_for(folder / "work"));
    ASSERT_TRUE(outputs) << outputs.error().message;
    EXPECT_EQ(of_kind(*outputs, "SEG").size(), 1U);
    EXPECT_THAT(outputs->notes, testing::Contains("Aortic valve calcification: nothing found, no SEG written"));
    EXPECT_THAT(outputs->notes, testing::Contains("Heart chambers: not found: Left atrium"));
}

TEST(Seg, AGroupWithTooManyFramesIsSharedOutAndALongSegmentIsCut) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {.columns = 9, .rows = 7, .slices = 420});
    Findings findings = findings_for(ct);
    LabelMap& labels = findings.groups[0].labels;
    for (std::int64_t k = 0; k < 420; ++k) labels.at({{4, 3, k}}) = 2;  // the aorta runs through every slice
    measure_volumes(findings.groups[0]);
    const auto outputs = write_outputs(ct, findings, request_for(folder / "work"));
    ASSERT_TRUE(outputs) << outputs.error().message;
    EXPECT_GE(of_kind(*outputs, "SEG").size(), 3U);
    EXPECT_EQ(read_back(folder / "ct", findings, *outputs, folder / "work"), "");
    EXPECT_THAT(outputs->notes, testing::Contains(testing::HasSubstr("SEG objects")));
}

TEST(Seg, ARepeatedRunWritesTheSameBytesAndAnotherRevisionOtherUids) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {});
    const Findings findings = findings_for(ct);
    OutputRequest request = request_for(folder / "work");
    const auto first = write_outputs(ct, findings, request);
    ASSERT_TRUE(first) << first.error().message;
    std::vector<std::string> bytes;
    for (const OutputFile& file : first->files) bytes.push_back(read_file(folder / "work" / file.file).value());
    const auto second = write_outputs(ct, findings, request);
    ASSERT_TRUE(second) << second.error().message;
    ASSERT_EQ(first->files.size(), second->files.size());
    request.revision = 2;
    const auto revised = write_outputs(ct, findings, request);
    ASSERT_TRUE(revised) << revised.error().message;
    std::set<std::string> uids;
    for (std::size_t n = 0; n < bytes.size(); ++n) {
        EXPECT_EQ(first->files[n].sop_instance_uid, second->files[n].sop_instance_uid);
        EXPECT_TRUE(bytes[n] == read_file(folder / "work" / second->files[n].file).value()) << second->files[n].file;
        uids.insert(first->files[n].sop_instance_uid);
        uids.insert(revised->files[n].sop_instance_uid);
    }
    EXPECT_EQ(uids.size(), 2 * bytes.size());
}

TEST(Seg, ResampledSeriesRefersToTheNearestSourceSlices) {
    const TemporaryFolder folder;
    CtSeries ct = write_ct(folder / "ct", {.slices = 12});
    const Grid source = ct.volume.grid;
    const Grid ours =
        Grid::create(source.to_patient(ContinuousIndex{{0, 0, 0.4}}), source.axes(), {0.9, 0.9, 0.75}, {40, 30, 20})
            .value();
    ct.volume = Volume(ours, 0.0F);
    ct.resampled = true;
    const Findings findings = findings_for(ct);
    const auto outputs = write_outputs(ct, findings, request_for(folder / "work"));
    ASSERT_TRUE(outputs) << outputs.error().message;
    const auto checked = check_outputs(ct, outputs->files, folder / "work");
    EXPECT_TRUE(checked) << checked.error().message;
    DcmFileFormat format;
    ASSERT_TRUE(format.loadFile((folder / "work" / of_kind(*outputs, "SEG")[0].file).c_str()).good());
    DcmSequenceOfItems* frames = nullptr;
    ASSERT_TRUE(format.getDataset()->findAndGetSequence(DCM_PerFrameFunctionalGroupsSequence, frames).good());
    for (unsigned long n = 0; n < frames->card(); ++n) {
        DcmItem& frame = *frames->getItem(n);
        OFString preserved, uid;
        Float64 z = 0;
        DcmItem* item = nullptr;
        frame.findAndGetSequenceItem(DCM_PlanePositionSequence, item);
        item->findAndGetFloat64(DCM_ImagePositionPatient, z, 2);
        frame.findAndGetOFString(DCM_SpatialLocationsPreserved, preserved, 0, OFTrue);
        frame.findAndGetOFString(DCM_ReferencedSOPInstanceUID, uid, 0, OFTrue);
        EXPECT_EQ(preserved, "NO");
        const auto slice = std::find_if(ct.slices.begin(), ct.slices.end(),
                                        [&](const SourceSlice& s) { return s.sop_instance_uid == uid.c_str(); });
        ASSERT_NE(slice, ct.slices.end());
        EXPECT_LE(std::abs(slice->position_mm - z), 0.75 + 1e-6);  // half of the source's 1.5 mm
    }
}

TEST(Seg, FramesOfAnEnhancedCtAreReferredToByNumber) {
    const TemporaryFolder folder;
    const CtSeries single = write_ct(folder / "ct", oblique({.columns = 23, .slices = 12}));
    const CtSeries ct = as_enhanced_ct(single, folder / "enhanced.dcm");
    const auto outputs = write_outputs(ct, findings_for(ct), request_for(folder / "work"));
    ASSERT_TRUE(outputs) << outputs.error().message;
    const auto checked = check_outputs(ct, outputs->files, folder / "work");
    EXPECT_TRUE(checked) << checked.error().message;
    DcmFileFormat format;
    ASSERT_TRUE(format.loadFile((folder / "work" / of_kind(*outputs, "SEG")[0].file).c_str()).good());
    DcmItem *series = nullptr, *image = nullptr;
    DcmSequenceOfItems *listed = nullptr, *frames = nullptr;
    ASSERT_TRUE(format.getDataset()->findAndGetSequenceItem(DCM_ReferencedSeriesSequence, series).good());
    ASSERT_TRUE(series->findAndGetSequence(DCM_ReferencedInstanceSequence, listed).good());
    EXPECT_EQ(listed->card(), 1U);
    ASSERT_TRUE(format.getDataset()->findAndGetSequence(DCM_PerFrameFunctionalGroupsSequence, frames).good());
    std::set<Sint32> numbers;
    for (unsigned long n = 0; n < frames->card(); ++n) {
        Sint32 number = 0;
        ASSERT_TRUE(frames->getItem(n)->findAndGetSequenceItem(DCM_DerivationImageSequence, image).good());
        ASSERT_TRUE(image->findAndGetSint32(DCM_ReferencedFrameNumber, number, 0, OFTrue).good());
        numbers.insert(number);
    }
    EXPECT_GE(numbers.size(), 8U);
    EXPECT_GE(*numbers.begin(), 1);
    EXPECT_LE(*numbers.rbegin(), 12);
}

TEST(Seg, AttributesThatOthersStumbleOverAreMendedAndIdentityIsKept) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {.bad_attributes = true});
    const auto outputs = write_outputs(ct, findings_for(ct), request_for(folder / "work"));
    ASSERT_TRUE(outputs) << outputs.error().message;
    DcmFileFormat format;
    ASSERT_TRUE(format.loadFile((folder / "work" / of_kind(*outputs, "SEG")[0].file).c_str()).good());
    DcmDataset& d = *format.getDataset();
    const auto text = [&](const DcmTagKey& tag) {
        OFString value;
        d.findAndGetOFString(tag, value);
        return std::string(value.c_str());
    };
    EXPECT_EQ(text(DCM_PatientName), "Phantom^J\xF6rg");
    EXPECT_EQ(text(DCM_SpecificCharacterSet), "ISO_IR 100");
    EXPECT_EQ(text(DCM_PatientBirthDate), "19450101");
    EXPECT_TRUE(d.tagExists(DCM_PatientSex));
    EXPECT_EQ(text(DCM_PatientSex), "");
    EXPECT_TRUE(d.tagExists(DCM_ReferringPhysicianName));
    EXPECT_FALSE(d.tagExists(DCM_PatientAge));
    EXPECT_FALSE(d.tagExists(DCM_PatientWeight));
    EXPECT_FALSE(d.tagExists(DCM_ProcedureCodeSequence));
    EXPECT_FALSE(d.tagExists(DCM_DeidentificationMethodCodeSequence));
    EXPECT_FALSE(d.tagExists(DCM_PatientIdentityRemoved));
}

TEST(Seg, OurTextsFollowTheCharacterSetOfTheSource) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {});
    OutputRequest request = request_for(folder / "work");
    request.settings.institution = "Universit\xC3\xA4tsklinikum";
    const auto outputs = write_outputs(ct, findings_for(ct), request);
    ASSERT_TRUE(outputs) << outputs.error().message;
    DcmFileFormat format;
    ASSERT_TRUE(format.loadFile((folder / "work" / outputs->files[0].file).c_str()).good());
    OFString institution;
    format.getDataset()->findAndGetOFString(DCM_InstitutionName, institution);
    EXPECT_EQ(std::string(institution.c_str()), "Universit\xE4tsklinikum");
}

TEST(Seg, ContradictionsAreRefused) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {});
    const OutputRequest request = request_for(folder / "work");
    Findings unknown_label = findings_for(ct);
    unknown_label.groups[0].labels.voxels[7] = 99;
    EXPECT_EQ(write_outputs(ct, unknown_label, request).error().kind, ErrorKind::Bug);
    CtSeries moved = ct;
    std::swap(moved.slices[2], moved.slices[9]);
    EXPECT_EQ(write_outputs(moved, findings_for(ct), request).error().kind, ErrorKind::Bug);
    CtSeries no_frame = ct;
    no_frame.frame_of_reference_uid.clear();
    EXPECT_EQ(write_outputs(no_frame, findings_for(ct), request).error().kind, ErrorKind::Reject);
    OutputRequest escaping = request;
    escaping.study_key = "../elsewhere";
    EXPECT_EQ(write_outputs(ct, findings_for(ct), escaping).error().kind, ErrorKind::Bug);
    std::filesystem::remove(ct.slices[3].file);
    EXPECT_EQ(write_outputs(ct, findings_for(ct), request).error().kind, ErrorKind::Reject);
}
