#include "pipeline/outputs/sr.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>
#include <fmt/format.h>

#include "pipeline/outputs/content.h"
#include "pipeline/outputs/inherit.h"
#include "scp/dicom/uid.h"

namespace cardionode {
namespace {

using dicom::append_item;
using dicom::put;

const Code kReport{"126000", "DCM", "Imaging Measurement Report"};
const Code kMeasurements{"126010", "DCM", "Imaging Measurements"};
const Code kGroup{"125007", "DCM", "Measurement Group"};
const Code kEvaluations{"C0034375", "UMLS", "Qualitative Evaluations"};
const Code kTrackingIdentifier{"112039", "DCM", "Tracking Identifier"};
const Code kTrackingUid{"112040", "DCM", "Tracking Unique Identifier"};
const Code kFindingCategory{"276214006", "SCT", "Finding category"};
const Code kFinding{"121071", "DCM", "Finding"};
const Code kFindingSite{"363698007", "SCT", "Finding Site"};
const Code kAlgorithmName{"111001", "DCM", "Algorithm Name"};
const Code kAlgorithmVersion{"111003", "DCM", "Algorithm Version"};
const Code kAlgorithmFamily{"111000", "DCM", "Algorithm Family"};
const Code kArtificialIntelligence{"123110", "DCM", "Artificial Intelligence"};
const Code kImageRegion{"111030", "DCM", "Image Region"};
const Code kSourceOfMeasurement{"121112", "DCM", "Source of Measurement"};
const Code kReferencedSegment{"121191", "DCM", "Referenced Segment"};
const Code kSourceSeries{"121232", "DCM", "Source series for segmentation"};
const Code kVolume{"118565006", "SCT", "Volume"};
const Code kMillilitre{"ml", "UCUM", "ml"};
const Code kComment{"121106", "DCM", "Comment"};
const Code kAnatomicalStructure{"91723000", "SCT", "Anatomical Structure"};

/// The names of Measurement::rests_on; a remark in brackets after a name is dropped.
std::vector<std::string> split(const std::string& list) {
    std::vector<std::string> names;
    std::size_t begin = 0;
    while (begin <= list.size()) {
        const std::size_t end = std::min(list.find(',', begin), list.size());
        std::string name = list.substr(begin, end - begin);
        name.resize(std::min(name.find('('), name.size()));
        std::erase(name, ' ');
        if (!name.empty()) names.push_back(std::move(name));
        begin = end + 1;
    }
    return names;
}

/// Where a measurement stands in the two documents.
struct Home {
    enum class Place { Landmark, Segment, Text } place = Place::Text;
    std::string name;             ///< of the landmark, or "group/segment"
    bool about_segments = false;  ///< a text that belongs into the volume document
};

Home home_of(const Measurement& measurement, const Findings& findings, std::span<const WrittenSeg> segs) {
    bool any_landmark = false, any_segment = false;
    std::string segment_key;
    for (const std::string& name : split(measurement.rests_on)) {
        if (const Landmark* landmark = findings.landmark(name)) {
            any_landmark = true;
            if (landmark->position && measurement.value) return {Home::Place::Landmark, name, false};
        }
        for (const SegmentGroup& group : findings.groups) {
            any_segment = any_segment || group.name == name;
            for (const Segment& segment : group.segments) any_segment = any_segment || segment.name == name;
        }
        for (const WrittenSeg& seg : segs) {
            for (const WrittenSegment& written : seg.segments) {
                const bool meant = written.segment->name == name || written.group->name == name;
                if (meant && segment_key.empty()) segment_key = written.group->name + "/" + written.segment->name;
            }
        }
    }
    if (measurement.value && !any_landmark && !segment_key.empty()) {
        return {Home::Place::Segment, segment_key, true};
    }
    return {Home::Place::Text, {}, any_segment && !any_landmark};
}

/// One document: header modules, root of TID 1500 and its observation context; the caller hangs content below.
class Document {
public:
    Document(const OutputContext& context, const std::string& kind, const std::string& title, int series_number)
        : context_(context), writer_(context) {
        file_.kind = "SR";
        file_.sop_class_uid = UID_Comprehensive3DSRStorage;
        file_.sop_instance_uid = context.uid({"SR", kind});
        context.begin(dataset_, {file_.sop_class_uid, file_.sop_instance_uid, context.uid({"series", "SR", kind}), "SR",
                                 series_number, title});
        dataset_.insert(new DcmSequenceOfItems(DCM_ReferencedPerformedProcedureStepSequence), OFTrue);
        dataset_.insert(new DcmSequenceOfItems(DCM_PerformedProcedureCodeSequence), OFTrue);
        put(dataset_, DCM_PreliminaryFlag, "PRELIMINARY");
        put(dataset_, DCM_CompletionFlag, "COMPLETE");
        put(dataset_, DCM_VerificationFlag, "UNVERIFIED");
        put_evidence();
        put_context();
    }

    ContentWriter& writer() { return writer_; }
    /// The containers are made on first use, in the order of TID 1500: measurements come before evaluations.
    DcmItem& measurements() {
        if (measurements_ == nullptr) measurements_ = &writer_.container(dataset_, kMeasurements);
        return *measurements_;
    }
    void evaluate(const Code& name, const std::string& text) { evaluations_.emplace_back(name, text); }

    /// The instances of a SEG join the evidence.
    void refer_to(const WrittenSeg& seg) {
        DcmItem*& series = series_[seg.series_instance_uid];
        if (series == nullptr) {
            series = &append_item(*study_, DCM_ReferencedSeriesSequence);
            put(*series, DCM_SeriesInstanceUID, seg.series_instance_uid);
        }
        DcmItem& instance = append_item(*series, DCM_ReferencedSOPSequence);
        put(instance, DCM_ReferencedSOPClassUID, seg.file.sop_class_uid);
        put(instance, DCM_ReferencedSOPInstanceUID, seg.file.sop_instance_uid);
    }

    DcmItem& group(const std::string& template_id, const std::string& identifier, const std::string& tracking_uid,
                   const Code& category, const Code& finding) {
        DcmItem& item = writer_.container(measurements(), kGroup, template_id);
        writer_.text(item, Relation::HasObservationContext, kTrackingIdentifier, identifier);
        writer_.uid(item, Relation::HasObservationContext, kTrackingUid, tracking_uid);
        writer_.code(item, Relation::Contains, kFindingCategory, category);
        writer_.code(item, Relation::Contains, kFinding, finding);
        return item;
    }
    void algorithm(DcmItem& item) {
        writer_.text(item, Relation::HasConceptModifier, kAlgorithmName, context_.findings.model.name);
        writer_.text(item, Relation::HasConceptModifier, kAlgorithmVersion, context_.algorithm_version());
        writer_.code(item, Relation::HasConceptModifier, kAlgorithmFamily, kArtificialIntelligence);
    }

    Result<OutputFile> save(const std::filesystem::path& file) {
        DcmItem& evaluations = writer_.container(dataset_, kEvaluations);
        for (const auto& [name, text] : evaluations_) writer_.text(evaluations, Relation::Contains, name, text);
        context_.put_coding_schemes(dataset_, writer_.codes());
        file_.file = file.string();
        auto saved = dicom::save(dataset_, context_.request.work_folder / file);
        if (!saved) return std::move(saved).error().in("writing " + file.filename().string());
        return file_;
    }

private:
    void put_evidence() {
        study_ = &append_item(dataset_, DCM_CurrentRequestedProcedureEvidenceSequence);
        put(*study_, DCM_StudyInstanceUID, context_.source.study_instance_uid);
        DcmItem& series = append_item(*study_, DCM_ReferencedSeriesSequence);
        put(series, DCM_SeriesInstanceUID, context_.source.series_instance_uid);
        context_.append_source_instances(series, DCM_ReferencedSOPSequence);
    }

    void put_context() {
        const OutputRequest& request = context_.request;
        const std::string device = request.device_name.empty() ? "CARDIONODE" : request.device_name;
        const std::string maker = request.settings.manufacturer.empty() ? "cardionode" : request.settings.manufacturer;
        constexpr auto kContext = Relation::HasObservationContext;
        writer_.root(dataset_, kReport, "1500");
        writer_.code(dataset_, Relation::HasConceptModifier,
                     {"121049", "DCM", "Language of Content Item and Descendants"},
                     {"en-US", "RFC5646", "English (United States)"});
        writer_.code(dataset_, kContext, {"121005", "DCM", "Observer Type"}, {"121007", "DCM", "Device"});
        writer_.uid(dataset_, kContext, {"121012", "DCM", "Device Observer UID"},
                    derive_uid({"cardionode", "device", maker, device}));
        writer_.text(dataset_, kContext, {"121013", "DCM", "Device Observer Name"}, device);
        writer_.text(dataset_, kContext, {"121014", "DCM", "Device Observer Manufacturer"}, maker);
        writer_.text(dataset_, kContext, {"121015", "DCM", "Device Observer Model Name"}, "cardionode");
        writer_.text(dataset_, kContext, {"121016", "DCM", "Device Observer Serial Number"},
                     context_.findings.model.sha256.substr(0, 16));
        writer_.code(dataset_, Relation::HasConceptModifier, {"121058", "DCM", "Procedure reported"},
                     {"25045-6", "LN", "CT unspecified body region"});
    }

    const OutputContext& context_;
    DcmDataset dataset_;
    ContentWriter writer_;
    OutputFile file_;
    DcmItem* study_ = nullptr;
    DcmItem* measurements_ = nullptr;
    std::map<std::string, DcmItem*> series_;
    std::vector<std::pair<Code, std::string>> evaluations_;
};

std::string without_value(const Measurement& measurement) {
    return fmt::format("{}: not measured{}{}", measurement.title, measurement.reason.empty() ? "" : ": ",
                       measurement.reason);
}

void evaluate_texts(const OutputContext& context, Document& document, std::span<const WrittenSeg> segs,
                    bool about_segments) {
    for (const Measurement& measurement : context.findings.measurements) {
        const Home home = home_of(measurement, context.findings, segs);
        if (home.place != Home::Place::Text || home.about_segments != about_segments) continue;
        document.evaluate(measurement.concept_name,
                          measurement.value
                              ? fmt::format("{}: {} {}", measurement.title, dicom::decimal_string(*measurement.value),
                                            measurement.unit.value)
                              : without_value(measurement));
    }
}

/// The uncertainties of one document's numbers, as one text: PixelMed's validator takes the property that TID 310 has
/// for them (371884006 SCT) for a wrong relationship of TID 300.
void evaluate_uncertainties(const OutputContext& context, Document& document, std::span<const WrittenSeg> segs,
                            bool about_segments) {
    std::string text;
    for (const Measurement& measurement : context.findings.measurements) {
        if (!measurement.value || !measurement.uncertainty) continue;
        const Home home = home_of(measurement, context.findings, segs);
        if (home.about_segments != about_segments) continue;
        text += fmt::format("{}{} {:.{}f} {}", text.empty() ? "" : "; ", measurement.title, *measurement.uncertainty,
                            *measurement.uncertainty < 1 ? 3 : 1, measurement.unit.value);
    }
    if (!text.empty()) document.evaluate(kComment, "Uncertainty, one standard deviation: " + text);
}

void evaluate_missing_segments(const OutputContext& context, Document& document, std::span<const WrittenSeg> segs) {
    for (const SegmentGroup& group : context.findings.groups) {
        for (const Segment& segment : group.segments) {
            const bool found = std::any_of(segs.begin(), segs.end(), [&](const WrittenSeg& seg) {
                return std::any_of(seg.segments.begin(), seg.segments.end(),
                                   [&](const WrittenSegment& w) { return w.segment == &segment; });
            });
            if (!found) document.evaluate(segment.type, segment.title + ": not found");
        }
    }
}

Result<OutputFile> write_landmarks(const OutputContext& context, const std::filesystem::path& folder,
                                   std::span<const WrittenSeg> segs) {
    Document document(context, "landmarks", "Landmarks and measurements (research)", 9201);
    ContentWriter& writer = document.writer();
    for (const Landmark& landmark : context.findings.landmarks) {
        if (!landmark.position) {
            document.evaluate(landmark.finding,
                              fmt::format("{}: not found (peak probability {:.2f}){}{}", landmark.title,
                                          landmark.confidence, landmark.reason.empty() ? "" : ": ", landmark.reason));
            continue;
        }
        if (!context.source.volume.grid.nearest_voxel(*landmark.position)) {
            return bug_error("landmark " + landmark.name + " lies outside the volume");
        }
        DcmItem& group = document.group("1410", landmark.title, context.tracking_uid(landmark.name),
                                        kAnatomicalStructure, landmark.finding);
        writer.code(group, Relation::HasConceptModifier, kFindingSite, landmark.finding_site);
        document.algorithm(group);
        // Each number names the points it is inferred from, the group's own first. That says what an annulus area rests
        // on, and OHIF needs it: it looks for a group's coordinates below the group's first number, if there is one.
        // In percent, because viewers print number and unit beside the point.
        DcmItem& probability =
            writer.number(group, {"peak-probability", std::string(kPrivateScheme), "Peak probability of the network"},
                          landmark.confidence * 100, {"%", "UCUM", "Percent"});
        writer.point(probability, Relation::InferredFrom, kSourceOfMeasurement, *landmark.position);
        for (const Measurement& measurement : context.findings.measurements) {
            const Home home = home_of(measurement, context.findings, segs);
            if (home.place != Home::Place::Landmark || home.name != landmark.name) continue;
            DcmItem& number = writer.number(group, measurement.concept_name, *measurement.value, measurement.unit);
            writer.point(number, Relation::InferredFrom, kSourceOfMeasurement, *landmark.position);
            for (const std::string& name : split(measurement.rests_on)) {
                const Landmark* other = context.findings.landmark(name);
                if (other == nullptr || other == &landmark || !other->position) continue;
                writer.point(number, Relation::InferredFrom, kSourceOfMeasurement, *other->position);
            }
        }
        writer.point(group, Relation::Contains, kImageRegion, *landmark.position);
        writer.text(group, Relation::Contains, kComment, landmark.title);  // the name under which OHIF lists it
    }
    evaluate_texts(context, document, segs, false);
    if (segs.empty()) {  // there will be no volume document
        evaluate_missing_segments(context, document, segs);
        evaluate_texts(context, document, segs, true);
        evaluate_uncertainties(context, document, segs, true);
    }
    evaluate_uncertainties(context, document, segs, false);
    for (const std::string& warning : context.findings.warnings) document.evaluate(kComment, warning);
    document.evaluate(kComment,
                      "Research use only. Automatic result of a neural network, not verified by a physician." +
                          context.revision_note());
    return document.save(folder / "sr_landmarks.dcm");
}

Result<OutputFile> write_volumes(const OutputContext& context, const std::filesystem::path& folder,
                                 std::span<const WrittenSeg> segs) {
    Document document(context, "volumes", "Segment volumes (research)", 9202);
    ContentWriter& writer = document.writer();
    const double voxel_ml = context.source.volume.grid.voxel_volume_mm3() / 1000;
    for (const WrittenSeg& seg : segs) {
        document.refer_to(seg);
        for (const WrittenSegment& written : seg.segments) {
            const Segment& segment = *written.segment;
            const std::string key = written.group->name + "/" + segment.name;
            DcmItem& group =
                document.group("1411", written.label, context.tracking_uid(key), segment.category, segment.type);
            const double measured = static_cast<double>(written.voxels) * voxel_ml;
            // TID 1411 names the algorithm with each number, TID 1410 once for the group.
            document.algorithm(writer.number(
                group, kVolume, written.parts == 1 ? segment.volume_ml.value_or(measured) : measured, kMillilitre));
            for (const Measurement& measurement : context.findings.measurements) {
                const Home home = home_of(measurement, context.findings, segs);
                if (home.place == Home::Place::Segment && home.name == key && written.part == 1) {
                    document.algorithm(
                        writer.number(group, measurement.concept_name, *measurement.value, measurement.unit));
                }
            }
            writer.segment(group, kReferencedSegment, seg.file, written.number);
            writer.uid(group, Relation::Contains, kSourceSeries, context.source.series_instance_uid);
            if (written.parts > 1 && written.part == 1 && segment.volume_ml) {
                document.evaluate(kComment, fmt::format("{}: {:.1f} ml in all {} parts", segment.title,
                                                        *segment.volume_ml, written.parts));
            }
        }
    }
    evaluate_missing_segments(context, document, segs);
    evaluate_texts(context, document, segs, true);
    evaluate_uncertainties(context, document, segs, true);
    document.evaluate(kComment,
                      "Research use only. Automatic result of a neural network, not verified by a physician." +
                          context.revision_note());
    return document.save(folder / "sr_volumes.dcm");
}

}  // namespace

Result<std::vector<OutputFile>> write_srs(const OutputContext& context, const std::filesystem::path& folder,
                                          std::span<const WrittenSeg> segs, std::vector<std::string>& notes) {
    std::vector<OutputFile> files;
    auto landmarks = write_landmarks(context, folder, segs);
    if (!landmarks) return std::move(landmarks).error();
    files.push_back(*landmarks);
    if (segs.empty()) {
        notes.push_back("no structure was found: no SEG and no volume SR written");
        return files;
    }
    auto volumes = write_volumes(context, folder, segs);
    if (!volumes) return std::move(volumes).error();
    files.push_back(*volumes);
    return files;
}

}  // namespace cardionode
