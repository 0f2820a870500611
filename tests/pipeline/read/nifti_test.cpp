// The NIfTI reader against files made of bytes by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "pipeline/read/nifti.h"
#include "tests/support/temporary_folder.h"

namespace cardionode {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// A file of 3 x 4 x 2 voxels of 0.5 x 0.6 x 2 mm, int16, each voxel 100 * k + 10 * j + i - 1000, in the standard's own
/// words: x to the right, y to the front, z to the head; every field can be overwritten.
class Bytes {
public:
    Bytes() : bytes_(352, 0) {
        put(0, std::int32_t{348});
        for (int a = 0; a < 8; ++a) put(40 + 2 * a, std::int16_t{1});
        put(40, std::int16_t{3}), put(42, std::int16_t{3}), put(44, std::int16_t{4}), put(46, std::int16_t{2});
        put(70, std::int16_t{4}), put(72, std::int16_t{16});
        put(76, 1.0F), put(80, 0.5F), put(84, 0.6F), put(88, 2.0F);
        put(108, 352.0F), put(112, 1.0F), put(123, std::uint8_t{2});
        put(254, std::int16_t{1});
        affine({0.5F, 0, 0, -10, 0, 0.6F, 0, -20, 0, 0, 2, 30});
        std::memcpy(&bytes_[344], "n+1", 4);
        for (int k = 0; k < 2; ++k)
            for (int j = 0; j < 4; ++j)
                for (int i = 0; i < 3; ++i) append(static_cast<std::int16_t>(1000 * k + 10 * j + i - 1000));
    }
    template <class T>
    Bytes& put(std::size_t at, T value) {
        std::memcpy(&bytes_[at], &value, sizeof value);
        return *this;
    }
    template <class T>
    void append(T value) {
        bytes_.resize(bytes_.size() + sizeof value);
        put(bytes_.size() - sizeof value, value);
    }
    Bytes& affine(std::array<float, 12> rows) { return put(280, rows); }
    Bytes& cut(std::size_t size) {
        bytes_.resize(size);
        return *this;
    }
    template <class T>
    Bytes& voxels(int type, const std::vector<T>& values) {
        put(70, static_cast<std::int16_t>(type)).put(72, static_cast<std::int16_t>(8 * sizeof(T))).cut(352);
        for (const T v : values) append(v);
        return *this;
    }
    /// Every field and voxel in the other byte order.
    Bytes& swap() {
        const auto turn = [&](std::size_t at, std::size_t size, std::size_t count) {
            for (std::size_t n = 0; n < count; ++n)
                std::reverse(bytes_.begin() + static_cast<long>(at + n * size),
                             bytes_.begin() + static_cast<long>(at + (n + 1) * size));
        };
        turn(0, 4, 1), turn(40, 2, 8), turn(70, 2, 2), turn(76, 4, 11), turn(252, 2, 2), turn(256, 4, 18);
        turn(352, 2, 24);
        return *this;
    }
    const std::string& raw() const { return bytes_; }
    std::string packed() const {
        std::string out(compressBound(bytes_.size()) + 64, 0);
        z_stream s{};
        deflateInit2(&s, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
        s.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes_.data()));
        s.avail_in = static_cast<uInt>(bytes_.size());
        s.next_out = reinterpret_cast<Bytef*>(out.data());
        s.avail_out = static_cast<uInt>(out.size());
        deflate(&s, Z_FINISH);
        out.resize(s.total_out);
        deflateEnd(&s);
        return out;
    }

private:
    std::string bytes_;
};

class Nifti : public testing::Test {
protected:
    std::filesystem::path store(const std::string& bytes, const std::string& name = "ct.nii") {
        std::ofstream(folder_ / name, std::ios::binary) << bytes;
        return folder_ / name;
    }
    std::string refusal(const std::string& bytes) {
        const auto read = read_nifti_ct(store(bytes));
        if (read.ok()) return "was read";
        EXPECT_EQ(read.error().kind, ErrorKind::Reject) << read.error().message;
        EXPECT_THAT(read.error().message, testing::Not(HasSubstr(folder_.path().string())));
        return read.error().message;
    }
    std::string refusal(const Bytes& bytes) { return refusal(bytes.raw()); }
    test::TemporaryFolder folder_;
};

Vec3 place(const Grid& grid, std::int64_t i, std::int64_t j, std::int64_t k) {
    return grid.to_patient(VoxelIndex{{i, j, k}}).lps_mm;
}
void expect_near(const Vec3& a, const Vec3& b, double tolerance) {
    for (std::size_t n = 0; n < 3; ++n) EXPECT_NEAR(a[n], b[n], tolerance) << "axis " << n;
}

TEST_F(Nifti, RightAndFrontBecomeLeftAndBack) {
    std::vector<std::string> warnings;
    const auto read = read_nifti_ct(store(Bytes().raw()), &warnings);
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_THAT(read->grid.size(), ElementsAre(3, 4, 2));
    expect_near(place(read->grid, 0, 0, 0), {10, 20, 30}, 1e-5);
    expect_near(place(read->grid, 2, 3, 1), {9, 18.2, 32}, 1e-5);
    EXPECT_EQ(read->at({{0, 0, 0}}), -1000);
    EXPECT_EQ(read->at({{2, 3, 1}}), 32);
    EXPECT_THAT(warnings, ElementsAre(HasSubstr("do not look like Hounsfield")));  // -1000..32: no bone, no contrast
}

TEST_F(Nifti, CompressedIsTheSame) {
    const auto plain = read_nifti_ct(store(Bytes().raw()));
    const auto packed = read_nifti_ct(store(Bytes().packed(), "ct.nii.gz"));
    ASSERT_TRUE(packed.ok()) << packed.error().message;
    EXPECT_EQ(packed->voxels, plain->voxels);
    EXPECT_TRUE(packed->grid.same_as(plain->grid));
}

TEST_F(Nifti, OtherByteOrderIsTheSame) {
    const auto plain = read_nifti_ct(store(Bytes().raw()));
    const auto swapped = read_nifti_ct(store(Bytes().swap().raw(), "swapped.nii"));
    ASSERT_TRUE(swapped.ok()) << swapped.error().message;
    EXPECT_EQ(swapped->voxels, plain->voxels);
    EXPECT_TRUE(swapped->grid.same_as(plain->grid));
}

TEST_F(Nifti, EveryNumberTypeIsRead) {
    const auto ramp = [](auto zero) {
        std::vector<decltype(zero)> v;
        for (int n = 0; n < 24; ++n) v.push_back(static_cast<decltype(zero)>(n));
        return v;
    };
    const auto expect_ramp = [&](Bytes& bytes, const char* type) {
        const auto read = read_nifti_ct(store(bytes.raw()));
        ASSERT_TRUE(read.ok()) << type << ": " << read.error().message;
        for (int n = 0; n < 24; ++n) EXPECT_EQ(read->voxels[static_cast<std::size_t>(n)], n) << type;
    };
    expect_ramp(Bytes().voxels(2, ramp(std::uint8_t{})), "uint8");
    expect_ramp(Bytes().voxels(256, ramp(std::int8_t{})), "int8");
    expect_ramp(Bytes().voxels(512, ramp(std::uint16_t{})), "uint16");
    expect_ramp(Bytes().voxels(8, ramp(std::int32_t{})), "int32");
    expect_ramp(Bytes().voxels(768, ramp(std::uint32_t{})), "uint32");
    expect_ramp(Bytes().voxels(1024, ramp(std::int64_t{})), "int64");
    expect_ramp(Bytes().voxels(16, ramp(0.0F)), "float32");
    expect_ramp(Bytes().voxels(64, ramp(0.0)), "float64");
}

TEST_F(Nifti, SlopeAndInterceptGiveHounsfieldUnits) {
    Bytes bytes;
    bytes.put(112, 0.5F).put(116, -24.0F);
    const auto read = read_nifti_ct(store(bytes.raw()));
    ASSERT_TRUE(read.ok());
    EXPECT_EQ(read->at({{0, 0, 0}}), -524);
    EXPECT_EQ(read->at({{2, 3, 1}}), -8);
    for (const float none : {0.0F, std::numeric_limits<float>::quiet_NaN()}) {
        bytes.put(112, none);
        EXPECT_EQ(read_nifti_ct(store(bytes.raw()))->at({{2, 3, 1}}), 32) << none;
    }
}

TEST_F(Nifti, QformIsUsedWhereThereIsNoSform) {
    // Half a turn about z: x to the left, y to the back; what dcm2niix writes for a supine patient.
    Bytes bytes;
    bytes.put(254, std::int16_t{0}).put(252, std::int16_t{1}).put(264, 1.0F);
    bytes.put(268, 7.0F).put(272, 8.0F).put(276, 9.0F);
    const auto read = read_nifti_ct(store(bytes.raw()));
    ASSERT_TRUE(read.ok()) << read.error().message;
    expect_near(place(read->grid, 2, 3, 1), {-7 + 1, -8 + 1.8, 11}, 1e-5);
    bytes.put(76, -1.0F);  // the third axis turned round
    expect_near(place(read_nifti_ct(store(bytes.raw()))->grid, 2, 3, 1), {-7 + 1, -8 + 1.8, 7}, 1e-5);
}

TEST_F(Nifti, MetresAndMicrometresAreMillimetresHere) {
    Bytes metres;
    metres.put(123, std::uint8_t{1}).affine({5e-4F, 0, 0, -.01F, 0, 6e-4F, 0, -.02F, 0, 0, 2e-3F, .03F});
    metres.put(80, 5e-4F).put(84, 6e-4F).put(88, 2e-3F);
    const auto read = read_nifti_ct(store(metres.raw()));
    ASSERT_TRUE(read.ok()) << read.error().message;
    expect_near(place(read->grid, 2, 3, 1), {9, 18.2, 32}, 1e-4);
    EXPECT_THAT(refusal(Bytes().put(123, std::uint8_t{3})), HasSubstr("check the spacing and its unit"));
}

TEST_F(Nifti, ObliqueAxesAreKept) {
    const float c = std::cos(0.3F), s = std::sin(0.3F);
    const auto read = read_nifti_ct(store(
        Bytes().affine({.5F * c, -.6F * s, 0, 1, .5F * s, .6F * c, 0, 2, 0, 0, -2, 3}).raw()));  // left-handed too
    ASSERT_TRUE(read.ok()) << read.error().message;
    expect_near(read->grid.axes()[0], {-c, -s, 0}, 1e-6);
    expect_near(read->grid.axes()[2], {0, 0, -1}, 1e-6);
}

TEST_F(Nifti, ShearedAxesAreRefused) {
    EXPECT_THAT(refusal(Bytes().affine({.5F, 0, 0, 0, 0, .6F, 0.4F, 0, 0, 0, 2, 0})),
                HasSubstr("sheared by 11 degrees (a tilted gantry, or a registration); resample"));
}

TEST_F(Nifti, WithoutAnOrientationNothingIsRead) {
    EXPECT_THAT(refusal(Bytes().put(254, std::int16_t{0})), HasSubstr("does not say where left and right are"));
}

TEST_F(Nifti, OrientationsThatDisagreeAreNamed) {
    Bytes bytes;
    bytes.put(252, std::int16_t{1});  // qform: no rotation, origin 0; the sform begins at -10, -20, 30
    std::vector<std::string> warnings;
    const auto read = read_nifti_ct(store(bytes.raw()), &warnings);
    ASSERT_TRUE(read.ok());
    EXPECT_THAT(warnings, Contains(HasSubstr("sform and qform) are 37 mm apart; the sform is used")));
    expect_near(place(read->grid, 0, 0, 0), {10, 20, 30}, 1e-5);
}

TEST_F(Nifti, VoxelSizesThatContradictTheAffineAreNamed) {
    std::vector<std::string> warnings;
    ASSERT_TRUE(read_nifti_ct(store(Bytes().put(88, 3.0F).raw()), &warnings).ok());
    EXPECT_THAT(warnings, Contains(HasSubstr("contradicts its affine")));
}

TEST_F(Nifti, OtherDimensionsAreRefused) {
    Bytes four;
    four.put(40, std::int16_t{4}).put(48, std::int16_t{10});
    EXPECT_THAT(refusal(four), HasSubstr("holds 10 images in its dimension 4"));
    EXPECT_TRUE(read_nifti_ct(store(four.put(48, std::int16_t{1}).raw())).ok());
    EXPECT_THAT(refusal(Bytes().put(40, std::int16_t{2})), HasSubstr("3 x 4 x 1 voxels; a CT has three dimensions"));
    EXPECT_THAT(refusal(Bytes().put(40, std::int16_t{9})), HasSubstr("number of dimensions"));
    EXPECT_THAT(refusal(Bytes().put(44, std::int16_t{0})), HasSubstr("no voxels along one axis"));
    EXPECT_THAT(refusal(Bytes().put(44, std::int16_t{-4})), HasSubstr("no voxels along one axis"));
    Bytes large;
    for (int at : {42, 44, 46}) large.put(static_cast<std::size_t>(at), std::int16_t{32767});
    EXPECT_THAT(refusal(large), HasSubstr("more than the 768 million"));
}

TEST_F(Nifti, CutOffFilesAreRefused) {
    EXPECT_THAT(refusal(std::string{}), HasSubstr("ends within its header"));
    EXPECT_THAT(refusal(Bytes().cut(200)), HasSubstr("ends within its header"));
    EXPECT_THAT(refusal(Bytes().cut(350)), HasSubstr("was cut off; copy it again"));
    EXPECT_THAT(refusal(Bytes().cut(352 + 47)), HasSubstr("was cut off; copy it again"));
    const std::string packed = Bytes().packed();
    for (std::size_t size = 40; size < packed.size(); size += 5) {
        const std::string why = refusal(packed.substr(0, size));
        EXPECT_THAT(why, HasSubstr("copy")) << size;
    }
}

TEST_F(Nifti, ABitThatChangedInACompressedFileIsFound) {
    std::string packed = Bytes().packed();
    packed[packed.size() - 6] = static_cast<char>(packed[packed.size() - 6] ^ 1);  // in the checksum
    EXPECT_THAT(refusal(packed), HasSubstr("damaged; copy the file again"));
}

TEST_F(Nifti, OtherFilesAreNamed) {
    EXPECT_THAT(refusal(std::string(1000, 'x')), HasSubstr("no NIfTI file"));
    EXPECT_THAT(refusal(Bytes().put(0, std::int32_t{540})), HasSubstr("NIfTI-2"));
    EXPECT_THAT(refusal(Bytes().put(344, 'n').put(345, 'i')), HasSubstr(".hdr/.img pair"));
    EXPECT_THAT(refusal(Bytes().put(344, '\0')), HasSubstr("ANALYZE"));
    EXPECT_THAT(refusal(Bytes().put(70, std::int16_t{128})), HasSubstr("type 128 (colour"));
    EXPECT_THAT(read_nifti_ct(folder_.path()).error().message, HasSubstr("a folder, not a NIfTI file"));
    EXPECT_EQ(read_nifti_ct(folder_ / "absent.nii").error().kind, ErrorKind::Config);
}

TEST_F(Nifti, ImplausibleSpacingIsRefused) {
    EXPECT_THAT(refusal(Bytes().affine({.01F, 0, 0, 0, 0, .6F, 0, 0, 0, 0, 2, 0})), HasSubstr("0.01 mm long"));
    EXPECT_THAT(refusal(Bytes().affine({.5F, 0, 0, 0, 0, .6F, 0, 0, 0, 0, 200, 0})), HasSubstr("200 mm long"));
    EXPECT_THAT(refusal(Bytes().affine({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})), HasSubstr("0 mm long"));
    EXPECT_THAT(refusal(Bytes().put(292, std::numeric_limits<float>::quiet_NaN())), HasSubstr("affine of the header"));
}

TEST_F(Nifti, ValuesThatAreNoNumbersAreRefused) {
    std::vector<float> values(24, -1000);
    values[3] = std::numeric_limits<float>::quiet_NaN();
    values[4] = std::numeric_limits<float>::infinity();
    EXPECT_THAT(refusal(Bytes().voxels(16, values)), HasSubstr("2 voxels hold no number"));
    EXPECT_THAT(refusal(Bytes().voxels(16, std::vector<float>(24, 7))), HasSubstr("every voxel has the value 7"));
}

TEST_F(Nifti, ValuesUnlikeACtAreNamed) {
    const auto warnings_for = [&](float low, float high) {
        std::vector<float> values(24, low);
        values.back() = high;
        std::vector<std::string> warnings;
        EXPECT_TRUE(read_nifti_ct(store(Bytes().voxels(16, values).raw()), &warnings).ok());
        return warnings;
    };
    EXPECT_THAT(warnings_for(-1024, 1500), IsEmpty());
    EXPECT_THAT(warnings_for(0, 1), ElementsAre(HasSubstr("do not look like Hounsfield units")));
    EXPECT_THAT(warnings_for(0, 4095), ElementsAre(HasSubstr("stored with 1024 added")));
}

TEST_F(Nifti, LabelsMustBeWholeNumbersOfAByte) {
    std::vector<float> values(24, 0);
    values[5] = 255;
    const auto read = read_nifti_labels(store(Bytes().voxels(16, values).raw()));
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->at({{2, 1, 0}}), 255);
    for (const float wrong : {0.5F, -1.0F, 256.0F, std::numeric_limits<float>::quiet_NaN()}) {
        values[5] = wrong;
        const auto refused = read_nifti_labels(store(Bytes().voxels(16, values).raw()));
        ASSERT_FALSE(refused.ok()) << wrong;
        EXPECT_THAT(refused.error().message, HasSubstr("image or a probability map"));
    }
}

}  // namespace
}  // namespace cardionode
