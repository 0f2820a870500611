#include "pipeline/read/annotation.h"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dctk.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>

#include "pipeline/read/dicom_file.h"

namespace cardionode {
namespace {

constexpr std::size_t kMostFrames = 100'000;
constexpr int kDeepest = 16;

std::string text_of(DcmItem& item, const DcmTagKey& tag) {
    OFString value;
    if (item.findAndGetOFString(tag, value).bad()) return {};
    const std::string text(value.c_str());
    const std::size_t first = text.find_first_not_of(' '), last = text.find_last_not_of(' ');
    return first == std::string::npos ? std::string() : text.substr(first, last - first + 1);
}

std::string printable(const std::string& text, std::size_t most) {
    std::string out;
    for (const char c : text.substr(0, most)) out += c >= 0x20 && c < 0x7f ? c : '?';
    return out;
}

/// The first item of a sequence; null: none.
DcmItem* first_of(DcmItem& item, const DcmTagKey& tag) {
    DcmItem* found = nullptr;
    return item.findAndGetSequenceItem(tag, found, 0).good() ? found : nullptr;
}

template <class Visit>
void each(DcmItem& item, const DcmTagKey& tag, Visit&& visit) {
    DcmSequenceOfItems* sequence = nullptr;
    if (item.findAndGetSequence(tag, sequence).bad() || sequence == nullptr) return;
    for (unsigned long i = 0; i < sequence->card(); ++i) {
        if (DcmItem* one = sequence->getItem(i)) visit(*one);
    }
}

Code code_of(DcmItem& item, const DcmTagKey& tag) {
    DcmItem* code = first_of(item, tag);
    if (code == nullptr) return {};
    std::string value = text_of(*code, DCM_CodeValue);
    if (value.empty()) value = text_of(*code, DCM_LongCodeValue);
    return {value, text_of(*code, DCM_CodingSchemeDesignator), printable(text_of(*code, DCM_CodeMeaning), 64)};
}

bool is_code(const Code& code, std::string_view value, std::string_view scheme) {
    return code.value == value && code.scheme == scheme;
}

/// Numbers of a DS or FD element.
template <std::size_t N>
std::optional<std::array<double, N>> numbers(DcmItem& item, const DcmTagKey& tag) {
    std::array<double, N> out{};
    for (std::size_t i = 0; i < N; ++i) {
        if (item.findAndGetFloat64(tag, out[i], static_cast<unsigned long>(i)).bad() || !std::isfinite(out[i]))
            return std::nullopt;
    }
    return out;
}

void collect_references(DcmItem& item, std::set<std::string>& into, int depth) {
    if (depth > kDeepest) return;
    for (const DcmTagKey& tag : {DCM_ReferencedSOPInstanceUID}) {
        const std::string uid = text_of(item, tag);
        if (!uid.empty()) into.insert(uid);
    }
    for (DcmObject* object = nullptr; (object = item.nextInContainer(object)) != nullptr;) {
        auto* sequence = dynamic_cast<DcmSequenceOfItems*>(object);
        if (sequence == nullptr || object->ident() != EVR_SQ) continue;
        for (unsigned long i = 0; i < sequence->card(); ++i) {
            if (DcmItem* child = sequence->getItem(i)) collect_references(*child, into, depth + 1);
        }
    }
}

AnnotationFacts facts_of(DcmDataset& dataset) {
    AnnotationFacts facts;
    facts.sop_class_uid = text_of(dataset, DCM_SOPClassUID);
    facts.sop_instance_uid = text_of(dataset, DCM_SOPInstanceUID);
    facts.software =
        printable(text_of(dataset, DCM_Manufacturer) + " " + text_of(dataset, DCM_ManufacturerModelName), 80);
    const std::string date = text_of(dataset, DCM_ContentDate), time = text_of(dataset, DCM_ContentTime).substr(0, 6);
    const auto digits = [](const std::string& t) { return std::all_of(t.begin(), t.end(), ::isdigit); };
    if (date.size() == 8 && digits(date) && digits(time)) facts.made_at = date + (time + "000000").substr(0, 6);
    facts.frame_of_reference_uid = text_of(dataset, DCM_FrameOfReferenceUID);
    collect_references(dataset, facts.refers_to, 0);
    return facts;
}

struct Frame {
    int segment = 0;
    Vec3 position{}, row{}, column{};
    double between_columns = 0, between_rows = 0, thickness = 0;
};

}  // namespace

bool is_segmentation(const std::string& uid) { return uid == UID_SegmentationStorage; }

bool is_report(const std::string& uid) {
    return uid == UID_EnhancedSRStorage || uid == UID_ComprehensiveSRStorage || uid == UID_Comprehensive3DSRStorage;
}

struct Segmentation::State {
    AnnotationFacts facts;
    std::vector<MarkedSegment> segments;
    std::vector<Frame> frames;
    std::vector<std::uint8_t> pixels;
    std::int64_t rows = 0, columns = 0;
    bool bits = true;     ///< BINARY: packed; else a byte a voxel
    int inside_from = 1;  ///< FRACTIONAL: this value and above

    bool marked(std::size_t frame, std::size_t offset) const {
        const std::size_t at = frame * static_cast<std::size_t>(rows * columns) + offset;
        if (bits) return (pixels[at / 8] >> (at % 8) & 1) != 0;
        return pixels[at] >= inside_from;
    }
};

Segmentation::Segmentation(std::unique_ptr<State> state) : state_(std::move(state)) {}
Segmentation::Segmentation(Segmentation&&) noexcept = default;
Segmentation::~Segmentation() = default;
const AnnotationFacts& Segmentation::facts() const { return state_->facts; }
const std::vector<MarkedSegment>& Segmentation::segments() const { return state_->segments; }

Result<Segmentation> Segmentation::open(const std::filesystem::path& path, std::uintmax_t max_file_bytes) {
    Result<DicomFile> file = DicomFile::open(path, DicomFile::Part::Whole, max_file_bytes);
    if (!file) return std::move(file).error();
    DcmDataset& dataset = file->dataset();
    auto state = std::make_unique<State>();
    State& s = *state;
    s.facts = facts_of(dataset);
    if (!is_segmentation(s.facts.sop_class_uid)) return reject_error("no DICOM segmentation");
    const std::string type = text_of(dataset, DCM_SegmentationType);
    if (type != "BINARY" && type != "FRACTIONAL")
        return reject_error("a segmentation that is neither BINARY nor FRACTIONAL");
    Uint16 rows = 0, columns = 0, allocated = 0, maximum = 255;
    dataset.findAndGetUint16(DCM_Rows, rows);
    dataset.findAndGetUint16(DCM_Columns, columns);
    dataset.findAndGetUint16(DCM_BitsAllocated, allocated);
    dataset.findAndGetUint16(DCM_MaximumFractionalValue, maximum);
    s.rows = rows, s.columns = columns, s.bits = type == "BINARY";
    s.inside_from = std::max(1, (static_cast<int>(maximum) + 1) / 2);
    if (rows == 0 || columns == 0 || allocated != (s.bits ? 1 : 8))
        return reject_error("a segmentation without usable voxels");
    each(dataset, DCM_SegmentSequence, [&](DcmItem& item) {
        MarkedSegment segment;
        Uint16 number = 0;
        item.findAndGetUint16(DCM_SegmentNumber, number);
        segment.number = number;
        segment.label = printable(text_of(item, DCM_SegmentLabel), 64);
        segment.type = code_of(item, DCM_SegmentedPropertyTypeCodeSequence);
        segment.algorithm = text_of(item, DCM_SegmentAlgorithmType);
        if (segment.algorithm == "MANUAL" || segment.algorithm == "SEMIAUTOMATIC")
            s.facts.author = AnnotationFacts::Author::Person;
        s.segments.push_back(std::move(segment));
    });
    if (s.facts.author == AnnotationFacts::Author::Unknown && !s.segments.empty())
        s.facts.author = AnnotationFacts::Author::Device;

    DcmItem* shared = first_of(dataset, DCM_SharedFunctionalGroupsSequence);
    bool whole = true;
    each(dataset, DCM_PerFrameFunctionalGroupsSequence, [&](DcmItem& groups) {
        const auto group = [&](const DcmTagKey& tag) {
            DcmItem* own = first_of(groups, tag);
            return own != nullptr || shared == nullptr ? own : first_of(*shared, tag);
        };
        Frame f;
        DcmItem *place = group(DCM_PlanePositionSequence), *turn = group(DCM_PlaneOrientationSequence),
                *measures = group(DCM_PixelMeasuresSequence), *which = group(DCM_SegmentIdentificationSequence);
        if (place == nullptr || turn == nullptr || measures == nullptr || which == nullptr) return void(whole = false);
        const auto position = numbers<3>(*place, DCM_ImagePositionPatient);
        const auto axes = numbers<6>(*turn, DCM_ImageOrientationPatient);
        const auto spacing = numbers<2>(*measures, DCM_PixelSpacing);
        Uint16 number = 0;
        which->findAndGetUint16(DCM_ReferencedSegmentNumber, number);
        if (!position || !axes || !spacing || (*spacing)[0] <= 0 || (*spacing)[1] <= 0) return void(whole = false);
        f.segment = number, f.position = *position;
        f.row = {(*axes)[0], (*axes)[1], (*axes)[2]}, f.column = {(*axes)[3], (*axes)[4], (*axes)[5]};
        f.between_rows = (*spacing)[0], f.between_columns = (*spacing)[1];
        const auto step = numbers<1>(*measures, DCM_SpacingBetweenSlices),
                   thick = numbers<1>(*measures, DCM_SliceThickness);
        f.thickness = step ? std::abs((*step)[0]) : thick ? (*thick)[0] : 0;
        s.frames.push_back(f);
    });
    if (!whole || s.frames.size() > kMostFrames) return reject_error("a segmentation whose planes are not placed");

    const std::size_t voxels = s.frames.size() * static_cast<std::size_t>(s.rows * s.columns);
    const std::size_t bytes = s.bits ? (voxels + 7) / 8 : voxels;
    const Uint8* small = nullptr;
    const Uint16* wide = nullptr;
    unsigned long count = 0;
    if (dataset.findAndGetUint8Array(DCM_PixelData, small, &count).good() && small != nullptr && count >= bytes) {
        s.pixels.assign(small, small + bytes);
    } else if (dataset.findAndGetUint16Array(DCM_PixelData, wide, &count).good() && wide != nullptr &&
               count * 2 >= bytes) {
        s.pixels.resize(count * 2);
        for (std::size_t i = 0; i < count; ++i) {
            s.pixels[2 * i] = static_cast<std::uint8_t>(wide[i] & 0xff);
            s.pixels[2 * i + 1] = static_cast<std::uint8_t>(wide[i] >> 8);
        }
    } else if (!s.frames.empty()) {
        return reject_error("a segmentation whose voxels are cut off or compressed");
    }
    return Segmentation(std::move(state));
}

Result<void> Segmentation::paint(int segment, std::uint8_t value, LabelMap& map) const {
    const State& s = *state_;
    const Grid& grid = map.grid;
    // Voxels are carried one by one to the nearest of the map: coarser ones would leave holes.
    const double in_plane = 1.5 * std::min(grid.spacing()[0], grid.spacing()[1]), between = 1.5 * grid.spacing()[2];
    std::size_t seen = 0, inside = 0;
    for (std::size_t f = 0; f < s.frames.size(); ++f) {
        const Frame& frame = s.frames[f];
        if (frame.segment != segment) continue;
        if (std::max(frame.between_columns, frame.between_rows) > in_plane || frame.thickness > between)
            return reject_error("a segmentation with coarser voxels than the images that it belongs to");
        const Vec3 along = scale(frame.row, frame.between_columns), down = scale(frame.column, frame.between_rows);
        std::size_t offset = 0;
        for (std::int64_t r = 0; r < s.rows; ++r) {
            const Vec3 start = add(frame.position, scale(down, static_cast<double>(r)));
            for (std::int64_t c = 0; c < s.columns; ++c, ++offset) {
                if (!s.marked(f, offset)) continue;
                ++seen;
                const auto voxel = grid.nearest_voxel({add(start, scale(along, static_cast<double>(c)))});
                if (!voxel) continue;
                ++inside;
                map.voxels[static_cast<std::size_t>(grid.offset(*voxel))] = value;
            }
        }
    }
    if (seen > 0 && inside == 0) return reject_error("a segmentation that lies outside the images");
    return {};
}

namespace {

/// The first point below an item: the group's own first, then those that its numbers are inferred from.
bool find_point(DcmItem& item, PatientPoint& at, int depth) {
    if (depth > kDeepest) return false;
    bool found = false;
    for (const bool own : {true, false}) {
        each(item, DCM_ContentSequence, [&](DcmItem& child) {
            if (found) return;
            if (!own) return void(found = find_point(child, at, depth + 1));
            if (text_of(child, DCM_ValueType) != "SCOORD3D" || text_of(child, DCM_GraphicType) != "POINT") return;
            const Float32* xyz = nullptr;
            unsigned long count = 0;
            if (child.findAndGetFloat32Array(DCM_GraphicData, xyz, &count).bad() || xyz == nullptr || count != 3)
                return;
            for (std::size_t a = 0; a < 3; ++a) at.lps_mm[a] = xyz[a];
            found = std::isfinite(xyz[0]) && std::isfinite(xyz[1]) && std::isfinite(xyz[2]);
        });
    }
    return found;
}

/// Frame of reference of the first point, which is where it stands in a 3D report.
std::string point_frame(DcmItem& item, int depth) {
    if (depth > kDeepest) return {};
    std::string found = text_of(item, DCM_ReferencedFrameOfReferenceUID);
    if (!found.empty()) return found;
    each(item, DCM_ContentSequence, [&](DcmItem& child) {
        if (found.empty()) found = point_frame(child, depth + 1);
    });
    return found;
}

void find_groups(DcmItem& item, std::vector<MarkedPoint>& points, int depth) {
    if (depth > kDeepest) return;
    each(item, DCM_ContentSequence, [&](DcmItem& child) {
        if (text_of(child, DCM_ValueType) != "CONTAINER") return;
        if (!is_code(code_of(child, DCM_ConceptNameCodeSequence), "125007", "DCM"))
            return find_groups(child, points, depth + 1);
        MarkedPoint point;
        each(child, DCM_ContentSequence, [&](DcmItem& entry) {
            const Code name = code_of(entry, DCM_ConceptNameCodeSequence);
            if (is_code(name, "121071", "DCM")) point.finding = code_of(entry, DCM_ConceptCodeSequence);
            if (is_code(name, "112039", "DCM")) point.label = printable(text_of(entry, DCM_TextValue), 64);
        });
        if (find_point(child, point.at, depth + 1)) points.push_back(std::move(point));
    });
}

}  // namespace

Result<PointReport> read_report(const std::filesystem::path& path, std::uintmax_t max_file_bytes) {
    Result<DicomFile> file = DicomFile::open(path, DicomFile::Part::Whole, max_file_bytes);
    if (!file) return std::move(file).error();
    DcmDataset& dataset = file->dataset();
    PointReport report;
    report.facts = facts_of(dataset);
    if (!is_report(report.facts.sop_class_uid)) return reject_error("no structured report with measurements");
    report.facts.verified = text_of(dataset, DCM_VerificationFlag) == "VERIFIED";
    each(dataset, DCM_ContentSequence, [&](DcmItem& item) {
        if (!is_code(code_of(item, DCM_ConceptNameCodeSequence), "121005", "DCM")) return;
        const Code who = code_of(item, DCM_ConceptCodeSequence);
        if (is_code(who, "121006", "DCM")) report.facts.author = AnnotationFacts::Author::Person;
        if (is_code(who, "121007", "DCM") && report.facts.author == AnnotationFacts::Author::Unknown)
            report.facts.author = AnnotationFacts::Author::Device;
    });
    find_groups(dataset, report.points, 0);
    if (const std::string frame = point_frame(dataset, 0); !frame.empty()) report.facts.frame_of_reference_uid = frame;
    return report;
}

}  // namespace cardionode
