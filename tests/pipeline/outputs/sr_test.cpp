// What stands in the two structured reports, read back as trees by DCMTK's own SR classes.
#include <sstream>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>
#include <dcmtk/dcmsr/dsrdoc.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"
#include "tests/support/written_ct.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::HasSubstr;
using testing::Not;

namespace {

/// The document as text, with the codes of concept names. Empty: it is no valid document.
std::string tree_of(const std::filesystem::path& file) {
    DcmFileFormat format;
    DSRDocument document;
    std::ostringstream text;
    if (format.loadFile(file.c_str()).bad() || document.read(*format.getDataset()).bad() ||
        document.print(text, DSRTypes::PF_printConceptNameCodes | DSRTypes::PF_printTemplateIdentification).bad()) {
        return {};
    }
    return text.str();
}

struct Reports {
    TemporaryFolder folder;
    WrittenOutputs outputs;
    std::string landmarks, volumes;

    void write(const CtSeries& ct, const Findings& findings) {
        auto written = write_outputs(ct, findings, request_for(folder / "work"));
        ASSERT_TRUE(written) << written.error().message;
        outputs = *written;
        landmarks = tree_of(folder / "work" / "T3ST" / "r1" / "sr_landmarks.dcm");
        volumes = tree_of(folder / "work" / "T3ST" / "r1" / "sr_volumes.dcm");
        ASSERT_NE(landmarks, "");
    }
};

/// The part of a tree from one measurement group's tracking identifier to the next group.
std::string group_named(const std::string& tree, const std::string& identifier) {
    const std::size_t begin = tree.find("\"Tracking Identifier\")=\"" + identifier + "\"");
    return begin == std::string::npos ? std::string{} : tree.substr(begin, tree.find("CONTAINER:", begin) - begin);
}

std::size_t count(const std::string& text, const std::string& what) {
    std::size_t n = 0;
    for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
    return n;
}

}  // namespace

TEST(LandmarkSr, EveryGroupHasOnePointAndItsMeasurements) {
    Reports r;
    const CtSeries ct = write_ct(r.folder / "ct", {});
    r.write(ct, findings_for(ct));
    EXPECT_EQ(count(r.landmarks, "(125007,DCM,\"Measurement Group\")"), 6U);
    EXPECT_EQ(count(r.landmarks, "(111030,DCM,\"Image Region\")"), 6U);
    const std::string hinge = group_named(r.landmarks, "Right coronary cusp nadir");
    EXPECT_THAT(hinge, HasSubstr("(hinge-rcc,99CARDIONODE"));
    EXPECT_THAT(hinge, HasSubstr("(77583004,SCT"));
    EXPECT_THAT(hinge, HasSubstr("(42798000,SCT,\"Area\")=\"492.25\" (mm2,UCUM"));
    EXPECT_THAT(hinge, HasSubstr("(131143,DCM,\"Aortic Valve Annulus Maximum Diameter\")=\"27.5\""));
    EXPECT_THAT(hinge, HasSubstr("\"Peak probability of the network\")=\"87\" (%,UCUM"));
    EXPECT_THAT(group_named(r.landmarks, "Left main ostium"),
                HasSubstr("(131166,DCM,\"Left Main Ostium Height\")=\"13.125\""));
}

TEST(LandmarkSr, EveryNumberNamesThePointsItIsInferredFrom) {
    Reports r;
    const CtSeries ct = write_ct(r.folder / "ct", {});
    r.write(ct, findings_for(ct));
    // one for each peak probability, three each for area and diameter, four for the height of an ostium
    EXPECT_EQ(count(r.landmarks, "<inferred from SCOORD3D:(121112,DCM,\"Source of Measurement\")"), 6U + 3 + 3 + 4);
}

TEST(LandmarkSr, SaysTheUncertaintyOfItsNumbers) {
    Reports r;
    const CtSeries ct = write_ct(r.folder / "ct", {});
    r.write(ct, findings_for(ct));
    EXPECT_THAT(r.landmarks, HasSubstr("Uncertainty, one standard deviation: Annulus area 25.5 mm2\""));
    EXPECT_THAT(r.volumes, HasSubstr("Uncertainty, one standard deviation: Aortic valve calcium volume 18.2 mm3\""));
}

TEST(LandmarkSr, SaysWhatWasNotFoundAndWhy) {
    Reports r;
    const CtSeries ct = write_ct(r.folder / "ct", {});
    r.write(ct, findings_for(ct));
    EXPECT_THAT(r.landmarks, HasSubstr("Membranous septum, lower point: not found (peak probability 0.12): peak "
                                       "probability 0.12 is below 0.30"));
    EXPECT_THAT(r.landmarks, HasSubstr("Membranous septum length: not measured: the lower point was not found"));
    EXPECT_THAT(r.landmarks, HasSubstr("Research use only"));
    EXPECT_EQ(group_named(r.landmarks, "Membranous septum, lower point"), "");
}

TEST(LandmarkSr, IsWrittenAlsoWhenNothingAtAllWasFound) {
    Reports r;
    const CtSeries ct = write_ct(r.folder / "ct", {});
    Findings findings = findings_for(ct);
    for (Landmark& landmark : findings.landmarks) landmark.position.reset();
    for (Measurement& measurement : findings.measurements) measurement.value.reset();
    for (SegmentGroup& group : findings.groups) {
        std::fill(group.labels.voxels.begin(), group.labels.voxels.end(), std::uint8_t{0});
    }
    findings.annular_plane.reset();
    r.write(ct, findings);
    EXPECT_EQ(count(r.landmarks, ": not found (peak"), 7U);
    EXPECT_EQ(count(r.landmarks, ": not found\""), 5U);  // segments
    EXPECT_EQ(count(r.landmarks, "not measured"), 5U);
    EXPECT_THAT(r.landmarks, Not(HasSubstr("Imaging Measurements")));
    EXPECT_EQ(r.volumes, "");
    EXPECT_THAT(r.outputs.notes, testing::Contains("no structure was found: no SEG and no volume SR written"));
}

TEST(LandmarkSr, RefusesAPointOutsideTheVolume) {
    const TemporaryFolder folder;
    const CtSeries ct = write_ct(folder / "ct", {});
    Findings findings = findings_for(ct);
    findings.landmarks[0].position->lps_mm[2] += 500;
    const auto outputs = write_outputs(ct, findings, request_for(folder / "work"));
    ASSERT_FALSE(outputs);
    EXPECT_EQ(outputs.error().kind, ErrorKind::Bug);
}

TEST(LandmarkSr, DeclaresThePrivateCodingScheme) {
    Reports r;
    const CtSeries ct = write_ct(r.folder / "ct", {});
    r.write(ct, findings_for(ct));
    DcmFileFormat format;
    ASSERT_TRUE(format.loadFile((r.folder / "work" / "T3ST" / "r1" / "sr_landmarks.dcm").c_str()).good());
    DcmItem* scheme = nullptr;
    ASSERT_TRUE(format.getDataset()->findAndGetSequenceItem(DCM_CodingSchemeIdentificationSequence, scheme).good());
    OFString designator;
    scheme->findAndGetOFString(DCM_CodingSchemeDesignator, designator);
    EXPECT_EQ(designator, "99CARDIONODE");
}

TEST(VolumeSr, HasAGroupForEverySegmentAndNoPoint) {
    Reports r;
    const CtSeries ct = write_ct(r.folder / "ct", {});
    r.write(ct, findings_for(ct));
    EXPECT_EQ(count(r.volumes, "(121191,DCM,\"Referenced Segment\")"), 4U);
    EXPECT_EQ(count(r.volumes, "SCOORD3D:"), 0U);
    EXPECT_THAT(group_named(r.volumes, "Aortic valve calcification"),
                HasSubstr("\"Aortic valve calcium volume\")=\"120\" (mm3,UCUM"));
    EXPECT_THAT(r.volumes, HasSubstr("Left atrium: not found"));
}
