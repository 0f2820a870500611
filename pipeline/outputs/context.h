// What every output of one study shares: the source, the findings, stable UIDs, and the modules that are inherited.
//
// Used inside pipeline/outputs only. Thread safety: belongs to one thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/outputs/dicom_write.h"
#include "pipeline/outputs/outputs.h"
#include "pipeline/outputs/source_header.h"

class DcmDataset;
class DcmItem;
class DcmTagKey;

namespace cardionode {

inline constexpr std::string_view kPrivateScheme =
    "99CARDIONODE";  ///< codes that no standard has, declared in (0008,0110)

/// What an object is, for the modules that all share.
struct ObjectIdentity {
    std::string sop_class_uid;
    std::string sop_instance_uid;
    std::string series_instance_uid;
    std::string modality;
    int series_number = 0;
    std::string series_description;
    int instance_number = 1;
};

class OutputContext {
public:
    /// All three must outlive this. The header belongs to `source`.
    OutputContext(const CtSeries& source, const Findings& findings, const OutputRequest& request, SourceHeader header);

    const CtSeries& source;
    const Findings& findings;
    const OutputRequest& request;
    const SourceHeader header;

    /// A UID that depends on study, revision and model, and on `parts`.
    std::string uid(std::initializer_list<std::string_view> parts) const;
    /// The Tracking UID of a structure or landmark: the same thing keeps it through revisions and models.
    std::string tracking_uid(std::string_view name) const;

    /// Our own UTF-8 text in the character set of the outputs, which is the source's. What the set lacks becomes '?'.
    std::string text(const std::string& utf8) const;
    Code code(const Code& utf8) const;
    /// "cardionode 0.1.0", the bundle and its version, the first digits of the weights' hash.
    std::vector<std::string> software_versions() const;
    std::string algorithm_name() const { return text(findings.model.name); }
    std::string algorithm_version() const;
    /// " (revision 2, replaces revision 1)", empty for revision 1.
    std::string revision_note() const;
    std::string content_date() const;
    std::string content_time() const;

    /// SOP Common, Patient, Patient Study, General Study, Series, Equipment and Contributing Equipment. Inherited
    /// values are cleaned: an element whose value is not allowed is left out or, for type 2, empty; code sequences lose
    /// items without a code. Patient's name and ID, study UID, study ID and accession number are never altered.
    void begin(DcmDataset& dataset, const ObjectIdentity& identity) const;
    /// Frame of Reference module.
    void put_frame_of_reference(DcmItem& dataset) const;
    /// (0008,0110) for each private scheme ("99...") among `codes`; nothing when there is none.
    void put_coding_schemes(DcmItem& dataset, const std::vector<Code>& codes) const;
    /// Appends Referenced SOP Class and Instance UID of each source instance, once, to `sequence`.
    void append_source_instances(DcmItem& parent, const DcmTagKey& sequence) const;

private:
    void put_equipment(DcmItem& dataset) const;
    std::string character_set_;
    int minutes_from_utc_ = 0;
};

}  // namespace cardionode
