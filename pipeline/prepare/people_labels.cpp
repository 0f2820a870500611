#include "pipeline/prepare/people_labels.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "pipeline/read/annotation.h"

namespace cardionode {
namespace {

using Author = AnnotationFacts::Author;

/// "person", "correction", or empty: nobody's.
std::string author_of(const AnnotationFacts& facts, const std::set<std::string>& own_outputs) {
    if (own_outputs.contains(facts.sop_instance_uid)) return {};
    const bool ours = std::any_of(facts.refers_to.begin(), facts.refers_to.end(),
                                  [&](const std::string& uid) { return own_outputs.contains(uid); });
    // Another run of this program may refer to an output as well (an SR to its SEGs).
    const bool by_a_node = facts.software.find("cardionode") != std::string::npos;
    if (facts.author == Author::Person || facts.verified) return ours ? "correction" : "person";
    return ours && !by_a_node ? "correction" : "";
}

bool same(const std::string& a, const std::string& b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](unsigned char x, unsigned char y) {
               return std::tolower(x) == std::tolower(y);
           });
}

/// The class that a code or a label means.
const ClassManifest* class_for(const HeadManifest& head, const Code& code, const std::string& label) {
    for (const ClassManifest& c : head.classes) {
        if (!code.value.empty() && c.code.value == code.value && c.code.scheme == code.scheme) return &c;
    }
    for (const ClassManifest& c : head.classes) {
        if (!label.empty() && (same(c.name, label) || same(c.title, label))) return &c;
    }
    return nullptr;
}

struct Object {
    std::string author;
    const AnnotationFacts* facts = nullptr;
    std::size_t index = 0;
    bool segmentation = false;
};

LabelOrigin origin_of(const std::string& head, const std::string& kind, const Object& object) {
    return {head, kind, object.facts->sop_class_uid, object.author, object.facts->software, object.facts->made_at};
}

std::string what(const std::string& kind, const AnnotationFacts& facts) {
    return kind + (facts.made_at.empty() ? "" : " of " + facts.made_at.substr(0, 8)) + " by " + facts.software;
}

}  // namespace

Result<PeopleLabels> read_people_labels(const std::vector<StudyFile>& files, const CtSeries& ct,
                                        const std::vector<HeadManifest>& heads,
                                        const std::set<std::string>& own_outputs, const ReadLimits& limits) {
    PeopleLabels out;
    std::vector<Segmentation> segmentations;
    std::vector<PointReport> reports;
    const auto unusable = [&](const Error& error) {
        out.remarks.push_back(error.message);
        return error.kind == ErrorKind::Retry;
    };
    for (const StudyFile& file : files) {
        if (is_segmentation(file.sop_class_uid)) {
            auto seg = Segmentation::open(file.file, limits.max_file_bytes);
            if (seg) segmentations.push_back(*std::move(seg));
            else if (unusable(seg.error())) return std::move(seg).error();
        } else if (is_report(file.sop_class_uid)) {
            auto report = read_report(file.file, limits.max_file_bytes);
            if (report) reports.push_back(*std::move(report));
            else if (unusable(report.error())) return std::move(report).error();
        }
    }
    std::vector<Object> objects;
    const auto consider = [&](const AnnotationFacts& facts, std::size_t index, bool segmentation) {
        const std::string author = author_of(facts, own_outputs);
        if (author.empty()) return;
        if (facts.frame_of_reference_uid != ct.frame_of_reference_uid) {
            out.remarks.push_back(what(segmentation ? "SEG" : "SR", facts) + " belongs to other images: left out");
            return;
        }
        objects.push_back({author, &facts, index, segmentation});
    };
    for (std::size_t i = 0; i < segmentations.size(); ++i) consider(segmentations[i].facts(), i, true);
    for (std::size_t i = 0; i < reports.size(); ++i) consider(reports[i].facts, i, false);
    std::stable_sort(objects.begin(), objects.end(),
                     [](const Object& a, const Object& b) { return a.facts->made_at > b.facts->made_at; });

    for (const HeadManifest& head : heads) {
        std::optional<std::string> partial;
        for (const Object& object : objects) {
            std::set<int> marked;
            if (head.kind == "points" && !object.segmentation) {
                std::vector<LabelPoint> points;
                for (const MarkedPoint& point : reports[object.index].points) {
                    const ClassManifest* c = class_for(head, point.finding, point.label);
                    if (c != nullptr && marked.insert(c->value).second) points.push_back({c->value, point.at});
                }
                if (marked.size() == head.classes.size()) {
                    out.labels.points[head.name] = std::move(points);
                    out.origins.push_back(origin_of(head.name, "SR", object));
                }
            } else if (head.kind == "labels" && object.segmentation) {
                const Segmentation& seg = segmentations[object.index];
                LabelMap map(ct.volume.grid, std::uint8_t{0});
                Result<void> painted;
                for (const MarkedSegment& segment : seg.segments()) {
                    const ClassManifest* c = class_for(head, segment.type, segment.label);
                    if (c == nullptr || !painted) continue;
                    painted = seg.paint(segment.number, static_cast<std::uint8_t>(c->value), map);
                    marked.insert(c->value);
                }
                if (!painted) {
                    out.remarks.push_back(what("SEG", seg.facts()) + ": " + painted.error().message);
                    continue;
                }
                if (marked.size() == head.classes.size()) {
                    out.labels.maps.emplace(head.name, std::move(map));
                    out.origins.push_back(origin_of(head.name, "SEG", object));
                }
            }
            if (!marked.empty() && marked.size() == head.classes.size()) {
                partial.reset();
                break;
            }
            if (!marked.empty() && !partial)
                partial = fmt::format("{} marks {} of {} of {}: left out",
                                      what(object.segmentation ? "SEG" : "SR", *object.facts), marked.size(),
                                      head.classes.size(), head.name);
        }
        if (partial) out.remarks.push_back(*partial);
    }
    return out;
}

}  // namespace cardionode
