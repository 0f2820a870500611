#include "pipeline/outputs/context.h"

#include <algorithm>
#include <cctype>
#include <ctime>
#include <set>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dcspchrs.h>
#include <dcmtk/dcmdata/dctk.h>
#include <fmt/format.h>

#include "pipeline/outputs/inherit.h"
#include "scp/dicom/uid.h"

namespace cardionode {
namespace {

using dicom::put;
using dicom::put_short_text;

std::string ascii_only(const std::string& utf8) {
    std::string out;
    for (const char c : utf8) {
        const auto u = static_cast<unsigned char>(c);
        if (u < 0x80) out += c;
        else if ((u & 0xC0U) == 0xC0U) out += '?';
    }
    return out;
}

/// Content dates stand beside study dates, which are in the hospital's time: the source's zone, else this machine's.
int minutes_from_utc(DcmItem& source, Moment moment) {
    const std::string zone = clean_value(source, DCM_TimezoneOffsetFromUTC);
    if (zone.size() == 5 && (zone[0] == '+' || zone[0] == '-') &&
        std::all_of(zone.begin() + 1, zone.end(), ::isdigit)) {
        const int minutes = std::stoi(zone.substr(1, 2)) * 60 + std::stoi(zone.substr(3, 2));
        return zone[0] == '-' ? -minutes : minutes;
    }
    const std::time_t seconds = std::chrono::floor<std::chrono::seconds>(moment).time_since_epoch().count();
    std::tm local{};
    localtime_r(&seconds, &local);
    return static_cast<int>(local.tm_gmtoff / 60);
}

}  // namespace

OutputContext::OutputContext(const CtSeries& s, const Findings& f, const OutputRequest& r, SourceHeader h)
    : source(s), findings(f), request(r), header(std::move(h)) {
    character_set_ = usable_character_set(header.first());
    minutes_from_utc_ = minutes_from_utc(header.first(), request.moment);
}

std::string OutputContext::uid(std::initializer_list<std::string_view> parts) const {
    std::string joined;
    for (const std::string_view part : parts) joined += fmt::format("{}:{}", part.size(), part);
    return derive_uid({"cardionode", source.study_instance_uid, source.series_instance_uid,
                       std::to_string(request.revision), findings.model.name, findings.model.version,
                       findings.model.sha256, joined});
}

std::string OutputContext::tracking_uid(std::string_view name) const {
    return derive_uid({"cardionode", source.study_instance_uid, "tracking", name});
}

std::string OutputContext::text(const std::string& utf8) const {
    const bool ascii =
        std::all_of(utf8.begin(), utf8.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
    if (ascii || character_set_ == "ISO_IR 192") return utf8;
    DcmSpecificCharacterSet converter;
    OFString converted;
    if (!character_set_.empty() && character_set_.find('\\') == std::string::npos &&
        converter.selectCharacterSet("ISO_IR 192", character_set_.c_str()).good() &&
        converter.convertString(OFString(utf8.data(), utf8.size()), converted).good()) {
        return {converted.data(), converted.size()};
    }
    return ascii_only(utf8);
}

Code OutputContext::code(const Code& utf8) const { return {text(utf8.value), text(utf8.scheme), text(utf8.meaning)}; }

std::vector<std::string> OutputContext::software_versions() const {
    return {text("cardionode " + request.software_version), text(findings.model.name + " " + findings.model.version),
            text("weights " + findings.model.sha256.substr(0, 16))};
}

std::string OutputContext::algorithm_version() const {
    return findings.model.version.empty() ? "unknown" : text(findings.model.version);
}

std::string OutputContext::revision_note() const {
    if (request.revision <= 1) return {};
    return fmt::format(" (revision {}, replaces {})", request.revision, request.revision - 1);
}

std::string OutputContext::content_date() const {
    return to_dicom_date(request.moment + std::chrono::minutes(minutes_from_utc_));
}

std::string OutputContext::content_time() const {
    return to_dicom_time(request.moment + std::chrono::minutes(minutes_from_utc_));
}

void OutputContext::begin(DcmDataset& dataset, const ObjectIdentity& identity) const {
    if (!character_set_.empty()) put(dataset, DCM_SpecificCharacterSet, character_set_);
    put(dataset, DCM_SOPClassUID, identity.sop_class_uid);
    put(dataset, DCM_SOPInstanceUID, identity.sop_instance_uid);
    put(dataset, DCM_InstanceCreationDate, content_date());
    put(dataset, DCM_InstanceCreationTime, content_time());
    put(dataset, DCM_ContentDate, content_date());
    put(dataset, DCM_ContentTime, content_time());
    inherit_patient_and_study(header.first(), dataset);
    put(dataset, DCM_StudyInstanceUID, source.study_instance_uid);
    put(dataset, DCM_SeriesInstanceUID, identity.series_instance_uid);
    put(dataset, DCM_Modality, identity.modality);
    put(dataset, DCM_SeriesNumber, std::to_string(identity.series_number));
    put(dataset, DCM_InstanceNumber, std::to_string(identity.instance_number));
    put(dataset, DCM_SeriesDate, content_date());
    put(dataset, DCM_SeriesTime, content_time());
    put_short_text(dataset, DCM_SeriesDescription, text(identity.series_description + revision_note()));
    put_equipment(dataset);
}

void OutputContext::put_equipment(DcmItem& dataset) const {
    const auto describe = [&](DcmItem& item) {
        const std::string maker = request.settings.manufacturer;
        put_short_text(item, DCM_Manufacturer, text(maker.empty() ? "cardionode" : maker));
        const std::string institution = request.settings.institution.empty()
                                            ? clean_value(header.first(), DCM_InstitutionName)
                                            : text(request.settings.institution);
        if (!institution.empty()) put_short_text(item, DCM_InstitutionName, institution);
        put_short_text(item, DCM_ManufacturerModelName, "cardionode");
        // The "device" is program and weights together: the hash tells two of them apart.
        put_short_text(item, DCM_DeviceSerialNumber, text(findings.model.sha256.substr(0, 16)));
        std::string versions;
        for (const std::string& version : software_versions()) {
            if (!versions.empty()) versions += '\\';
            versions += version.substr(0, 64);
        }
        put(item, DCM_SoftwareVersions, versions);
    };
    describe(dataset);

    DcmItem& scanner = header.first();
    const std::string maker = clean_value(scanner, DCM_Manufacturer);
    if (!maker.empty()) {
        DcmItem& item = dicom::append_item(dataset, DCM_ContributingEquipmentSequence);
        put(item, DCM_Manufacturer, maker);
        for (const DcmTagKey& tag : {DCM_InstitutionName, DCM_StationName, DCM_ManufacturerModelName,
                                     DCM_DeviceSerialNumber, DCM_SoftwareVersions}) {
            if (const std::string value = clean_value(scanner, tag); !value.empty()) put(item, tag, value);
        }
        dicom::append_code(item, DCM_PurposeOfReferenceCodeSequence, {"109101", "DCM", "Acquisition Equipment"});
    }
    DcmItem& item = dicom::append_item(dataset, DCM_ContributingEquipmentSequence);
    describe(item);
    const int offset = std::abs(minutes_from_utc_);
    put(item, DCM_ContributionDateTime,
        fmt::format("{}{}{}{:02}{:02}", content_date(), content_time(), minutes_from_utc_ < 0 ? '-' : '+', offset / 60,
                    offset % 60));
    put_short_text(item, DCM_ContributionDescription, "Automatic analysis of cardiac CT, research use only");
    dicom::append_code(item, DCM_PurposeOfReferenceCodeSequence, {"109102", "DCM", "Processing Equipment"});
}

void OutputContext::put_frame_of_reference(DcmItem& dataset) const {
    put(dataset, DCM_FrameOfReferenceUID, source.frame_of_reference_uid);
    put(dataset, DCM_PositionReferenceIndicator, clean_value(header.first(), DCM_PositionReferenceIndicator));
}

void OutputContext::put_coding_schemes(DcmItem& dataset, const std::vector<Code>& codes) const {
    std::set<std::string> schemes;
    for (const Code& code : codes) {
        if (code.scheme.starts_with("99")) schemes.insert(code.scheme);
    }
    for (const std::string& scheme : schemes) {
        DcmItem& item = dicom::append_item(dataset, DCM_CodingSchemeIdentificationSequence);
        put_short_text(item, DCM_CodingSchemeDesignator, scheme);
        put(item, DCM_CodingSchemeUID, derive_uid({"coding scheme", scheme}));
        put_short_text(item, DCM_CodingSchemeName, "Private codes of " + scheme.substr(2));
        put_short_text(item, DCM_CodingSchemeResponsibleOrganization,
                       text(request.settings.manufacturer.empty() ? "cardionode" : request.settings.manufacturer));
    }
}

void OutputContext::append_source_instances(DcmItem& parent, const DcmTagKey& sequence) const {
    std::set<std::string_view> seen;  // the frames of an Enhanced CT are one instance
    for (const SourceSlice& slice : source.slices) {
        if (!seen.insert(slice.sop_instance_uid).second) continue;
        DcmItem& item = dicom::append_item(parent, sequence);
        put(item, DCM_ReferencedSOPClassUID, slice.sop_class_uid);
        put(item, DCM_ReferencedSOPInstanceUID, slice.sop_instance_uid);
    }
}

}  // namespace cardionode
