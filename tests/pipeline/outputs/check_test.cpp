// The geometry check lets good outputs pass and finds each mistake that public validators overlook.
#include <functional>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/outputs/check.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/written_ct.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::HasSubstr;

namespace {

class Check : public testing::Test {
protected:
    void SetUp() override {
        ct_ = write_ct(folder_ / "ct", oblique({.columns = 23, .rows = 31, .slices = 14}));
        auto written = write_outputs(*ct_, findings_for(*ct_), request_for(work_));
        ASSERT_TRUE(written) << written.error().message;
        files_ = written->files;
    }

    /// What the check says; empty: all is well.
    std::string verdict() {
        const auto checked = check_outputs(*ct_, files_, work_);
        if (checked) return {};
        EXPECT_EQ(checked.error().kind, ErrorKind::Bug);
        EXPECT_THAT(checked.error().message, testing::Not(HasSubstr("2.25.")));
        return checked.error().message;
    }

    /// Changes the written file whose name ends in `name`.
    void change(const std::string& name, const std::function<void(DcmDataset&)>& mutate) {
        for (const OutputFile& file : files_) {
            if (!file.file.ends_with(name)) continue;
            DcmFileFormat format;
            ASSERT_TRUE(format.loadFile((work_ / file.file).c_str()).good());
            format.loadAllDataIntoMemory();
            mutate(*format.getDataset());
            ASSERT_TRUE(format.saveFile((work_ / file.file).c_str(), EXS_LittleEndianExplicit).good());
            return;
        }
        FAIL() << "no file " << name;
    }

    /// The first element of that tag at any depth.
    static DcmElement& find(DcmItem& item, const DcmTagKey& tag) {
        DcmStack stack;
        if (item.search(tag, stack, ESM_fromHere, OFTrue).bad()) throw std::runtime_error("no such element");
        return *static_cast<DcmElement*>(stack.top());
    }

    TemporaryFolder folder_;
    std::filesystem::path work_ = folder_ / "work";
    std::optional<CtSeries> ct_;
    std::vector<OutputFile> files_;
};

}  // namespace

TEST_F(Check, AcceptsWhatWasWritten) { EXPECT_EQ(verdict(), ""); }

TEST_F(Check, FindsAPlaneThatIsShifted) {
    change("seg_heart.dcm", [](DcmDataset& d) {
        auto& position = find(d, DCM_ImagePositionPatient);
        Float64 z = 0;
        position.getFloat64(z, 2);
        OFString x, y;
        position.getOFString(x, 0);
        position.getOFString(y, 1);
        position.putOFStringArray(x + "\\" + y + "\\" + std::to_string(z + 0.5).c_str());
    });
    EXPECT_THAT(verdict(), HasSubstr("0.500 mm off its source plane"));
}

TEST_F(Check, FindsAnotherFrameOfReferenceOfASeg) {
    change("seg_heart.dcm", [](DcmDataset& d) { d.putAndInsertString(DCM_FrameOfReferenceUID, "2.25.7"); });
    EXPECT_THAT(verdict(), HasSubstr("frame of reference"));
}

TEST_F(Check, FindsAnotherFrameOfReferenceOfAPoint) {
    change("sr_landmarks.dcm", [](DcmDataset& d) { find(d, DCM_ReferencedFrameOfReferenceUID).putString("2.25.7"); });
    EXPECT_THAT(verdict(), HasSubstr("frame of reference"));
}

TEST_F(Check, FindsAPointOutsideTheVolume) {
    change("sr_landmarks.dcm", [](DcmDataset& d) {
        const Float32 far[3] = {900, 900, 900};
        find(d, DCM_GraphicData).putFloat32Array(far, 3);
    });
    EXPECT_THAT(verdict(), HasSubstr("outside the volume"));
}

TEST_F(Check, FindsASourceImageMissingFromTheEvidence) {
    change("sr_landmarks.dcm", [](DcmDataset& d) {
        auto& sequence = static_cast<DcmSequenceOfItems&>(find(d, DCM_ReferencedSOPSequence));
        delete sequence.remove(static_cast<unsigned long>(3));
    });
    EXPECT_THAT(verdict(), HasSubstr("missing from the evidence"));
}

TEST_F(Check, FindsAReferenceToASegThatIsNotSent) {
    std::erase_if(files_, [](const OutputFile& file) { return file.file.ends_with("seg_heart.dcm"); });
    EXPECT_THAT(verdict(), HasSubstr("does not exist"));
}

TEST_F(Check, FindsAReferenceToASegmentThatDoesNotExist) {
    change("sr_volumes.dcm", [](DcmDataset& d) { find(d, DCM_ReferencedSegmentNumber).putUint16(9); });
    EXPECT_THAT(verdict(), HasSubstr("segment that does not exist"));
}

TEST_F(Check, FindsASourceImageThatDoesNotExist) {
    change("seg_heart.dcm", [](DcmDataset& d) {
        find(*static_cast<DcmSequenceOfItems&>(find(d, DCM_DerivationImageSequence)).getItem(0),
             DCM_ReferencedSOPInstanceUID)
            .putString("2.25.7");
    });
    EXPECT_THAT(verdict(), HasSubstr("source image that does not exist"));
}

TEST_F(Check, FindsAFrameWithoutAVoxel) {
    change("seg_valve_calcium.dcm", [](DcmDataset& d) {
        std::vector<Uint8> empty(2 * ((23 * 31 + 15) / 16), 0);
        d.putAndInsertUint8Array(DCM_PixelData, empty.data(), empty.size());
    });
    EXPECT_THAT(verdict(), HasSubstr("without a voxel"));
}

TEST_F(Check, FindsPixelDataOfAWrongLength) {
    change("seg_heart.dcm", [](DcmDataset& d) {
        const Uint8 two[2] = {1, 1};
        d.putAndInsertUint8Array(DCM_PixelData, two, 2);
    });
    EXPECT_THAT(verdict(), HasSubstr("wrong length"));
}

TEST_F(Check, FindsAFileThatIsNotWhatTheOutboxWillSend) {
    files_[0].sop_instance_uid = "2.25.77";
    EXPECT_THAT(verdict(), HasSubstr("another instance than announced"));
}

TEST_F(Check, FindsAFileThatIsGone) {
    std::filesystem::remove(work_ / files_[1].file);
    EXPECT_THAT(verdict(), HasSubstr("cannot be read back"));
}
