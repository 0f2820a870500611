#include "pipeline/outputs/content.h"

#include <array>

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>

namespace cardionode {
namespace {

using dicom::append_item;
using dicom::put;

const char* to_string(Relation relation) {
    switch (relation) {
        case Relation::Contains: return "CONTAINS";
        case Relation::HasObservationContext: return "HAS OBS CONTEXT";
        case Relation::HasConceptModifier: return "HAS CONCEPT MOD";
        case Relation::InferredFrom: return "INFERRED FROM";
    }
    return "CONTAINS";
}

void put_template(DcmItem& item, const std::string& template_id) {
    if (template_id.empty()) return;
    DcmItem& entry = append_item(item, DCM_ContentTemplateSequence);
    put(entry, DCM_MappingResource, "DCMR");
    put(entry, DCM_TemplateIdentifier, template_id);
}

}  // namespace

void ContentWriter::append(DcmItem& item, const DcmTagKey& sequence, const Code& code) {
    codes_.push_back(code);
    dicom::append_code(item, sequence, context_.code(code));
}

DcmItem& ContentWriter::item(DcmItem& parent, Relation relation, const char* value_type, const Code& name) {
    DcmItem& child = append_item(parent, DCM_ContentSequence);
    put(child, DCM_RelationshipType, to_string(relation));
    put(child, DCM_ValueType, value_type);
    append(child, DCM_ConceptNameCodeSequence, name);
    return child;
}

void ContentWriter::root(DcmItem& dataset, const Code& title, const std::string& template_id) {
    put(dataset, DCM_ValueType, "CONTAINER");
    append(dataset, DCM_ConceptNameCodeSequence, title);
    put(dataset, DCM_ContinuityOfContent, "SEPARATE");
    put_template(dataset, template_id);
}

DcmItem& ContentWriter::container(DcmItem& parent, const Code& name, const std::string& template_id) {
    DcmItem& child = item(parent, Relation::Contains, "CONTAINER", name);
    put(child, DCM_ContinuityOfContent, "SEPARATE");
    put_template(child, template_id);
    return child;
}

DcmItem& ContentWriter::code(DcmItem& parent, Relation relation, const Code& name, const Code& value) {
    DcmItem& child = item(parent, relation, "CODE", name);
    append(child, DCM_ConceptCodeSequence, value);
    return child;
}

DcmItem& ContentWriter::text(DcmItem& parent, Relation relation, const Code& name, const std::string& value) {
    DcmItem& child = item(parent, relation, "TEXT", name);
    put(child, DCM_TextValue, context_.text(value));
    return child;
}

void ContentWriter::uid(DcmItem& parent, Relation relation, const Code& name, const std::string& value) {
    put(item(parent, relation, "UIDREF", name), DCM_UID, value);
}

DcmItem& ContentWriter::number(DcmItem& parent, const Code& name, double value, const Code& unit) {
    DcmItem& child = item(parent, Relation::Contains, "NUM", name);
    DcmItem& measured = append_item(child, DCM_MeasuredValueSequence);
    put(measured, DCM_NumericValue, dicom::decimal_string(value));
    append(measured, DCM_MeasurementUnitsCodeSequence, unit);
    return child;
}

void ContentWriter::point(DcmItem& parent, Relation relation, const Code& name, const PatientPoint& position) {
    DcmItem& child = item(parent, relation, "SCOORD3D", name);
    std::array<Float32, 3> xyz{};
    for (std::size_t a = 0; a < 3; ++a) xyz[a] = static_cast<Float32>(position.lps_mm[a]);
    if (child.putAndInsertFloat32Array(DCM_GraphicData, xyz.data(), 3).bad()) {
        throw std::logic_error("cannot write graphic data");
    }
    put(child, DCM_GraphicType, "POINT");
    put(child, DCM_ReferencedFrameOfReferenceUID, context_.source.frame_of_reference_uid);
}

void ContentWriter::segment(DcmItem& parent, const Code& name, const OutputFile& seg, std::uint16_t number) {
    DcmItem& reference = append_item(item(parent, Relation::Contains, "IMAGE", name), DCM_ReferencedSOPSequence);
    put(reference, DCM_ReferencedSOPClassUID, seg.sop_class_uid);
    put(reference, DCM_ReferencedSOPInstanceUID, seg.sop_instance_uid);
    dicom::put_us(reference, DCM_ReferencedSegmentNumber, number);
}

}  // namespace cardionode
