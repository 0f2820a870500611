#include "pipeline/read/instance.h"

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dcdatset.h>
#include <dcmtk/dcmdata/dcdeftag.h>
#include <dcmtk/dcmdata/dcsequen.h>
#include <dcmtk/dcmdata/dcuid.h>

#include <cctype>
#include <cmath>

#include "pipeline/read/dicom_file.h"

namespace cardionode {

namespace {

constexpr long kMaxFrames = 20'000;

std::string text_of(DcmItem* item, const DcmTagKey& tag) {
    OFString value;
    if (item == nullptr || item->findAndGetOFStringArray(tag, value).bad()) return {};
    std::string text(value.c_str(), value.size());
    const auto first = text.find_first_not_of(" \0");
    const auto last = text.find_last_not_of(std::string(" \0", 2));
    return first == std::string::npos || last == std::string::npos ? std::string()
                                                                   : text.substr(first, last - first + 1);
}

/// For people and logs: printable ASCII only, so that nothing can forge a line, and short.
std::string plain(std::string text, std::size_t most) {
    for (char& c : text) {
        if (c < 0x20 || c > 0x7e) c = '?';
    }
    if (text.size() > most) text.resize(most);
    return text;
}

std::optional<double> number_of(DcmItem* item, const DcmTagKey& tag, unsigned long position = 0) {
    Float64 value = 0;
    if (item == nullptr) return std::nullopt;
    if (item->findAndGetFloat64(tag, value, position).bad()) {
        Float32 single = 0;
        Sint32 whole = 0;
        Uint16 small = 0;
        Sint16 small_signed = 0;
        if (item->findAndGetFloat32(tag, single, position).good()) value = single;
        else if (item->findAndGetSint32(tag, whole, position).good()) value = whole;
        else if (item->findAndGetUint16(tag, small, position).good()) value = small;
        else if (item->findAndGetSint16(tag, small_signed, position).good()) value = small_signed;
        else return std::nullopt;
    }
    if (!std::isfinite(value)) return std::nullopt;
    return value;
}

std::optional<int> whole_of(DcmItem* item, const DcmTagKey& tag) {
    const std::optional<double> value = number_of(item, tag);
    if (!value || std::abs(*value) > 2e9) return std::nullopt;
    return static_cast<int>(*value);
}

std::optional<Vec3> vector_of(DcmItem* item, const DcmTagKey& tag, unsigned long from) {
    Vec3 v{};
    for (unsigned long a = 0; a < 3; ++a) {
        const std::optional<double> x = number_of(item, tag, from + a);
        if (!x) return std::nullopt;
        v[a] = *x;
    }
    return v;
}

DcmItem* first_item(DcmItem* item, const DcmTagKey& sequence) {
    DcmItem* found = nullptr;
    if (item == nullptr || item->findAndGetSequenceItem(sequence, found, 0).bad()) return nullptr;
    return found;
}

/// The functional group of a frame: its own, else the shared one (PS3.3 C.7.6.16).
struct Groups {
    DcmItem* own;
    DcmItem* shared;
    DcmItem* get(const DcmTagKey& sequence) const {
        DcmItem* item = first_item(own, sequence);
        return item != nullptr ? item : first_item(shared, sequence);
    }
};

bool has_localizer(const std::string& image_type) {
    return ("\\" + image_type + "\\").find("\\LOCALIZER\\") != std::string::npos;
}

void read_plane(DcmItem* position, DcmItem* orientation, DcmItem* measures, FrameFacts& f) {
    f.position = vector_of(position, DCM_ImagePositionPatient, 0);
    f.row = vector_of(orientation, DCM_ImageOrientationPatient, 0);
    f.column = vector_of(orientation, DCM_ImageOrientationPatient, 3);
    // Pixel Spacing is (between rows, between columns), PS3.3 10.7.1.3.
    const std::optional<double> between_rows = number_of(measures, DCM_PixelSpacing, 0);
    const std::optional<double> between_columns = number_of(measures, DCM_PixelSpacing, 1);
    if (between_rows && between_columns) f.spacing_mm = {{*between_columns, *between_rows}};
    f.slice_thickness_mm = number_of(measures, DCM_SliceThickness);
    if (f.slice_thickness_mm && *f.slice_thickness_mm <= 0) f.slice_thickness_mm.reset();
}

void read_phase(DcmItem* percent_item, std::optional<double> delay_ms, std::optional<double> interval_ms,
                FrameFacts& f) {
    f.trigger_time_ms = delay_ms;
    f.phase_percent = number_of(percent_item, DCM_NominalPercentageOfCardiacPhase);
    if (!f.phase_percent && delay_ms && interval_ms && *interval_ms > 0) {
        f.phase_percent = 100 * *delay_ms / *interval_ms;
    }
    if (f.phase_percent && !(*f.phase_percent >= 0 && *f.phase_percent <= 100)) f.phase_percent.reset();
}

FrameFacts single_frame(DcmDataset& d) {
    FrameFacts f;
    read_plane(&d, &d, &d, f);
    f.slope = number_of(&d, DCM_RescaleSlope);
    f.intercept = number_of(&d, DCM_RescaleIntercept);
    f.rescale_type = plain(text_of(&d, DCM_RescaleType), 16);
    f.image_type = plain(text_of(&d, DCM_ImageType), 128);
    f.kernel = plain(text_of(&d, DCM_ConvolutionKernel), 16);
    f.gantry_tilt_degrees = number_of(&d, DCM_GantryDetectorTilt);
    read_phase(&d, number_of(&d, DCM_TriggerTime), number_of(&d, DCM_NominalInterval), f);
    f.temporal_index = whole_of(&d, DCM_TemporalPositionIdentifier);
    f.acquisition_number = whole_of(&d, DCM_AcquisitionNumber);
    f.acquisition_time = text_of(&d, DCM_AcquisitionTime);
    f.localizer = has_localizer(f.image_type);
    return f;
}

FrameFacts enhanced_frame(DcmDataset& d, const Groups& g, int number) {
    FrameFacts f;
    f.frame = number;
    read_plane(g.get(DCM_PlanePositionSequence), g.get(DCM_PlaneOrientationSequence), g.get(DCM_PixelMeasuresSequence),
               f);
    DcmItem* values = g.get(DCM_PixelValueTransformationSequence);
    f.slope = number_of(values, DCM_RescaleSlope);
    f.intercept = number_of(values, DCM_RescaleIntercept);
    f.rescale_type = plain(text_of(values, DCM_RescaleType), 16);
    DcmItem* type = g.get(DCM_CTImageFrameTypeSequence);
    f.image_type = plain(text_of(type, DCM_FrameType), 128);
    if (f.image_type.empty()) f.image_type = plain(text_of(&d, DCM_ImageType), 128);
    f.kernel = plain(text_of(g.get(DCM_CTReconstructionSequence), DCM_ConvolutionKernel), 16);
    f.gantry_tilt_degrees = number_of(g.get(DCM_CTAcquisitionDetailsSequence), DCM_GantryDetectorTilt);
    DcmItem* content = g.get(DCM_FrameContentSequence);
    f.stack_id = plain(text_of(content, DCM_StackID), 16);
    f.temporal_index = whole_of(content, DCM_TemporalPositionIndex);
    f.acquisition_number = whole_of(content, DCM_FrameAcquisitionNumber);
    f.acquisition_time = text_of(content, DCM_FrameAcquisitionDateTime);
    DcmItem* heart = g.get(DCM_CardiacSynchronizationSequence);
    read_phase(heart, number_of(heart, DCM_NominalCardiacTriggerDelayTime), number_of(heart, DCM_RRIntervalTimeNominal),
               f);
    f.localizer = has_localizer(f.image_type);
    return f;
}

bool names_an_agent(std::string text) {
    for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    for (const char* nothing :
         {"", "NO", "NONE", "N", "NO CONTRAST", "WITHOUT", "NATIVE", "NATIV", "OHNE", "NOT APPLIED", "UNENHANCED"}) {
        if (text == nothing) return false;
    }
    return true;
}

bool contrast_agent(DcmDataset& d, const Groups* first_frame) {
    if (names_an_agent(text_of(&d, DCM_ContrastBolusAgent))) return true;
    if (first_frame != nullptr) {
        if (DcmItem* usage = first_frame->get(DCM_ContrastBolusUsageSequence)) {
            return text_of(usage, DCM_ContrastBolusAgentAdministered) != "NO";
        }
    }
    return first_item(&d, DCM_ContrastBolusAgentSequence) != nullptr;
}

Result<PixelLayout> pixel_layout(DcmDataset& d) {
    PixelLayout p;
    p.rows = whole_of(&d, DCM_Rows).value_or(0);
    p.columns = whole_of(&d, DCM_Columns).value_or(0);
    p.bits_allocated = whole_of(&d, DCM_BitsAllocated).value_or(0);
    p.bits_stored = whole_of(&d, DCM_BitsStored).value_or(p.bits_allocated);
    p.high_bit = whole_of(&d, DCM_HighBit).value_or(p.bits_stored - 1);
    p.is_signed = whole_of(&d, DCM_PixelRepresentation).value_or(0) == 1;
    p.samples = whole_of(&d, DCM_SamplesPerPixel).value_or(1);
    if (p.rows <= 0 || p.columns <= 0 || p.rows > 16384 || p.columns > 16384) {
        return reject_error("the image has no rows or columns, or more than 16384");
    }
    if (p.samples != 1) return reject_error("a colour image, not CT numbers");
    if ((p.bits_allocated != 8 && p.bits_allocated != 16) || p.bits_stored < 1 || p.bits_stored > p.bits_allocated ||
        p.high_bit < p.bits_stored - 1 || p.high_bit >= p.bits_allocated) {
        return reject_error("the bits of a pixel are described in a way that cannot be");
    }
    // Written as US or SS; as a 16-bit pattern both mean the same stored value.
    const auto stored = [&](const DcmTagKey& tag) -> std::optional<std::int32_t> {
        const std::optional<double> v = number_of(&d, tag);
        if (!v || *v < -65536 || *v > 65535) return std::nullopt;
        auto bits = static_cast<std::int32_t>(*v);
        if (p.is_signed && bits > 32767) bits -= 65536;
        if (!p.is_signed && bits < 0) bits += 65536;
        return bits;
    };
    p.padding_low = stored(DCM_PixelPaddingValue);
    p.padding_high = p.padding_low ? stored(DCM_PixelPaddingRangeLimit) : std::nullopt;
    if (p.padding_low && !p.padding_high) p.padding_high = p.padding_low;
    if (p.padding_low && *p.padding_high < *p.padding_low) std::swap(p.padding_low, p.padding_high);
    return p;
}

}  // namespace

bool is_ct_class(const std::string& uid) {
    return uid == UID_CTImageStorage || uid == UID_EnhancedCTImageStorage ||
           uid == UID_LegacyConvertedEnhancedCTImageStorage;
}

std::optional<double> percent_in(const std::string& text) {
    for (auto sign = text.find('%'); sign != std::string::npos; sign = text.find('%', sign + 1)) {
        std::size_t end = sign;
        while (end > 0 && text[end - 1] == ' ') --end;
        std::size_t start = end;
        while (start > 0 &&
               (std::isdigit(static_cast<unsigned char>(text[start - 1])) != 0 || text[start - 1] == '.')) {
            --start;
        }
        if (start == end || end - start > 6) continue;
        // "ASIR 50%", "ASiR-V 50%" is the strength of a reconstruction, not a phase.
        std::string before = text.substr(start >= 10 ? start - 10 : 0, std::min<std::size_t>(start, 10));
        for (char& c : before) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        if (before.find("asir") != std::string::npos) continue;
        const double value = std::atof(text.substr(start, end - start).c_str());
        if (value >= 0 && value <= 100) return value;
    }
    return std::nullopt;
}

Result<ClassAndModality> read_class(const std::filesystem::path& file, std::uintmax_t max_file_bytes) {
    Result<DicomFile> opened = DicomFile::open(file, DicomFile::Part::Header, max_file_bytes);
    if (!opened) return std::move(opened).error();
    return ClassAndModality{text_of(&opened->dataset(), DCM_SOPClassUID),
                            plain(text_of(&opened->dataset(), DCM_Modality), 16)};
}

Result<InstanceFacts> read_instance(const std::filesystem::path& file, std::uintmax_t max_file_bytes) {
    Result<DicomFile> opened = DicomFile::open(file, DicomFile::Part::Header, max_file_bytes);
    if (!opened) return std::move(opened).error();
    DcmDataset& d = opened->dataset();
    InstanceFacts i;
    i.file = file;
    i.transfer_syntax_uid = opened->transfer_syntax_uid();
    i.sop_class_uid = text_of(&d, DCM_SOPClassUID);
    i.sop_instance_uid = text_of(&d, DCM_SOPInstanceUID);
    i.study_instance_uid = text_of(&d, DCM_StudyInstanceUID);
    i.series_instance_uid = text_of(&d, DCM_SeriesInstanceUID);
    i.frame_of_reference_uid = text_of(&d, DCM_FrameOfReferenceUID);
    i.modality = plain(text_of(&d, DCM_Modality), 16);
    i.series_number = whole_of(&d, DCM_SeriesNumber);
    i.series_description = plain(text_of(&d, DCM_SeriesDescription), 40);
    i.lossy = text_of(&d, DCM_LossyImageCompression) == "01";
    i.multi_frame_class =
        i.sop_class_uid == UID_EnhancedCTImageStorage || i.sop_class_uid == UID_LegacyConvertedEnhancedCTImageStorage;
    Result<PixelLayout> layout = pixel_layout(d);
    if (!layout) return std::move(layout).error();
    i.pixels = *layout;

    const long frames = whole_of(&d, DCM_NumberOfFrames).value_or(1);
    if (!i.multi_frame_class) {
        if (frames != 1) return reject_error("several frames in an image class that has one");
        i.contrast_agent = contrast_agent(d, nullptr);
        i.frames.push_back(single_frame(d));
    } else {
        if (frames < 1 || frames > kMaxFrames) return reject_error("a number of frames that cannot be");
        DcmSequenceOfItems* per_frame = nullptr;
        if (d.findAndGetSequence(DCM_PerFrameFunctionalGroupsSequence, per_frame).bad() || per_frame == nullptr ||
            per_frame->card() != static_cast<unsigned long>(frames)) {
            return reject_error("an Enhanced CT image without a description of each frame");
        }
        DcmItem* shared = first_item(&d, DCM_SharedFunctionalGroupsSequence);
        i.frames.reserve(static_cast<std::size_t>(frames));
        for (long n = 0; n < frames; ++n) {
            const Groups groups{per_frame->getItem(static_cast<unsigned long>(n)), shared};
            if (n == 0) i.contrast_agent = contrast_agent(d, &groups);
            i.frames.push_back(enhanced_frame(d, groups, static_cast<int>(n + 1)));
        }
    }
    const std::optional<double> written = percent_in(i.series_description);
    const std::optional<double> commented = percent_in(plain(text_of(&d, DCM_ImageComments), 64));
    for (FrameFacts& f : i.frames) {
        if (!f.phase_percent) f.phase_percent = written ? written : commented;
    }
    return i;
}

}  // namespace cardionode
