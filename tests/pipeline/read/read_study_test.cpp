#include "pipeline/read/read_study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "pipeline/read/instance.h"
#include "tests/support/instance.h"
#include "tests/support/synthetic_ct.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

using test::small_series;
using test::stack;
using test::SyntheticSlice;
using test::TemporaryFolder;
using test::worst_difference;
using test::write_slices;
using testing::HasSubstr;
using testing::Not;

// Linear in the patient's axes and whole numbers at every voxel used below: reading must reproduce it exactly.
double ramp(const Vec3& p) { return std::round(10 * p[0] + 100 * p[1] + 200 * p[2]) / 10; }
SyntheticSlice tenth() {  // stored values are tenths of HU
    SyntheticSlice s;
    s.slope = 0.1;
    s.intercept = 0;
    return s;
}
constexpr double kFloat = 1e-3;  // what a float keeps of such values

std::string reason(const std::vector<StudyFile>& files, const SeriesSettings& settings = small_series()) {
    const auto read = read_study(files, settings);
    if (read.ok()) return "READ: " + read->why_chosen;
    EXPECT_EQ(read.error().kind, ErrorKind::Reject) << read.error().message;
    return read.error().message;
}

TEST(ReadStudy, PutsEveryVoxelWhereItBelongs) {
    const TemporaryFolder folder;
    SyntheticSlice first = tenth();
    first.position = {-20, 13, 100};
    const auto files = write_slices(folder.path(), stack(7, 1.25, first), ramp);
    const auto read = read_study(files, small_series());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->volume.grid.size(), (std::array<std::int64_t, 3>{8, 6, 7}));
    EXPECT_EQ(read->volume.grid.spacing(), (Vec3{2, 1.5, 1.25}));
    EXPECT_LT(worst_difference(read->volume, ramp), kFloat);
    EXPECT_FALSE(read->resampled);
    EXPECT_EQ(read->series_instance_uid, "1.2.3.200");
    ASSERT_EQ(read->slices.size(), 7U);
    EXPECT_DOUBLE_EQ(read->slices[0].position_mm, 100);
    EXPECT_DOUBLE_EQ(read->slices[6].position_mm, 107.5);
    EXPECT_TRUE(read->contrast_named);
}

TEST(ReadStudy, SortsByPositionWhateverTheInstanceNumbersSay) {
    const TemporaryFolder folder;
    auto slices = stack(9, 1, tenth());
    for (auto& s : slices) s.instance_number = (s.instance_number * 5) % 9;
    const auto read = read_study(write_slices(folder.path(), slices, ramp), small_series());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_LT(worst_difference(read->volume, ramp), kFloat);
}

TEST(ReadStudy, ReadsSagittalCoronalObliqueAndFlippedPlanes) {
    const double c = std::cos(0.4);
    const double s = std::sin(0.4);
    const std::vector<std::pair<Vec3, Vec3>> orientations = {{{0, 1, 0}, {0, 0, -1}}, {{1, 0, 0}, {0, 0, -1}},
                                                             {{-1, 0, 0}, {0, 1, 0}}, {{c, s, 0}, {-s, c, 0}},
                                                             {{1, 0, 0}, {0, c, -s}}, {{c, 0, s}, {0, -1, 0}}};
    const auto smooth = [](const Vec3& p) { return 3 * p[0] + 5 * p[1] - 2 * p[2]; };
    for (const auto& [row, column] : orientations) {
        const TemporaryFolder folder;
        SyntheticSlice first = tenth();
        first.row = row;
        first.column = column;
        first.position = {5, -7, 11};
        const auto read = read_study(write_slices(folder.path(), stack(5, 1, first), smooth), small_series());
        ASSERT_TRUE(read.ok()) << read.error().message;
        EXPECT_FALSE(read->resampled);
        EXPECT_LT(worst_difference(read->volume, smooth), 0.051);  // half a stored step
        const auto& axes = read->volume.grid.axes();
        EXPECT_NEAR(dot(cross(axes[0], axes[1]), axes[2]), 1, 1e-9);
    }
}

TEST(ReadStudy, UsesEachSlicesOwnSlopeAndIntercept) {
    const TemporaryFolder folder;
    auto slices = stack(6, 1, tenth());
    for (std::size_t k = 0; k < slices.size(); ++k) {
        slices[k].slope = k % 2 == 0 ? 0.1 : 0.05;
        slices[k].intercept = -100.0 * static_cast<double>(k);
    }
    const auto read = read_study(write_slices(folder.path(), slices, ramp), small_series());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_LT(worst_difference(read->volume, ramp), kFloat);
}

TEST(ReadStudy, ReadsUnsignedTwelveBitValues) {
    const TemporaryFolder folder;
    SyntheticSlice first;
    first.bits_stored = 12;
    first.is_signed = false;
    const auto field = [](const Vec3& p) { return std::round(40 * p[0] + 30 * p[1] + 20 * p[2]) - 500; };
    const auto read = read_study(write_slices(folder.path(), stack(5, 1, first), field), small_series());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_LT(worst_difference(read->volume, field), 0.51);
}

TEST(ReadStudy, TurnsPaddingIntoAir) {
    for (const bool is_signed : {true, false}) {
        const TemporaryFolder folder;
        SyntheticSlice first;
        first.is_signed = is_signed;
        first.padding = is_signed ? -2000 : 63536;
        first.is_padding = [](int column, int row) { return column == 0 && row < 2; };
        const auto flat = [](const Vec3&) { return 40.0; };
        const auto read = read_study(write_slices(folder.path(), stack(5, 1, first), flat), small_series());
        ASSERT_TRUE(read.ok()) << read.error().message;
        EXPECT_EQ(read->volume.at({{0, 1, 3}}), -1024.0F);
        EXPECT_EQ(read->volume.at({{0, 2, 3}}), 40.0F);
        EXPECT_EQ(read->volume.at({{1, 0, 3}}), 40.0F);
    }
}

TEST(ReadStudy, ReadsEveryUncompressedEncoding) {
    for (const char* syntax :
         {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"}) {
        const TemporaryFolder folder;
        SyntheticSlice first = tenth();
        first.transfer_syntax = syntax;
        const auto read = read_study(write_slices(folder.path(), stack(5, 1, first), ramp), small_series());
        ASSERT_TRUE(read.ok()) << syntax << ": " << read.error().message;
        EXPECT_LT(worst_difference(read->volume, ramp), kFloat) << syntax;
    }
}

TEST(ReadStudy, NamesATransferSyntaxWithoutADecoderAndSaysWhatToDo) {
    const TemporaryFolder folder;
    const auto files = write_slices(folder.path(), stack(5, 1, tenth()), ramp);
    for (const StudyFile& file : files) {
        test::Instance instance = test::read_instance(file.file);
        instance.transfer_syntax_uid = "1.2.840.10008.1.2.4.201";
        test::write_instance(instance, file.file);
    }
    EXPECT_THAT(reason(files), HasSubstr("transfer syntax 1.2.840.10008.1.2.4.201 (High-Throughput JPEG 2000)"));
    EXPECT_THAT(reason(files), HasSubstr("send them uncompressed, or as JPEG, JPEG-LS, JPEG 2000 or RLE"));
}

TEST(ReadStudy, NamesTheMissingSliceAndItsPlace) {
    const TemporaryFolder folder;
    SyntheticSlice first = tenth();
    first.position = {0, 0, 140};
    auto slices = stack(12, 2.5, first);
    slices.erase(slices.begin() + 5, slices.begin() + 7);  // 152.5 and 155
    const auto files = write_slices(folder.path(), slices, ramp);
    EXPECT_THAT(reason(files), HasSubstr("slice missing at 152.5 mm: a gap of 7.5 mm where slices are 2.5 mm apart"));
    auto lenient = small_series();
    lenient.uneven_spacing = "resample";  // a hole above max_gap_mm is refused all the same
    EXPECT_THAT(reason(files, lenient), HasSubstr("slice missing at 152.5 mm"));
}

TEST(ReadStudy, FillsASmallHoleOnlyWhenItMay) {
    const TemporaryFolder folder;
    auto slices = stack(12, 1, tenth());
    slices.erase(slices.begin() + 5);
    const auto files = write_slices(folder.path(), slices, ramp);
    EXPECT_THAT(reason(files), HasSubstr("slice missing at 5.0 mm: a gap of 2.0 mm"));
    auto lenient = small_series();
    lenient.uneven_spacing = "resample";
    const auto read = read_study(files, lenient);
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_TRUE(read->resampled);
    EXPECT_EQ(read->slices.size(), 11U);
    EXPECT_EQ(read->volume.grid.size()[2], 12);
    EXPECT_LT(worst_difference(read->volume, ramp), kFloat);  // linear interpolation of a linear field
    EXPECT_THAT(read->warnings, testing::Contains(HasSubstr("slice missing at 5.0 mm")));
}

TEST(ReadStudy, RefusesOrResamplesUnevenSpacingBySetting) {
    const TemporaryFolder folder;
    auto slices = stack(10, 1, tenth());
    for (std::size_t k = 0; k < slices.size(); ++k) slices[k].position[2] += k % 3 == 1 ? 0.4 : 0;
    const auto files = write_slices(folder.path(), slices, ramp);
    EXPECT_THAT(reason(files), HasSubstr("slices are unevenly spaced: 0.60 to 1.40 mm apart"));
    auto lenient = small_series();
    lenient.uneven_spacing = "resample";
    const auto read = read_study(files, lenient);
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_TRUE(read->resampled);
    EXPECT_LT(worst_difference(read->volume, ramp), kFloat);
}

// Tilted gantry: planes are rotated about x, the table moves along z, so planes slide along their columns.
std::vector<SyntheticSlice> tilted_stack(double degrees, int count) {
    const double a = degrees * M_PI / 180;
    SyntheticSlice first = tenth();
    first.columns = 24;
    first.rows = 40;
    first.spacing = {2, 2};
    first.column = {0, std::cos(a), -std::sin(a)};
    first.tilt = degrees;
    std::vector<SyntheticSlice> slices;
    for (int k = 0; k < count; ++k) {
        SyntheticSlice s = first;
        s.position = {-24, -40, 2.0 * k};
        slices.push_back(s);
    }
    return slices;
}

TEST(ReadStudy, RefusesATiltedGantryBySetting) {
    const TemporaryFolder folder;
    auto strict = small_series();
    strict.gantry_tilt = "refuse";
    EXPECT_THAT(reason(write_slices(folder.path(), tilted_stack(18.5, 20), ramp), strict),
                HasSubstr("the gantry is tilted by 18.5 degrees"));
}

TEST(ReadStudy, UndoesTheShearOfATiltedGantry) {
    // A ball and a slow wave: both would be displaced by many voxels if the shear were ignored.
    const auto phantom = [](const Vec3& p) {
        const double r = norm(subtract(p, {-2, 0, 20}));
        return 300 * std::exp(-r * r / 200) + 50 * std::sin(p[1] / 12) * std::cos(p[0] / 15);
    };
    for (const double degrees : {18.5, -12.0}) {
        const TemporaryFolder folder;
        const auto read = read_study(write_slices(folder.path(), tilted_stack(degrees, 20), phantom), small_series());
        ASSERT_TRUE(read.ok()) << read.error().message;
        EXPECT_TRUE(read->resampled);
        EXPECT_EQ(read->slices.size(), 20U);
        const auto& g = read->volume.grid;
        EXPECT_GT(g.size()[1], 40);
        std::int64_t inside = 0;
        double worst = 0;
        double brightest = -1e9;
        Vec3 place{};
        for (std::int64_t k = 0; k < g.size()[2]; ++k) {
            for (std::int64_t j = 0; j < g.size()[1]; ++j) {
                for (std::int64_t i = 0; i < g.size()[0]; ++i) {
                    const VoxelIndex at{{i, j, k}};
                    const float hu = read->volume.at(at);
                    if (hu <= -1000) continue;  // no plane reaches here
                    ++inside;
                    const Vec3 p = g.to_patient(at).lps_mm;
                    worst = std::max(worst, std::abs(hu - phantom(p)));
                    if (hu > brightest) {
                        brightest = hu;
                        place = p;
                    }
                }
            }
        }
        EXPECT_GT(inside, 24 * 38 * 20);  // next to nothing of the source is lost
        // Linear interpolation errs by at most h^2/8 * |f''| = 0.5 * (3 + 0.5) HU a direction, plus half a stored step.
        EXPECT_LT(worst, 3);
        EXPECT_LT(norm(subtract(place, {-2, 0, 20})), 2.5);
    }
}

TEST(ReadStudy, SplitsCardiacPhasesAndTakesTheWantedOne) {
    const TemporaryFolder folder;
    std::vector<SyntheticSlice> slices;
    for (const double percent : {5.0, 35.0, 75.0}) {
        SyntheticSlice first = tenth();
        first.phase_percent = percent;
        first.intercept = percent;  // the phases differ by a constant
        for (const auto& s : stack(6, 1, first)) slices.push_back(s);
    }
    // write_slices would undo the intercept; a field of each phase is wanted.
    std::vector<StudyFile> files;
    for (auto& s : slices) {
        const double percent = *s.phase_percent;
        const auto one = write_slices(folder.path(), {s}, [percent](const Vec3& p) { return ramp(p) + percent; });
        files.push_back(one.front());
    }
    auto settings = small_series();
    auto read = read_study(files, settings);
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->phase_percent, 35.0);
    EXPECT_LT(worst_difference(read->volume, [](const Vec3& p) { return ramp(p) + 35; }), kFloat);
    EXPECT_THAT(read->why_chosen, HasSubstr("phase 35 %"));
    ASSERT_EQ(read->not_chosen.size(), 2U);
    EXPECT_THAT(read->not_chosen[0], HasSubstr("phase 5 %; phase 35 % is closer to the wanted 35 %"));
    settings.prefer_phase_percent = 70;
    read = read_study(files, settings);
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->phase_percent, 75.0);
}

TEST(ReadStudy, SplitsPhasesByTriggerTimesThatJitter) {
    const TemporaryFolder folder;
    std::vector<StudyFile> files;
    for (int phase = 0; phase < 2; ++phase) {
        auto slices = stack(8, 1, tenth());
        for (std::size_t k = 0; k < slices.size(); ++k) {
            slices[k].trigger_ms = 300 + 400 * phase + 7.0 * static_cast<double>(k % 3) + static_cast<double>(k);
        }
        for (const auto& f :
             write_slices(folder.path(), slices, [phase](const Vec3& p) { return ramp(p) + 1000 * phase; })) {
            files.push_back(f);
        }
    }
    const auto read = read_study(files, small_series());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_LT(worst_difference(read->volume, ramp), kFloat);
    EXPECT_THAT(read->why_chosen, HasSubstr("phase 1 of 2 by trigger time"));
}

TEST(ReadStudy, ReadsThePhaseOutOfADescription) {
    EXPECT_EQ(percent_in("CorCTA 0.75 Bv40 BestSyst 35 %"), 35);
    EXPECT_EQ(percent_in("Recon 70.5%"), 70.5);
    EXPECT_EQ(percent_in("0.6mm ASiR-V 50%"), std::nullopt);
    EXPECT_EQ(percent_in("ASIR 50% phase 40%"), 40);
    EXPECT_EQ(percent_in("%"), std::nullopt);
    EXPECT_EQ(percent_in("350%"), std::nullopt);
    const TemporaryFolder folder;
    SyntheticSlice first = tenth();
    first.description = "CTA Heart 40%";
    const auto read = read_study(write_slices(folder.path(), stack(6, 1, first), ramp), small_series());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->phase_percent, 40);
}

TEST(ReadStudy, WarnsOfATiltThatThePositionsDoNotShow) {
    const TemporaryFolder folder;
    SyntheticSlice first = tenth();
    first.tilt = 12;
    const auto read = read_study(write_slices(folder.path(), stack(6, 1, first), ramp), small_series());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_THAT(read->warnings,
                testing::Contains(HasSubstr("a gantry tilt of 12.0 degrees that the slices' positions do not show")));
}

TEST(ReadStudy, TellsAcquisitionsApartByTimeWithoutNamingTheTime) {
    const TemporaryFolder folder;
    auto slices = stack(6, 1, tenth());
    for (auto s : stack(6, 1, tenth())) {
        s.acquisition_time = "101500";
        slices.push_back(s);
    }
    for (std::size_t k = 0; k < 6; ++k) slices[k].acquisition_time = "101400";
    const auto read = read_study(write_slices(folder.path(), slices, ramp), small_series());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_THAT(read->why_chosen, HasSubstr("acquisition 1 of 2 by time"));
    EXPECT_THAT(read->why_chosen, Not(HasSubstr("1014")));
}

TEST(ReadStudy, RefusesPositionsHeldTwiceThatNothingTellsApart) {
    const TemporaryFolder folder;
    auto slices = stack(6, 1, tenth());
    const auto again = stack(6, 1, tenth());
    slices.insert(slices.end(), again.begin(), again.end());
    EXPECT_THAT(reason(write_slices(folder.path(), slices, ramp)),
                HasSubstr("6 positions hold more than one slice, and nothing in the images tells them apart"));
}

TEST(ReadStudy, RefusesThickSlicesInPlainWords) {
    const TemporaryFolder folder;
    SyntheticSlice first = tenth();
    first.thickness = 8;
    EXPECT_THAT(reason(write_slices(folder.path(), stack(10, 4, first), ramp)),
                HasSubstr("series 4: slices are 8.0 mm thick; at most 3.0 mm are useful for these measurements"));
}

TEST(ReadStudy, TakesTheDistanceForTheThicknessThatIsNotGiven) {
    const TemporaryFolder folder;
    SyntheticSlice first = tenth();
    first.thickness = 0;
    EXPECT_THAT(reason(write_slices(folder.path(), stack(10, 4, first), ramp)),
                HasSubstr("slices are 4.0 mm apart; at most 3.0 mm"));
}

TEST(ReadStudy, RefusesTooFewTooShortTooNarrow) {
    const TemporaryFolder folder;
    const auto files = write_slices(folder.path(), stack(10, 1, tenth()), ramp);
    SeriesSettings strict;  // the defaults
    const std::string why = reason(files, strict);
    EXPECT_THAT(why, HasSubstr("only 10 slices; at least 40 are needed"));
    EXPECT_THAT(why, HasSubstr("it covers 10 mm; a heart needs 80 mm"));
    EXPECT_THAT(why, HasSubstr("the field of view is 9 mm; a heart needs 120 mm"));
    EXPECT_THAT(reason(write_slices(folder.path(), stack(1, 1, tenth()), ramp), strict), HasSubstr("only 1 slice;"));
}

TEST(ReadStudy, PrefersTheSofterOfTwoKernels) {
    const TemporaryFolder folder;
    SyntheticSlice sharp = tenth();
    sharp.series_uid = "1.2.3.201";
    sharp.series_number = 3;
    sharp.kernel = "B70f";
    SyntheticSlice soft = tenth();
    soft.series_number = 5;
    auto files = write_slices(folder.path(), stack(6, 1, sharp), ramp);
    for (const auto& f : write_slices(folder.path(), stack(6, 1, soft), ramp)) files.push_back(f);
    const auto read = read_study(files, small_series());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->series_instance_uid, "1.2.3.200");
    EXPECT_THAT(read->why_chosen,
                HasSubstr("series 5, 1.00 mm, contrast agent, 6 slices: best of 2 CT volumes, 2 of them usable"));
    EXPECT_THAT(read->not_chosen, testing::ElementsAre(HasSubstr("series 3: sharp kernel B70f")));
}

TEST(ReadStudy, PrefersContrastThenThinSlices) {
    const TemporaryFolder folder;
    SyntheticSlice native = tenth();
    native.series_uid = "1.2.3.201";
    native.series_number = 2;
    native.agent = "";
    native.thickness = 0.6;
    SyntheticSlice thick = tenth();
    thick.series_uid = "1.2.3.202";
    thick.series_number = 6;
    thick.thickness = 3;
    auto files = write_slices(folder.path(), stack(12, 0.6, native), ramp);
    for (const auto& f : write_slices(folder.path(), stack(6, 1, thick), ramp)) files.push_back(f);
    for (const auto& f : write_slices(folder.path(), stack(6, 1, tenth()), ramp)) files.push_back(f);
    auto settings = small_series();
    auto read = read_study(files, settings);
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->series_instance_uid, "1.2.3.200");
    EXPECT_THAT(read->not_chosen,
                testing::UnorderedElementsAre(HasSubstr("series 2: no contrast agent named"),
                                              HasSubstr("series 6: thicker slices (3.00 mm against 1.00 mm)")));
    settings.prefer_contrast = false;
    read = read_study(files, settings);
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->series_instance_uid, "1.2.3.201");
    EXPECT_THAT(read->warnings, testing::Contains(HasSubstr("no contrast agent is named")));
}

TEST(ReadStudy, LeavesLocalizersAndExcludedDescriptionsOut) {
    const TemporaryFolder folder;
    SyntheticSlice scout = tenth();
    scout.image_type = "ORIGINAL\\PRIMARY\\LOCALIZER";
    scout.series_uid = "1.2.3.201";
    scout.series_number = 1;
    SyntheticSlice bolus = tenth();
    bolus.series_uid = "1.2.3.202";
    bolus.series_number = 3;
    bolus.description = "Bolus Tracking";
    SyntheticSlice inside = scout;  // a scout in the series that is read
    inside.series_uid = "1.2.3.200";
    auto files = write_slices(folder.path(), stack(2, 1, scout), ramp);
    for (const auto& f : write_slices(folder.path(), stack(6, 1, bolus), ramp)) files.push_back(f);
    for (const auto& f : write_slices(folder.path(), {inside}, ramp)) files.push_back(f);
    for (const auto& f : write_slices(folder.path(), stack(6, 1, tenth()), ramp)) files.push_back(f);
    files.push_back({folder / "dose.dcm", "1.2.840.10008.5.1.4.1.1.88.67", "SR"});  // not even opened
    const auto read = read_study(files, small_series());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->volume.grid.size()[2], 6);
    EXPECT_THAT(read->not_chosen,
                testing::UnorderedElementsAre(HasSubstr("series 1: it holds only localizers"),
                                              HasSubstr("series 3 (Bolus Tracking): its description says \"bolus\"")));
}

TEST(ReadStudy, SaysWhatAStudyWithoutCtHolds) {
    const std::vector<StudyFile> files = {{"a", "1.2.840.10008.5.1.4.1.1.66.4", "SEG"},
                                          {"b", "1.2.840.10008.5.1.4.1.1.88.33", "SR"}};
    EXPECT_EQ(reason(files), "the study holds no CT images (1 SEG, 1 SR)");
    EXPECT_EQ(reason({}), "the study holds no CT images");
}

TEST(ReadStudy, RefusesImagesWithoutIdentity) {
    for (auto erase : {+[](SyntheticSlice& s) { s.series_uid = ""; }, +[](SyntheticSlice& s) { s.study_uid = ""; },
                       +[](SyntheticSlice& s) { s.study_uid = "../../etc"; }}) {
        const TemporaryFolder folder;
        SyntheticSlice first = tenth();
        erase(first);
        EXPECT_THAT(reason(write_slices(folder.path(), stack(6, 1, first), ramp)),
                    HasSubstr("no valid study, series or image UID"));
    }
    const TemporaryFolder folder;
    SyntheticSlice first = tenth();
    first.frame_of_reference_uid = "";
    EXPECT_THAT(reason(write_slices(folder.path(), stack(6, 1, first), ramp)), HasSubstr("no frame of reference"));
}

TEST(ReadStudy, RefusesPixelsThatAreNoHounsfieldUnits) {
    const TemporaryFolder folder;
    SyntheticSlice first = tenth();
    first.rescale_type = "Z_EFF";
    EXPECT_THAT(reason(write_slices(folder.path(), stack(6, 1, first), ramp)),
                HasSubstr("not Hounsfield units (rescale type Z_EFF)"));
    first.rescaled = false;
    EXPECT_THAT(reason(write_slices(folder.path(), stack(6, 1, first), ramp)),
                HasSubstr("no rescale slope and intercept"));
}

TEST(ReadStudy, SplitsASeriesThatMixesOrientationsOrMatrices) {
    const TemporaryFolder folder;
    auto slices = stack(6, 1, tenth());
    SyntheticSlice sagittal = tenth();
    sagittal.row = {0, 1, 0};
    sagittal.column = {0, 0, -1};
    for (const auto& s : stack(2, 1, sagittal)) slices.push_back(s);
    SyntheticSlice wide = tenth();
    wide.columns = 10;
    for (const auto& s : stack(2, 1, wide)) slices.push_back(s);
    const auto read = read_study(write_slices(folder.path(), slices, ramp), small_series());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->volume.grid.size(), (std::array<std::int64_t, 3>{8, 6, 6}));
    EXPECT_EQ(read->not_chosen.size(), 2U);
}

TEST(ReadStudy, RefusesSlicesThatJumpSideways) {
    const TemporaryFolder folder;
    auto slices = stack(8, 1, tenth());
    slices[4].position[0] += 3;
    EXPECT_THAT(reason(write_slices(folder.path(), slices, ramp)),
                HasSubstr("shifted sideways against each other by up to 3.0 mm"));
}

TEST(ReadStudy, ReadsEnhancedMultiFrameCt) {
    const TemporaryFolder folder;
    std::vector<SyntheticSlice> slices;
    for (const double percent : {30.0, 75.0}) {
        SyntheticSlice first = tenth();
        first.phase_percent = percent;
        for (const auto& s : stack(6, 1.25, first)) slices.push_back(s);
    }
    std::swap(slices[1], slices[9]);
    for (std::size_t k = 0; k < slices.size(); ++k) slices[k].slope = k % 2 == 0 ? 0.1 : 0.05;
    const auto read = read_study(std::vector{write_enhanced(folder / "e.dcm", slices, ramp)}, small_series());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->volume.grid.size()[2], 6);
    EXPECT_EQ(read->phase_percent, 30.0);
    EXPECT_TRUE(read->contrast_named);
    EXPECT_LT(worst_difference(read->volume, ramp), kFloat);
    EXPECT_EQ(read->slices[0].frame, 1);
    EXPECT_EQ(read->slices[1].frame, 10);  // where the swap put it
}

TEST(ReadStudy, RefusesAVolumeBeyondTheLimitBeforeAllocatingIt) {
    const TemporaryFolder folder;
    ReadLimits limits;
    limits.max_voxels = 8 * 6 * 6 - 1;
    const auto read = read_study(write_slices(folder.path(), stack(6, 1, tenth()), ramp), small_series(), limits);
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().kind, ErrorKind::Reject);
    EXPECT_THAT(read.error().message, HasSubstr("8 x 6 x 6 voxels are more than this node reads"));
}

TEST(ReadStudy, RefusesTruncatedFiles) {
    const TemporaryFolder folder;
    const auto files = write_slices(folder.path(), stack(6, 1, tenth()), ramp);
    for (const StudyFile& f : files) std::filesystem::resize_file(f.file, std::filesystem::file_size(f.file) - 20);
    const std::string why = reason(files);
    EXPECT_THAT(why, HasSubstr("no image of the study can be read; 6 files: "));
}

TEST(ReadStudy, LeavesADamagedFileOutAndSaysSo) {
    const TemporaryFolder folder;
    auto files = write_slices(folder.path(), stack(6, 1, tenth()), ramp);
    std::ofstream(folder / "junk.dcm") << "no DICOM at all";
    files.push_back({folder / "junk.dcm", "1.2.840.10008.5.1.4.1.1.2", "CT"});
    const auto read = read_study(files, small_series());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_THAT(read->warnings, testing::Contains(HasSubstr("1 file of the study left out: not a DICOM file")));
}

TEST(ReadStudy, TriesAgainWhenAFileIsAway) {
    const TemporaryFolder folder;
    auto files = write_slices(folder.path(), stack(6, 1, tenth()), ramp);
    std::filesystem::remove(files[2].file);
    const auto read = read_study(files, small_series());
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().kind, ErrorKind::Retry);
}

TEST(ReadStudy, StopsWhenCancelled) {
    const TemporaryFolder folder;
    const auto files = write_slices(folder.path(), stack(6, 1, tenth()), ramp);
    for (const int stop_at : {1, 8}) {  // among the headers, among the pixels
        int calls = 0;
        const auto read = read_study(files, small_series(), {}, [&](int done, int total) {
            EXPECT_LE(done, total);
            return ++calls < stop_at;
        });
        ASSERT_FALSE(read.ok());
        EXPECT_EQ(read.error().kind, ErrorKind::Retry);
        EXPECT_EQ(calls, stop_at);
    }
}

TEST(ReadStudy, NeverPutsAUidIntoAMessage) {
    const TemporaryFolder folder;
    SyntheticSlice first = tenth();
    first.thickness = 8;
    EXPECT_THAT(reason(write_slices(folder.path(), stack(2, 1, first), ramp)), Not(HasSubstr("1.2.3")));
}

}  // namespace
}  // namespace cardionode
